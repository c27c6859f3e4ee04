"""Registering everything Blender must know of, and taking it back."""

from __future__ import annotations

import bpy

from . import (
    arriving,
    command,
    compositing,
    engine,
    jobs,
    links,
    live,
    machines,
    panels,
    paths,
    photos,
    pictures,
    preferences_page,
    preview_cells,
    properties,
    render_engine,
    render_worker,
    storage,
    translations,
    workspaces,
)
from .operators import (
    capture,
    colour,
    composite,
    edit,
    edits,
    explaining,
    installation,
    job,
    load,
    mesh,
    outputs,
    placement,
    presets,
    preview,
    reconstruct,
    region,
    render,
    report,
    resume,
    splats,
    workspace,
)
from .operators import (
    machines as machine_operators,
)
from .operators import (
    photos as import_photos,
)

# Property groups come before the classes that hold them.
CLASSES = (
    *machines.CLASSES,
    *properties.CLASSES,
    *preview_cells.CLASSES,
    *preferences_page.CLASSES,
    *capture.CLASSES,
    *import_photos.CLASSES,
    *report.CLASSES,
    *colour.CLASSES,
    *composite.CLASSES,
    *job.CLASSES,
    *explaining.CLASSES,
    *resume.CLASSES,
    *installation.CLASSES,
    *machine_operators.CLASSES,
    *reconstruct.CLASSES,
    *placement.CLASSES,
    *presets.CLASSES,
    *preview.CLASSES,
    *region.CLASSES,
    *edit.CLASSES,
    *edits.CLASSES,
    *load.CLASSES,
    *render.CLASSES,
    *mesh.CLASSES,
    *splats.CLASSES,
    *outputs.CLASSES,
    *workspace.CLASSES,
    *render_engine.CLASSES,
    *panels.CLASSES,
)
# What is more than classes, in order.
ATTACHED = (
    translations,
    pictures,
    preview_cells,
    paths,
    photos,
    presets,
    capture,
    import_photos,
    workspaces,
    engine,
    jobs,
    live,
    arriving,
    links,
    command,
    panels,
    render_worker,
    render_engine,
    compositing,
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
        for module in ATTACHED:
            module.attach()
            undo.append(module.detach)
    except Exception:
        for step in reversed(undo):
            step()
        raise


def unregister() -> None:
    """Stop the jobs and the engine, then take everything back in reverse order."""
    jobs.shut_down()
    storage.forget()
    for module in reversed(ATTACHED):
        module.detach()
    properties.detach()
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
