"""The artist's 3D views: what they look at, how near and far they see, and whether they show colours.

A view belongs to a screen, not to a scene: nothing here is part of an undo step. In background mode the views are those
of the file's window, as they will be when it is opened.
"""

from __future__ import annotations

import math

import bpy
import numpy as np
from mathutils import Quaternion

FILLED = 0.6  # of the view's width or height that what is framed takes up, whichever comes first
VIEWERS_FILLED = 0.9  # that it and those from where it was looked at take up
NEAR, FAR = 1e-3, 100.0  # of a capture's extent: where a view is to begin and to end
LEAST_NEAR, LEAST_FAR = 1e-2, 20.0  # of it: a view that already shows so much is left alone
DEEPEST = 1e7  # far over near: beyond, surfaces flicker through each other
HALF_SENSOR = 36.0  # millimetres: the views' sensor has twice the width of a camera's
ASIDE, ABOVE = math.radians(25), math.radians(20)  # of where the cameras stand, which would hide what they saw

_framed: dict[int, tuple] = {}  # how `frame` has left areas, by their addresses


def areas(context) -> list:
    """The 3D views of the window; of another one where it has none, as the file browser's; else those of all screens.

    Args:
        context: Blender's.
    """
    windows = [window for window in (context.window, *context.window_manager.windows) if window is not None]
    screens = [[window.screen] for window in windows] + [list(bpy.data.screens)]
    found = ([area for screen in those for area in screen.areas if area.type == "VIEW_3D"] for those in screens)
    return next((views for views in found if views), [])


def redraw(shading: str = "") -> None:
    """Draw the 3D views of all windows again: what they show of the scene, not the sidebar and the header beside it.

    Args:
        shading: Of those alone that are shaded so; "": of all.
    """
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D" and shading in ("", area.spaces.active.shading.type):
                for region in (region for region in area.regions if region.type == "WINDOW"):
                    region.tag_redraw()


def main_area(context):
    """The 3D view that the artist works in: the context's own, else the window's largest; None where there is none."""
    if context.area is not None and context.area.type == "VIEW_3D":
        return context.area
    return max(areas(context), key=lambda area: area.width * area.height, default=None)


def show_colors(context) -> None:
    """Let Solid shading show the colours that vertices have, as they are.

    The light of the capture is in them already; that of the view would darken them, and its outlines would be all that
    is seen of small points. A view that shows vertices' colours is left as the artist likes it.

    Args:
        context: Blender's.
    """
    for shading in (area.spaces.active.shading for area in areas(context)):
        if shading.color_type != "VERTEX":
            shading.color_type, shading.light, shading.show_object_outline = "VERTEX", "FLAT", False


def widen_clipping(extent: float) -> None:
    """Let every 3D view see a capture whole and near to; what a view shows of other things it goes on showing.

    Args:
        extent: The capture's, in scene units.
    """
    for screen in bpy.data.screens:
        for space in (space for area in screen.areas for space in area.spaces if space.type == "VIEW_3D"):
            start, end = space.clip_start, space.clip_end
            if start > LEAST_NEAR * extent:
                start = NEAR * extent
            if end < LEAST_FAR * extent:
                end = FAR * extent
                start = max(start, end / DEEPEST)
            space.clip_start, space.clip_end = start, end


def frame(area, points: np.ndarray, viewers: np.ndarray) -> bool:
    """Turn a view to points, so that they fill about half of it.

    A view through a camera becomes one in perspective; any other keeps its kind. Where the points were looked at from
    one side the view looks from there too, else it keeps its direction.

    Args:
        area: The 3D view's.
        points: (n, 3) in world coordinates.
        viewers: (m, 3) from where they were looked at; they are to be in view, too.

    Returns:
        Whether there was a view to turn: one that was never on a screen has no size.
    """
    space = area.spaces.active
    region = next(region for region in area.regions if region.type == "WINDOW")
    view = space.region_3d
    if not len(points) or min(region.width, region.height) < 10 or view is None:
        return False
    if view.view_perspective == "CAMERA":
        view.view_perspective = "PERSP"
    if view.view_perspective == "PERSP":
        view.view_rotation = _rotation_towards(points.mean(0), viewers) or view.view_rotation
    half = HALF_SENSOR / space.lens * np.array([region.width, region.height]) / max(region.width, region.height)
    free, middle = _free_part(area, region)
    turned = np.array(view.view_rotation.to_matrix(), np.float64)
    shown = np.concatenate([points, viewers]) @ turned
    part = np.repeat([FILLED, VIEWERS_FILLED], [len(points), len(viewers)])
    location, distance = _fit(shown, part[:, None] * half * free, view.view_perspective == "PERSP")
    location[:2] -= middle * half * distance
    view.view_location, view.view_distance = (turned @ location).tolist(), distance
    _framed[area.as_pointer()] = _stand(view)
    return True


def is_as_framed(area) -> bool:
    """Whether a view looks as `frame` has left it: the artist has not moved it since.

    Args:
        area: The 3D view's.
    """
    view = area.spaces.active.region_3d
    return view is not None and _framed.get(area.as_pointer()) == _stand(view)


def _stand(view) -> tuple:
    """Where a view stands and how it looks."""
    return (*view.view_location, view.view_distance, *view.view_rotation, view.view_perspective)


def _rotation_towards(center: np.ndarray, viewers: np.ndarray) -> Quaternion | None:
    """Looking at the centre from where most viewers are, a little aside and above; None where they are all round it."""
    if not len(viewers):
        return None
    arms = (viewers - center)[:, :2]
    mean = arms.mean(0)
    if np.linalg.norm(mean) < 0.35 * np.linalg.norm(arms, axis=1).mean():
        return None
    around = math.atan2(mean[1], mean[0]) + math.pi / 2 + ASIDE
    return Quaternion((0, 0, 1), around) @ Quaternion((1, 0, 0), math.pi / 2 - ABOVE)


def _free_part(area, region) -> tuple[np.ndarray, np.ndarray]:
    """What is not under the sidebar and the toolbar: (2,) its share of the view's width and height, and (2,) its middle
    from -1 to 1."""
    left, right = region.x, region.x + region.width
    for other in area.regions:
        if other.type == "UI" and other.width > 1:
            right = min(right, max(other.x, left + region.width // 2))
        elif other.type == "TOOLS" and other.width > 1:
            left = max(left, min(other.x + other.width, region.x + region.width // 4))
    middle = (left + right - 2 * region.x) / region.width - 1
    return np.array([(right - left) / region.width, 1.0]), np.array([middle, 0.0])


def _fit(points: np.ndarray, half: np.ndarray, perspective: bool) -> tuple[np.ndarray, float]:
    """Where a view stands that looks along -z and has each point just within its `half` (n, 2), tangents or, without
    perspective, parts of its distance.

    Returns:
        (3,) what it looks at, in the view's axes, and its distance from there.
    """
    location = (points.min(0) + points.max(0)) / 2
    distance = 1e-6
    for _ in range(4):
        at = points - location
        depth = at[:, 2:] if perspective else np.zeros((len(at), 1))
        distance = max(float((depth + np.abs(at[:, :2]) / half).max()), 1e-6)
        seen = at[:, :2] / np.maximum(distance - depth, 1e-9) / half
        farthest = np.where(seen.max(0) > -seen.min(0), seen.argmax(0), seen.argmin(0))
        location[:2] += (seen.min(0) + seen.max(0)) / 2 * half[farthest, (0, 1)] * distance
    return location, distance
