"""The viewport in Rendered shading: first a coarse picture, then finer ones, each asked of the engine's process.

Drawing never waits. What is shown is the newest picture that there is, and what is asked for always the newest view: a
finer picture of an earlier one is given up. A timer looks for what has come as long as something is awaited.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass

import bpy
import gpu
import numpy as np
from gpu_extras.presets import draw_texture_2d

from ..scene.errors import Cancelled, In2nError
from ..workspace.provenance import result_folder
from . import colour, render_settings, render_worker, views
from .shot_requests import Place
from .shots import shot_through_window

TICK_SECONDS = 0.01
FIRST_SECONDS = 0.08  # what the first picture of a view may take: with one on its way, two of them are waited for
COARSEST = 1 / 24  # of the region's sides: any coarser says nothing
FINER = 2.0  # the next picture's sides are so many times as long
RAYS_AT_ONCE = 2048  # of finer pictures: a view that nobody looks at any more is given up within a moment
RAYS_A_SECOND = 60_000.0  # of a processor with two cores, until the first picture says better


@dataclass
class _Wanted:
    """A view as it is asked for. key: what a picture is the picture of."""

    key: tuple
    place: Place
    shot: object
    transparent: bool


class ViewportRender:
    """What one viewport shows. Made by its render engine, and gone with it.

    Attributes:
        fresh: (height, width, 4) in the scene-linear space, a picture that has not been drawn yet; None: none.
        trouble: Why there is no picture, in a sentence.
    """

    def __init__(self):
        self._wanted: _Wanted | None = None
        self._answer: render_worker.Answer | None = None
        self._asked: tuple = ()  # the key and the step of what is awaited
        self._is_first = False  # of its view
        self._rays = 0
        self._speed = RAYS_A_SECOND
        self._shown: tuple = ()  # the key and the step of what is shown
        self._texture = None
        self.fresh: np.ndarray | None = None
        self.trouble = ""
        _viewports.add(self)

    def draw(self, engine, context, depsgraph) -> None:
        """Draw what there is, and see to it that what is missing is asked for.

        Args:
            engine: The `bpy.types.RenderEngine` of the viewport.
            context: Blender's.
            depsgraph: The viewport's.
        """
        self.follow(context, depsgraph)
        self._draw_texture(engine, context, depsgraph.scene)
        engine.update_stats("IN2N", self.trouble or self._status())
        if self.awaits:
            _start_timer()

    @property
    def awaits(self) -> bool:
        """Whether a picture is to come."""
        return self._answer is not None

    @property
    def share(self) -> float:
        """How fine what is shown of the wanted view is, as a share of the region's sides; 0: nothing of it is shown."""
        wanted = self._wanted is not None and self._shown and self._shown[0] == self._wanted.key
        return self._shown[1] if wanted else 0.0

    def follow(self, context, depsgraph) -> None:
        """Note the view that is wanted now, and ask for its next picture.

        Args:
            context: Blender's: its region and the region's data.
            depsgraph: The viewport's.
        """
        try:
            self._follow(context, depsgraph)
        except In2nError as error:
            self._wanted, self.trouble = None, str(error)

    def _follow(self, context, depsgraph) -> None:
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
            self.trouble = ""
        self._wanted = _Wanted(key, place, shot, transparent)
        self._ask()

    def _next_step(self) -> float | None:
        """How fine the next picture of the wanted view is, as a share of the region's sides; None: all is there."""
        if self._wanted is None or self.trouble:
            return None
        if self.share:
            return min(self.share * FINER, 1.0) if self.share < 1 else None
        pixels = self._wanted.key[0] * self._wanted.key[1]
        return min(max(math.sqrt(self._speed * FIRST_SECONDS / pixels), COARSEST), 1.0)

    def _ask(self) -> None:
        step = self._next_step()
        if self._answer is not None:
            if step is None or self._asked[0] == self._wanted.key or (self._is_first and self._answer.begun):
                # A first picture is so quick that it is waited for: else nothing would be seen while a view turns.
                return
            render_worker.give_up(self._answer)
            self._answer = None
        if step is None:
            return
        wanted = self._wanted
        width, height = (max(1, round(side * step)) for side in wanted.key[:2])
        self._asked, self._is_first, self._rays = (wanted.key, step), not self.share, width * height
        request = wanted.place.request(
            wanted.shot.scaled(width, height),
            transparent=wanted.transparent,
            rays_at_once=None if self._is_first else RAYS_AT_ONCE,
        )
        self._answer = render_worker.ask(request)

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
            self.trouble = str(error).splitlines()[0]
            return True
        if picture is not None:
            self._speed = self._rays / max(answer.result["seconds"], 1e-3)
            self._shown, self.fresh = self._asked, colour.scene_linear(picture)
        try:
            self._ask()
        except In2nError as error:
            self.trouble = str(error)
        return picture is not None or bool(self.trouble)

    def __del__(self):
        """Nobody looks any more: the shading was changed, or the viewport closed."""
        if self._answer is not None:
            render_worker.give_up(self._answer)

    def _draw_texture(self, engine, context, scene) -> None:
        if self.fresh is not None:
            self._texture, self.fresh = _texture(self.fresh), None
        if self._texture is None:
            return
        gpu.state.blend_set("ALPHA_PREMULT")
        engine.bind_display_space_shader(scene)
        draw_texture_2d(self._texture, (0, 0), context.region.width, context.region.height)
        engine.unbind_display_space_shader()
        gpu.state.blend_set("NONE")

    def _status(self) -> str:
        if self.share:
            return "Rendered" if self.share == 1.0 else f"{self.share:.0%} of the size"
        if self._answer is None:
            return ""
        return "Rendering" if self._shown else "Starting the engine"


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
    if any([viewport.take() for viewport in list(_viewports)]):
        views.redraw("RENDERED")
    return TICK_SECONDS if any(viewport.awaits for viewport in list(_viewports)) else None


def detach() -> None:
    """Forget what viewports wait for."""
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    _viewports.clear()
