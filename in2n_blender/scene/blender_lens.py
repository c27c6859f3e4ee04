"""The lens of a Blender camera (millimetres, sensor fit, shifts) and the pinhole intrinsics that see the same."""

from __future__ import annotations

from dataclasses import dataclass

from .camera import Intrinsics

SENSOR_FITS = ("AUTO", "HORIZONTAL", "VERTICAL")


@dataclass(frozen=True)
class BlenderLens:
    """The properties of a Blender camera that make its lens: millimetres, sensor fit, shifts in Blender's unit.

    pixel_aspect_x, pixel_aspect_y belong to the render settings of the whole scene; they are (1, 1) for square pixels.
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
    """The Blender camera that sees exactly what `intrinsics` sees, at its width and height and the returned pixel
    aspect.

    sensor_width, sensor_height: millimetres; the height matters for the fit "VERTICAL" only.
    Blender's own rule (BKE_camera_params_compute_viewplane): the sensor spans the width of the picture, or its height
    if the fit is VERTICAL, or AUTO in portrait; one unit of either shift is that span.
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
    """The inverse of `blender_lens` for a picture of width x height pixels. Pixel aspect None: the lens's own."""
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
