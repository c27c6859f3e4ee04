"""How captured points and meshes look in Blender: the colours they carry, as they are."""

from __future__ import annotations

import bpy

from . import compat

COLOR_ATTRIBUTE = "Col"  # what Blender's PLY import calls vertex colours


def vertex_color_material():
    """The material that shows vertex colours as they are.

    It is emission, because the light of the capture is in them already.
    """
    material = next((m for m in bpy.data.materials if m.get("in2n_vertex_colors") and m.library is None), None)
    if material is not None:
        return material
    material = bpy.data.materials.new("IN2N Colors")
    material["in2n_vertex_colors"] = True
    tree = compat.material_nodes(material)
    tree.nodes.clear()
    color = tree.nodes.new("ShaderNodeVertexColor")
    color.layer_name = COLOR_ATTRIBUTE
    emission = tree.nodes.new("ShaderNodeEmission")
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    color.location, emission.location, output.location = (-400, 0), (-200, 0), (0, 0)
    tree.links.new(color.outputs["Color"], emission.inputs["Color"])
    tree.links.new(emission.outputs["Emission"], output.inputs["Surface"])
    return material


def show_as_points(mesh_object, radius: float) -> None:
    """Draw a mesh's vertices as coloured discs, by a Geometry Nodes modifier that can be removed.

    Args:
        mesh_object: The object, which has a colour attribute.
        radius: Of the discs, in the object's units.
    """
    modifier = mesh_object.modifiers.new("Points", "NODES")
    modifier.node_group = _points_group(radius)


def _points_group(radius: float):
    group = bpy.data.node_groups.new("IN2N points", "GeometryNodeTree")
    group.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    group.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    nodes = [
        group.nodes.new(kind)
        for kind in ("NodeGroupInput", "GeometryNodeMeshToPoints", "GeometryNodeSetMaterial", "NodeGroupOutput")
    ]
    for index, node in enumerate(nodes):
        node.location = (200 * index, 0)
    _entry, points, material, _exit = nodes
    points.inputs["Radius"].default_value = radius
    material.inputs["Material"].default_value = vertex_color_material()
    for first, second in zip(nodes, nodes[1:]):
        group.links.new(first.outputs[0], second.inputs[0])
    return group
