"""Cameras while they are found: drawn in the 3D Viewports as they arrive, with the points that they see.

They become objects when the search is done. Until then nothing is in the file, so a search that is cancelled leaves
nothing behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import bpy
import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader

from ..scene.errors import In2nError
from ..workspace.files import read_json
from . import jobs, views
from .captured_objects import LEAST_POINTS, upright, without_outliers

SIZE = 0.08  # of the extent of what is there, how large a camera is drawn
COLOR, POINT = (1.0, 0.62, 0.2, 1.0), 3.0
FRAMED_AGAIN = 1.5  # how many times as many cameras there must be before the view is turned to them again
# The edges of a camera: its centre to its corners, and round these.
EDGES = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1))


@dataclass
class Arrived:
    """What has been found so far, in world coordinates.

    Attributes:
        stamp: Of the file that says so.
        lines: (n, 3) ends of the cameras' edges, two by two.
        points: (p, 3).
        colors: (p, 4) linear.
        positions: (m, 3) of the cameras.
    """

    stamp: tuple[str, int]
    lines: np.ndarray
    points: np.ndarray
    colors: np.ndarray
    positions: np.ndarray


_arrived: Arrived | None = None
_framed = 0
_handler = None


def read(file: Path) -> Arrived | None:
    """What a search has written down.

    Args:
        file: Its cameras.json.

    Returns:
        The cameras and points, stood upright as they will be imported; None where it cannot be read just now.
    """
    try:
        stamp = str(file), file.stat().st_mtime_ns
        told = read_json(file)
        cameras = told["cameras"]
        poses = np.array([camera["camera_to_world"] for camera in cameras], np.float64).reshape(-1, 4, 4)
        tangents = [np.array(camera["size"]) / 2 / camera["focal"] for camera in cameras]
        points = np.array(told["points"], np.float64).reshape(-1, 3)
        colors = np.array(told["colors"], np.float32).reshape(-1, 3) / 255
    except (OSError, In2nError, KeyError, TypeError, ValueError):
        return None
    if not len(poses):
        return None
    world = upright(poses)
    poses, points = world @ poses, points @ world[:3, :3].T + world[:3, 3]
    positions = poses[:, :3, 3]
    size = SIZE * float(np.linalg.norm(positions - np.median(positions, 0), axis=1).max() or 1.0)
    lines = np.concatenate([_edges(pose, size * tangent, size) for pose, tangent in zip(poses, tangents)])
    linear = np.concatenate([colors**2.2, np.ones((len(colors), 1), np.float32)], 1)
    return Arrived(stamp, lines, points, linear, positions)


def _edges(pose: np.ndarray, half: np.ndarray, depth: float) -> np.ndarray:
    """(16, 3) ends of a camera's edges."""
    x, y = half
    corners = np.array([(0, 0, 0), (-x, -y, -depth), (x, -y, -depth), (x, y, -depth), (-x, y, -depth)])
    placed = corners @ pose[:3, :3].T + pose[:3, 3]
    return placed[np.array(EDGES).ravel()]


def follow() -> None:
    """Take in the cameras that have just arrived; called when a job has told something."""
    global _arrived, _framed
    job = jobs.current()
    if not jobs.running() or not job.cameras:
        if _arrived is not None:
            _arrived, _framed = None, 0
            views.redraw()
        return
    found = read(Path(job.cameras))
    if found is None or (_arrived is not None and _arrived.stamp == found.stamp):
        return
    _arrived = found
    if len(found.positions) >= FRAMED_AGAIN * _framed:
        _framed = len(found.positions)
        area = views.main_area(bpy.context)
        if area is not None:
            views.widen_clipping(float(np.ptp(found.positions, axis=0).max() or 1.0))
            points = found.points if len(found.points) >= LEAST_POINTS else found.positions
            views.frame(area, without_outliers(points), found.positions)
    views.redraw()


def _draw() -> None:
    if _arrived is None or not jobs.running():
        return
    gpu.state.depth_test_set("LESS_EQUAL")
    lines = gpu.shader.from_builtin("UNIFORM_COLOR")
    lines.bind()
    lines.uniform_float("color", COLOR)
    batch_for_shader(lines, "LINES", {"pos": _arrived.lines.astype(np.float32)}).draw(lines)
    if len(_arrived.points):
        gpu.state.point_size_set(POINT)
        points = gpu.shader.from_builtin("POINT_FLAT_COLOR" if bpy.app.version >= (4, 5, 0) else "FLAT_COLOR")
        points.bind()
        data = {"pos": _arrived.points.astype(np.float32), "color": _arrived.colors}
        batch_for_shader(points, "POINTS", data).draw(points)
    gpu.state.depth_test_set("NONE")


def attach() -> None:
    """Show what arrives from now on."""
    global _handler
    jobs.listeners.append(follow)
    if not bpy.app.background:
        _handler = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_VIEW")


def detach() -> None:
    """Show it no more."""
    global _handler, _arrived, _framed
    _arrived, _framed = None, 0
    jobs.listeners.remove(follow)
    if _handler is not None:
        bpy.types.SpaceView3D.draw_handler_remove(_handler, "WINDOW")
        _handler = None
