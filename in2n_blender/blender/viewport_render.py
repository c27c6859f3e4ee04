"""The viewport in Rendered shading: first a coarse picture, then finer ones, each asked of the engine's process.

Drawing never waits. What is shown is the newest picture of the newest view; while a view changes, the last picture
stays until the new one's first has come. A timer polls as long as something is awaited.
"""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass

import bpy
import gpu
import numpy as np
from gpu_extras.presets import draw_texture_2d

from ..scene.errors import Cancelled, In2nError
from ..workspace.provenance import result_folder
from . import colour, render_settings, render_worker
from .shot_requests import Place
from .shots import shot_through_window

TICK_SECONDS = 0.01
FIRST_SECONDS = 0.15  # what the first picture of a view may take
SLOWEST_FIRST = 1 / 16  # of the region's sides: any coarser says nothing
STEPS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
RAYS_A_SECOND = 60_000.0  # of a processor with two cores, until the first picture says better


@dataclass
class _Wanted:
    """A view as it is asked for. key: what a picture is the picture of."""

    key: tuple
    place: Place
    shot: object
    transparent: bool


class ViewportRender:
    """What one viewport shows. Made by its render engine, and gone with it."""

    def __init__(self):
        self._wanted: _Wanted | None = None
        self._answer: render_worker.Answer | None = None
        self._asked: tuple = ()  # the key and the step of what is awaited
        self._asked_at = 0.0
        self._rays = 0
        self._speed = RAYS_A_SECOND
        self._shown: tuple = ()  # the key and the step of what is shown
        self._texture = None
        self._fresh: np.ndarray | None = None
        self._trouble = ""
        self._dirty = True
        _viewports.add(self)

    def changed(self) -> None:
        """Something in the scene is another; whether it matters the next drawing finds out."""
        self._dirty = True

    def draw(self, engine, context, depsgraph) -> None:
        """Draw what there is, and see to it that what is missing is asked for.

        Args:
            engine: The `bpy.types.RenderEngine` of the viewport.
            context: Blender's.
            depsgraph: The viewport's.
        """
        try:
            self._look(context, depsgraph)
        except In2nError as error:
            self._wanted, self._trouble = None, str(error)
        self._draw_texture(engine, context, depsgraph.scene)
        engine.update_stats("IN2N", self._trouble or self._status())
        if self._awaits():
            _start_timer()

    def _look(self, context, depsgraph) -> None:
        """Note the view that is wanted now; of another one than before nothing needs to be finished."""
        region, view = context.region, context.region_data
        chosen = render_settings.chosen(depsgraph.scene.original)
        place = Place.of(chosen, depsgraph)
        shot = shot_through_window(
            np.array(view.window_matrix), np.array(view.view_matrix), place.capture_world, region.width, region.height
        )
        transparent = depsgraph.scene.render.film_transparent
        subject = tuple(sorted((name, str(value)) for name, value in place.subject.items()))
        key = (
            region.width, region.height, str(chosen.workspace.root), chosen.edit, _stamp(chosen), transparent, subject,
            np.array(view.window_matrix).tobytes(), np.array(view.view_matrix).tobytes(), place.capture_world.tobytes(),
            render_settings.device(chosen.scene),
        )  # fmt: skip
        if self._wanted is None or self._wanted.key != key:
            self._trouble = ""
        self._wanted = _Wanted(key, place, shot, transparent)
        self._ask()

    def _next_step(self) -> float | None:
        """How fine the next picture of the wanted view is, as a share of the region's sides; None: all is there."""
        if self._wanted is None or self._trouble:
            return None
        if self._shown and self._shown[0] == self._wanted.key:
            return next((step for step in STEPS if step > self._shown[1]), None)
        pixels = self._wanted.key[0] * self._wanted.key[1]
        fitting = [step for step in STEPS if pixels * step * step < self._speed * FIRST_SECONDS]
        return max(fitting, default=SLOWEST_FIRST)

    def _ask(self) -> None:
        step = self._next_step()
        if self._answer is not None:
            if step is not None and self._asked[0] != self._wanted.key:
                render_worker.cancel(self._answer)
            return
        if step is None:
            return
        wanted = self._wanted
        width, height = (max(1, round(side * step)) for side in wanted.key[:2])
        request = wanted.place.request(wanted.shot.scaled(width, height), transparent=wanted.transparent)
        self._answer = render_worker.ask(request)
        self._asked, self._asked_at, self._rays = (wanted.key, step), time.monotonic(), width * height

    def _awaits(self) -> bool:
        return self._answer is not None

    def take(self) -> bool:
        """Take in what was awaited, and ask for what comes next.

        Returns:
            Whether there is something to draw.
        """
        answer = self._answer
        if answer is None or not answer.done:
            return False
        self._answer = None
        try:
            picture = answer.passes()["Combined"]
        except Cancelled:
            picture = None
        except Exception as error:
            self._trouble = str(error).splitlines()[0]
            return True
        if picture is not None:
            self._speed = self._rays / max(answer.result["seconds"], 1e-3)
            if self._wanted is None or self._asked[0] == self._wanted.key or not self._shown:
                self._shown, self._fresh = self._asked, colour.scene_linear(picture)
        try:
            self._ask()
        except In2nError as error:
            self._trouble = str(error)
        return True

    def _draw_texture(self, engine, context, scene) -> None:
        if self._fresh is not None:
            self._texture, self._fresh = _texture(self._fresh), None
        if self._texture is None:
            return
        gpu.state.blend_set("ALPHA_PREMULT")
        engine.bind_display_space_shader(scene)
        draw_texture_2d(self._texture, (0, 0), context.region.width, context.region.height)
        engine.unbind_display_space_shader()
        gpu.state.blend_set("NONE")

    def _status(self) -> str:
        if self._wanted is not None and self._shown and self._shown[0] == self._wanted.key:
            return "Rendered" if self._shown[1] == 1.0 else f"{self._shown[1]:.0%} of the size"
        return "Rendering" if self._answer is not None else ""


_viewports: weakref.WeakSet[ViewportRender] = weakref.WeakSet()


def _stamp(chosen) -> int:
    """When what is rendered was saved last: an edit that is being made is shown as it comes along."""
    try:
        return (result_folder(chosen.workspace, chosen.edit) / "checkpoint.safetensors").stat().st_mtime_ns
    except OSError:
        return 0


def _texture(picture: np.ndarray):
    height, width = picture.shape[:2]
    values = np.ascontiguousarray(picture[::-1], np.float32).ravel()
    return gpu.types.GPUTexture((width, height), format="RGBA16F", data=gpu.types.Buffer("FLOAT", len(values), values))


def _start_timer() -> None:
    if not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=TICK_SECONDS)


def _tick() -> float | None:
    render_worker.poll()
    if any([viewport.take() for viewport in list(_viewports)]):
        _redraw()
    return TICK_SECONDS if any(viewport._awaits() for viewport in list(_viewports)) else None


def _redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D" and area.spaces.active.shading.type == "RENDERED":
                area.tag_redraw()


def detach() -> None:
    """Forget what viewports wait for."""
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    _viewports.clear()
