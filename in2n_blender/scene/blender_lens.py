"""The lens of a Blender camera (millimetres, sensor fit, shifts) and the pinhole intrinsics that see the same."""

from __future__ import annotations

from dataclasses import dataclass

from .camera import Intrinsics

SENSOR_FITS = ("AUTO", "HORIZONTAL", "VERTICAL")


@dataclass(frozen=True)
class BlenderLens:
    """The properties of a Blender camera that make its lens.

    Attributes:
        lens: Focal length in millimetres.
        sensor_width: Millimetres.
        sensor_height: Millimetres; counts for the fit "VERTICAL" only.
        sensor_fit: One of SENSOR_FITS.
        shift_x: In spans of the sensor.
        shift_y: In spans of the sensor.
        pixel_aspect_x: Of the render settings of the whole scene; both are 1 for square pixels.
        pixel_aspect_y: See pixel_aspect_x.
    """

    lens: float
    sensor_width: float
    sensor_height: float
    sensor_fit: str
    shift_x: float
    shift_y: float
    pixel_aspect_x: float = 1.0
    pixel_aspect_y: float = 1.0


def blender_lens(
    intrinsics: Intrinsics, sensor_width: float = 36.0, fit: str = "AUTO", sensor_height: float = 24.0
) -> BlenderLens:
    """The Blender camera that sees exactly what a pinhole camera sees.

    Blender's own rule (BKE_camera_params_compute_viewplane): the sensor spans the width of the picture, or its height
    if the fit is VERTICAL, or AUTO in portrait; one unit of either shift is that span.

    Args:
        intrinsics: Size, focal lengths and principal point in pixels.
        sensor_width: Millimetres.
        fit: One of SENSOR_FITS.
        sensor_height: Millimetres; matters for the fit "VERTICAL" only.

    Returns:
        The lens, for renders of the intrinsics' width and height with its pixel aspect.
    """
    k = intrinsics
    aspect_x, aspect_y = max(1.0, k.fy / k.fx), max(1.0, k.fx / k.fy)
    view, sensor = _blender_span(k.width * aspect_x, k.height * aspect_y, sensor_width, sensor_height, fit)
    return BlenderLens(
        lens=k.fx * aspect_x * sensor / view,
        sensor_width=sensor_width,
        sensor_height=sensor_height,
        sensor_fit=fit,
        shift_x=(k.width / 2 - k.cx) * aspect_x / view,
        shift_y=(k.cy - k.height / 2) * aspect_y / view,
        pixel_aspect_x=aspect_x,
        pixel_aspect_y=aspect_y,
    )


def intrinsics_from_blender(
    lens: BlenderLens, width: int, height: int, pixel_aspect_x: float | None = None, pixel_aspect_y: float | None = None
) -> Intrinsics:
    """The pinhole camera that sees what a Blender camera sees: the inverse of `blender_lens`.

    Args:
        lens: The Blender camera's.
        width: Pixels of the render.
        height: Pixels of the render.
        pixel_aspect_x: Of the scene's render settings; None: the lens's own.
        pixel_aspect_y: See pixel_aspect_x.

    Returns:
        Focal lengths and principal point in pixels of the render.
    """
    aspect_x = lens.pixel_aspect_x if pixel_aspect_x is None else pixel_aspect_x
    aspect_y = lens.pixel_aspect_y if pixel_aspect_y is None else pixel_aspect_y
    view, sensor = _blender_span(
        width * aspect_x, height * aspect_y, lens.sensor_width, lens.sensor_height, lens.sensor_fit
    )
    focal = lens.lens * view / sensor
    return Intrinsics(
        int(width),
        int(height),
        focal / aspect_x,
        focal / aspect_y,
        cx=width / 2 - lens.shift_x * view / aspect_x,
        cy=height / 2 + lens.shift_y * view / aspect_y,
    )


def _blender_span(
    width: float, height: float, sensor_width: float, sensor_height: float, fit: str
) -> tuple[float, float]:
    """(extent of the picture that the sensor spans, in square pixels; the sensor size that spans it, in
    millimetres)."""
    if fit not in SENSOR_FITS:
        raise ValueError(f"sensor fit {fit!r} is none of {SENSOR_FITS}")
    horizontal = fit == "HORIZONTAL" or (fit == "AUTO" and width >= height)
    return (width if horizontal else height), (sensor_height if fit == "VERTICAL" else sensor_width)
