"""What was just reconstructed or edited, shown in the 3D views unasked: a coloured mesh of moderate size.

It is a job of its own, queued behind the one that makes the scene. It keeps to the background: it never renders, never
takes the place of a mesh that the artist extracted, tells nothing over what the other job told, and is dropped with it.
In background mode nothing is made unasked.
"""

from __future__ import annotations

from pathlib import Path

from ..link.requests import Edit, ExtractMesh, Reconstruct
from ..workspace.layout import ORIGINAL, Workspace
from . import jobs, results, views
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
        results.import_mesh(context, scene, capture, file, edit, quick=True)
        scene.in2n.show_quick_mesh = True  # which shows it
        if not seen_before:  # afterwards she has looked, and hidden or shown what she likes
            views.show_colors(context)
            for points in children(capture, "POINTS"):
                for layer in scene.view_layers:
                    if layer.objects.get(points.name) == points:
                        points.hide_set(True, view_layer=layer)
        return ""

    return finish
