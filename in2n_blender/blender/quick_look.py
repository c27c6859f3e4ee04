"""What was just reconstructed or edited, shown in the 3D views unasked: a coloured mesh of moderate size.

It is a job of its own, queued behind the one that makes the scene. It keeps to the background: it never renders, never
takes the place of a mesh that the artist extracted, tells nothing over what the other job told, and is dropped with it.
In background mode nothing is made unasked.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..link.requests import Edit, ExtractMesh, Reconstruct
from ..workspace.layout import ORIGINAL, Workspace
from . import captured_objects, jobs, results, views
from .scene_state import children

RESOLUTION = 128  # grid cells along the longest side


def queue_behind(context, job: int, request) -> None:
    """Let what a job makes be shown when it is made, if the scene's settings say so.

    Args:
        context: Blender's.
        job: The job's id.
        request: The last thing that it asks the engine for; nothing is queued where that makes no scene.
    """
    if not isinstance(request, (Reconstruct, Edit)) or not jobs.in_window() or not context.scene.in2n.show_when_done:
        return
    edit = request.name if isinstance(request, Edit) else None
    wanted = ExtractMesh(
        workspace=request.workspace, edit=edit, resolution=RESOLUTION, quick=True, device=request.device
    )
    jobs.submit(
        context,
        jobs.QUIET_LABEL,
        [wanted],
        _finish(Workspace(request.workspace).mesh(edit, ".ply", quick=True), edit or ORIGINAL),
        undo_step=True,
        after=job,
    )


def _finish(file: Path, edit: str):
    def finish(context, scene, capture, result):
        if capture is None:
            return ""
        seen_before = any(mesh.in2n.quick for mesh in children(capture, "MESH"))
        mesh = results.import_mesh(context, scene, capture, file, edit, quick=True)
        scene.in2n.show_quick_mesh = True  # which shows it
        if not seen_before:  # afterwards she has looked, and hidden or shown what she likes
            views.show_colors(context)
            _frame_again(context, capture, mesh)
        return ""

    return finish


def _frame_again(context, capture, mesh) -> None:
    """Turn the view to the mesh, which shows better than the import could where to look, unless she has moved it."""
    area = views.main_area(context)
    if area is None or not views.is_as_framed(area):
        return
    context.view_layer.update()
    corners = np.zeros(3 * len(mesh.data.vertices), np.float32)
    mesh.data.vertices.foreach_get("co", corners)
    places = captured_objects.without_outliers(corners.reshape(-1, 3).astype(np.float64))
    world = np.array(mesh.matrix_world, np.float64)
    viewers = np.array([camera.matrix_world.translation for camera in children(capture, "CAMERA")]).reshape(-1, 3)
    views.frame(area, places @ world[:3, :3].T + world[:3, 3], viewers)
