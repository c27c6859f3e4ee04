"""Everything that differs between Blender 4.2 and 5.2, in one place."""

from __future__ import annotations

import bpy


def material_nodes(material):
    """The material's node tree. From 5.0 on a material always has one, and `use_nodes` is deprecated."""
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    return material.node_tree
