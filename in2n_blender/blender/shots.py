"""A Blender camera, or a view through a window, as a shot in the capture's coordinates: any lens, any sensor fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..scene.blender_lens import BlenderLens, intrinsics_from_blender
from ..scene.camera import Camera, Intrinsics
from ..scene.errors import In2nError
from ..scene.shot import ORTHOGRAPHIC, PANORAMA, PERSPECTIVE, Shot
from .cameras import LENS_PROPERTIES, intrinsics_of, relative_pose, render_size

LENS_OF = {"PERSP": PERSPECTIVE, "ORTHO": ORTHOGRAPHIC, "PANO": PANORAMA}
EQUIRECTANGULAR = "EQUIRECTANGULAR"


@dataclass(frozen=True)
class Moment:
    """A camera at one moment.

    Attributes:
        camera: The evaluated object, a camera.
        camera_world: (4, 4) its matrix, in the scene.
        capture_world: (4, 4) the capture's Empty's, which takes the capture's coordinates into the scene.
    """

    camera: object
    camera_world: np.ndarray
    capture_world: np.ndarray


def shot_of(moments: Iterable[Moment], render, focus_on=None) -> Shot:
    """What a Blender camera sees, as the scene's render settings want it.

    Args:
        moments: From the shutter's opening to its closing, evenly; may be a generator that moves the scene on.
        render: `bpy.types.RenderSettings`.
        focus_on: (3,) the place of the object that the camera focuses on at the first moment; None: it has none.

    Returns:
        The shot, in the capture's units, with the border and the depth of field.

    Raises:
        In2nError: "unknown_lens" for panoramas other than equirectangular and custom cameras, "uneven_scale",
            "bad_focus".
    """
    cameras, first, last = [], None, None
    for moment in moments:
        if last is None:
            data, unit = moment.camera.data, unit_of(moment.capture_world)
            lens, span = _lens(data), _span(data)
            first = (_aperture(data, lens) / unit, _focus(data, moment.camera_world, focus_on) / unit)
        last = moment
        cameras.append(camera_at(moment, render))
    return Shot(tuple(cameras), lens, span, border_of(render), *first)


def camera_at(moment: Moment, render) -> Camera:
    """A camera's lens and pose at a moment.

    Args:
        moment: The camera and the capture.
        render: `bpy.types.RenderSettings`.

    Returns:
        In the capture's units; its focal lengths as `Shot.cameras` has them.

    Raises:
        In2nError: "uneven_scale".
    """
    data = moment.camera.data
    if data.type == "PERSP":
        intrinsics = intrinsics_of(data, render)
    elif data.type == "ORTHO":
        unit = unit_of(moment.capture_world)
        lens = BlenderLens(**{name: getattr(data, name) for name in LENS_PROPERTIES} | _ortho_sensor(data, unit))
        intrinsics = intrinsics_from_blender(
            lens, *render_size(render), render.pixel_aspect_x, render.pixel_aspect_y
        )  # pixels for a unit, where a perspective lens has pixels for a unit at distance 1
    else:
        width, height = render_size(render)
        intrinsics = Intrinsics(width, height, 1.0, 1.0, width / 2, height / 2)
    return Camera(intrinsics, relative_pose(moment.camera_world, moment.capture_world))


def _ortho_sensor(data, unit: float) -> dict[str, float]:
    """An orthographic camera's scale is what its picture spans, whichever side the sensor's fit makes that."""
    return {"lens": 1.0, "sensor_width": data.ortho_scale / unit, "sensor_height": data.ortho_scale / unit}


def shot_through_window(window_matrix: np.ndarray, view_matrix: np.ndarray, capture_world, width, height) -> Shot:
    """What a 3D viewport shows, in whichever of its perspectives, or through a camera.

    Args:
        window_matrix: (4, 4) the region's projection.
        view_matrix: (4, 4) from the scene to the viewer.
        capture_world: (4, 4) the capture's Empty's matrix.
        width: The region's, in pixels.
        height: Likewise.

    Returns:
        The shot, in the capture's units.

    Raises:
        In2nError: "uneven_scale".
    """
    p = np.asarray(window_matrix, np.float64)
    orthographic = p[3, 3] == 1
    fx, fy = width / 2 * p[0, 0], height / 2 * p[1, 1]
    if orthographic:
        unit = unit_of(capture_world)
        fx, fy, cx, cy = fx * unit, fy * unit, width / 2 * (1 + p[0, 3]), height / 2 * (1 - p[1, 3])
    else:
        cx, cy = width / 2 * (1 - p[0, 2]), height / 2 * (1 + p[1, 2])
    viewer = np.linalg.inv(np.asarray(view_matrix, np.float64))
    if orthographic:  # a viewport's plane lies in its midst, and it shows what is before it, too, as far as it clips
        viewer[:3, 3] += max((-1 - p[2, 3]) / p[2, 2], 0.0) * viewer[:3, 2]
    pose = relative_pose(viewer, capture_world)
    camera = Camera(Intrinsics(width, height, fx, fy, cx, cy), pose)
    return Shot((camera,), ORTHOGRAPHIC if orthographic else PERSPECTIVE)


def border_of(render) -> tuple[int, int, int, int] | None:
    """The border that is rendered, rounded as Blender rounds it.

    Args:
        render: `bpy.types.RenderSettings`.

    Returns:
        (left, top, right, bottom) in pixels of the picture; None: all of it.
    """
    if not render.use_border:
        return None
    width, height = render_size(render)
    left, right = int(render.border_min_x * width), int(render.border_max_x * width)
    bottom, top = int(render.border_min_y * height), int(render.border_max_y * height)
    return (left, height - top, right, height - bottom)


def unit_of(capture_world) -> float:
    """How many units of the scene a unit of the capture is.

    Args:
        capture_world: (4, 4) the capture's Empty's matrix.
    """
    return float(np.linalg.norm(np.asarray(capture_world, np.float64)[:3, 0])) or 1.0


def _lens(data) -> str:
    panorama = getattr(data, "panorama_type", EQUIRECTANGULAR)
    if data.type in LENS_OF and (data.type != "PANO" or panorama == EQUIRECTANGULAR):
        return LENS_OF[data.type]
    what = f"{panorama.replace('_', ' ').title()} panoramas" if data.type == "PANO" else f"{data.type.title()} cameras"
    raise In2nError(
        "unknown_lens",
        f"{what} are not rendered.",
        "Set the camera's lens to Perspective, Orthographic or an equirectangular Panoramic.",
    )


def _span(data) -> tuple[float, float, float, float]:
    return data.longitude_min, data.longitude_max, data.latitude_min, data.latitude_max


def _aperture(data, lens: str) -> float:
    """The lens's radius in units of the scene, as Cycles has it: a scene's unit is a metre to a camera."""
    if not data.dof.use_dof:
        return 0.0
    length = 1.0 if lens == ORTHOGRAPHIC else data.lens * 1e-3
    return length / (2 * max(data.dof.aperture_fstop, 1e-5))


def _focus(data, camera_world, focus_on) -> float:
    """Along the camera's axis, in units of the scene."""
    if not data.dof.use_dof:
        return 1.0
    distance = data.dof.focus_distance
    if focus_on is not None:
        world = np.asarray(camera_world, np.float64)
        axis = -world[:3, 2] / np.linalg.norm(world[:3, 2])
        distance = float((np.asarray(focus_on, np.float64) - world[:3, 3]) @ axis)
    if distance <= 0:
        raise In2nError(
            "bad_focus",
            "What the camera focuses on is not before it.",
            "Choose another focus object, or a focus distance above 0.",
        )
    return distance
