"""Registering everything Blender must know of, and taking it back."""

from __future__ import annotations

import bpy

from . import command, panels, preferences, properties, workspaces
from .operators import capture, edit, engine, job, mesh, reconstruct, render

# Property groups come before the classes that hold them.
CLASSES = (
    *properties.CLASSES,
    *preferences.CLASSES,
    *capture.CLASSES,
    *job.CLASSES,
    *engine.CLASSES,
    *reconstruct.CLASSES,
    *edit.CLASSES,
    *render.CLASSES,
    *mesh.CLASSES,
    *panels.CLASSES,
)


def register() -> None:
    """Register all classes, properties and menu entries; when one fails, everything done so far is taken back."""
    undo = []
    try:
        for cls in CLASSES:
            bpy.utils.register_class(cls)
            undo.append(lambda cls=cls: bpy.utils.unregister_class(cls))
        properties.attach()
        undo.append(properties.detach)
        for module in (capture, workspaces, job, command):
            module.attach()
            undo.append(module.detach)
    except Exception:
        for step in reversed(undo):
            step()
        raise


def unregister() -> None:
    """Stop a running job and the worker, then take everything back in reverse order."""
    job.shut_down()
    command.detach()
    job.detach()
    workspaces.detach()
    capture.detach()
    properties.detach()
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
