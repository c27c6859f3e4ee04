"""The job at work where it is seen with the sidebar closed: its progress in Blender's status bar, and its newest
picture, large, in the corner of the 3D Viewport.

Both are drawn from what `jobs` tells when they are drawn, so nothing is left behind when a job ends, however it ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import blf
import bpy
import bpy.utils.previews
import gpu
import numpy as np
from bpy.app.translations import pgettext_iface as iface
from gpu_extras.batch import batch_for_shader
from gpu_extras.presets import draw_texture_2d

from . import jobs, settings, views

WIDTH = 320.0  # of the picture, in pixels before the interface's scale
MARGIN, LINE, BAR = 16.0, 20.0, 4.0
MOST_OF_REGION = 0.75  # of the viewport's height, that the picture may take
BACKGROUND, TEXT, BAR_COLOR, BAR_BACK = (0.1, 0.1, 0.1, 0.85), (0.9, 0.9, 0.9, 1), (0.28, 0.45, 0.7, 1), (0, 0, 0, 0.6)


@dataclass
class _Picture:
    """A picture in memory: (height, width, 4) float32 sRGB, bottom row first; its texture once it has been drawn."""

    file: Path
    stamp: int
    pixels: np.ndarray
    texture: object = None


_picture: _Picture | None = None
_handler = None
_thumbnails = None


# --- the status bar -------------------------------------------------------------------------------------------------


def draw_status(header, context) -> None:
    """Draw the job at work at the end of the status bar.

    Args:
        header: Blender's.
        context: Blender's.
    """
    job = jobs.current()
    if not jobs.running():
        return
    row = header.layout.row(align=True)
    row.ui_units_x = 16
    row.progress(factor=job.factor, text=f"IN2N: {job.line()}")
    row.operator("in2n.cancel", text="", icon="X")


def _redraw_status() -> None:
    """The status bar is no area that Python can reach; it draws itself again when a view layer's name changes."""
    bpy.msgbus.publish_rna(key=(bpy.types.ViewLayer, "name"))


# --- the picture in the viewport ------------------------------------------------------------------------------------


def follow() -> None:
    """Take in the picture that the job has just made, if there is a new one; called when a job has told something."""
    global _picture
    job = jobs.current()
    _redraw_status()
    if not jobs.running() or not job.image or not settings.live_picture():
        if _picture is not None:
            _picture = None
            views.redraw()
        return
    file = job.picture()
    try:
        stamp = file.stat().st_mtime_ns
    except OSError:
        return
    if _picture is None or (_picture.file, _picture.stamp) != (file, stamp):
        pixels = _read(file)
        if pixels is not None:
            _picture = _Picture(file, stamp, pixels)
    views.redraw()


def _read(file: Path) -> np.ndarray | None:
    """The pixels of a file that is being written again and again; None where it cannot be read just now.

    By way of a thumbnail, of at most 256 pixels a side: an image of the .blend that came and went would let every
    viewport that renders begin anew.
    """
    name = str(file)
    try:
        _thumbnails.pop(name, None)
        thumbnail = _thumbnails.load(name, name, "IMAGE", force_reload=True)
        width, height = thumbnail.image_size
        if not width * height:
            return None
        pixels = np.empty(width * height * 4, np.float32)
        thumbnail.image_pixels_float.foreach_get(pixels)
    except (KeyError, RuntimeError):
        return None
    return pixels.reshape(height, width, 4)


@dataclass(frozen=True)
class Frame:
    """Where the picture is drawn in its region, in pixels from the lower left corner."""

    x: float
    y: float
    width: float
    height: float
    scale: float


def frame_in(
    region_width: int, region_height: int, left: int, picture: np.ndarray, scale: float, bottom: int = 0
) -> Frame:
    """Where a picture goes: into the lower left corner, WIDTH wide, with room for three lines below.

    Args:
        region_width, region_height: Of the viewport, in pixels.
        left: What the toolbar covers of it, in pixels.
        picture: (height, width, 4).
        scale: The interface's.
        bottom: What else covers of it, from below.

    Returns:
        Narrower only where the region has no room for it.
    """
    shape = picture.shape
    width = min(WIDTH * max(scale, 1.0), region_width - left - 2 * MARGIN * scale)
    below = bottom + (2 * LINE + 3 * BAR) * scale
    height = width * shape[0] / shape[1]
    most = max(MOST_OF_REGION * region_height - below, 40.0)
    if height > most and width * most / height >= min(300.0, width):
        width, height = width * most / height, most
    elif height > most:  # a portrait photo keeps its width as long as the region can show it whole
        most = max(region_height - below - 4 * MARGIN * scale, 40.0)
        shrink = min(1.0, most / height)
        width, height = width * shrink, height * shrink
    return Frame(left + MARGIN * scale, MARGIN * scale + below, width, height, scale)


def _draw() -> None:
    job, context = jobs.current(), bpy.context
    if _picture is None or not jobs.running() or context.region is None:
        return
    scale = context.preferences.system.ui_scale
    covered = {region.type: region for region in context.area.regions if region.width > 1 and region.height > 1}
    left = covered["TOOLS"].width if "TOOLS" in covered else 0
    below = covered["HUD"].height if "HUD" in covered else 0  # the last operator's settings
    frame = frame_in(context.region.width, context.region.height, left, _picture.pixels, scale, below)
    _draw_frame(frame)
    if _picture.texture is None:
        height, width = _picture.pixels.shape[:2]
        buffer = gpu.types.Buffer("FLOAT", width * height * 4, _picture.pixels.reshape(-1))
        _picture.texture = gpu.types.GPUTexture((width, height), format="RGBA16F", data=buffer)
    draw_texture_2d(_picture.texture, (frame.x, frame.y), frame.width, frame.height)
    _draw_words(frame, job)


def _draw_frame(frame: Frame) -> None:
    margin, words = 6 * frame.scale, (2 * LINE + 3 * BAR) * frame.scale
    _rectangle(
        frame.x - margin, frame.y - words, frame.width + 2 * margin, frame.height + words + margin, BACKGROUND
    )  # fmt: skip


def _draw_words(frame: Frame, job) -> None:
    scale = frame.scale
    y = frame.y - 2 * BAR * scale
    _rectangle(frame.x, y, frame.width, BAR * scale, BAR_BACK)
    _rectangle(frame.x, y, frame.width * job.factor, BAR * scale, BAR_COLOR)
    photo = iface("Photo {name}").format(name=job.view) if job.view else iface(job.label)
    blf.size(0, 11 * scale)
    blf.color(0, *TEXT)
    blf.enable(0, blf.CLIPPING)
    blf.clipping(0, frame.x, 0, frame.x + frame.width, frame.y)
    for number, words in enumerate((photo, job.line())):
        blf.position(0, frame.x, y - (number + 0.75) * LINE * scale, 0)
        blf.draw(0, words)
    blf.disable(0, blf.CLIPPING)


def _rectangle(x: float, y: float, width: float, height: float, color) -> None:
    shader = gpu.shader.from_builtin("UNIFORM_COLOR")
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    gpu.state.blend_set("ALPHA")
    shader.bind()
    shader.uniform_float("color", color)
    batch_for_shader(shader, "TRI_FAN", {"pos": corners}).draw(shader)
    gpu.state.blend_set("NONE")


# --- coming and going ------------------------------------------------------------------------------------------------


def attach() -> None:
    """Show jobs in the status bar and in the 3D Viewports from now on."""
    global _handler, _thumbnails
    _thumbnails = bpy.utils.previews.new()
    bpy.types.STATUSBAR_HT_header.append(draw_status)
    jobs.listeners.append(follow)
    if not bpy.app.background:
        _handler = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")


def detach() -> None:
    """Show them no more."""
    global _handler, _picture, _thumbnails
    bpy.types.STATUSBAR_HT_header.remove(draw_status)
    if follow in jobs.listeners:
        jobs.listeners.remove(follow)
    if _handler is not None:
        bpy.types.SpaceView3D.draw_handler_remove(_handler, "WINDOW")
    bpy.utils.previews.remove(_thumbnails)
    _handler = _picture = _thumbnails = None
    _redraw_status()
