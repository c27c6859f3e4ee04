"""The render engine "IN2N": F12, animations and the viewport show the reconstruction, or an edit of it.

Blender asks, the engine's own process renders. A frame that cannot be rendered is an error, never a black picture.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import bpy
import numpy as np

from .. import __version__
from ..scene.errors import Cancelled, In2nError
from ..scene.shot import Shot
from . import colour, render_settings, render_worker, viewport_render, written_frames
from .shot_requests import Place, matrix_world
from .shots import Moment, shot_of

ENGINE = "IN2N"
MOMENTS = 9  # over the shutter; between them cameras move straight on
DATA_PASSES = (("use_pass_z", "Depth", 1, "Z", "VALUE"), ("use_pass_normal", "Normal", 3, "XYZ", "VECTOR"),
               ("use_pass_position", "Position", 3, "XYZ", "VECTOR"))  # fmt: skip
SHUTTER_OPENS = {"START": 0.0, "CENTER": -0.5, "END": -1.0}  # in lengths of the shutter


class In2nRenderEngine(bpy.types.RenderEngine):
    bl_idname = ENGINE
    bl_label = "IN2N"
    bl_use_preview = False
    bl_use_postprocess = True
    bl_use_shading_nodes_custom = False
    bl_use_eevee_viewport = True

    viewport: viewport_render.ViewportRender | None = None

    def update_render_passes(self, scene=None, renderlayer=None):
        """Blender asks which passes there are."""
        self.register_pass(scene, renderlayer, "Combined", 4, "RGBA", "COLOR")
        for asked, name, channels, letters, kind in DATA_PASSES:
            if getattr(renderlayer, asked):
                self.register_pass(scene, renderlayer, name, channels, letters, kind)

    def render(self, depsgraph):
        """Blender asks for a view layer of a frame."""
        written_frames.begin(self.is_animation, depsgraph.scene.original)
        try:
            self._render(depsgraph)
        except Cancelled:
            pass  # nothing is handed over: Blender keeps what was there and stops
        except In2nError as error:
            self._fail(str(error))
        except Exception as error:
            traceback.print_exc()
            self._fail(f"The picture could not be rendered ({type(error).__name__}: {str(error).splitlines()[0]}).")

    def _render(self, depsgraph) -> None:
        scene, layer = depsgraph.scene, depsgraph.view_layer
        if scene.render.use_multiview:
            raise In2nError("stereo", "Stereoscopy is not rendered.", "Turn it off in Output Properties.")
        self.update_stats("IN2N", "Preparing")
        chosen = render_settings.chosen(scene.original)
        place = Place.of(chosen, depsgraph)
        shot = self._shot(depsgraph, place)
        wanted = chosen.scene.in2n.render
        passes = [name for asked, name, *_ in DATA_PASSES if getattr(layer, asked)]
        make = place.request(
            shot,
            samples=max(wanted.samples, wanted.blur_samples) if shot.is_blurred else wanted.samples,
            passes=passes,
            transparent=scene.render.film_transparent,
        )
        answer = render_worker.ask(make, first=True)
        pictures = render_worker.wait(answer, self.test_break, self._tell)
        self._hand_over(layer, pictures)
        self._stamp(chosen, answer.result)

    def _shot(self, depsgraph, place: Place) -> Shot:
        camera = self.camera_override or self._source(depsgraph, place).camera
        if camera is None or camera.type != "CAMERA":
            raise In2nError("no_camera", "The scene has no camera.", "Choose one in Scene Properties.")
        camera = camera.original
        focus = camera.data.dof.focus_object if camera.data.dof.use_dof else None
        focus_on = matrix_world(focus, depsgraph)[:3, 3] if focus is not None else None
        shot = shot_of(self._moments(depsgraph, camera, place), self._source(depsgraph, place).render, focus_on)
        poses = [one.camera_to_world for one in shot.cameras]
        still = all(np.allclose(pose, poses[0], atol=1e-7) for pose in poses)
        if len(poses) > 1 and still and len({one.intrinsics for one in shot.cameras}) == 1:
            return Shot(shot.cameras[:1], shot.lens, shot.span, shot.border, shot.aperture, shot.focus)
        return shot

    @staticmethod
    def _source(depsgraph, place: Place):
        """The scene whose camera and render settings count: a scene that is rendered for another's compositor follows
        that one, as Blender does with its size and border."""
        scene = depsgraph.scene
        return scene if place.chosen.scene == scene.original else place.chosen.scene

    def _moments(self, depsgraph, camera, place: Place) -> Iterator[Moment]:
        """The camera over the shutter; the scene is at the frame again afterwards."""
        scene, render = depsgraph.scene, self._source(depsgraph, place).render
        if not render.use_motion_blur or render.motion_blur_shutter <= 0:
            yield self._moment(depsgraph, camera, place)
            return
        frame = scene.frame_current + scene.frame_subframe
        opens = frame + SHUTTER_OPENS[render.motion_blur_position] * render.motion_blur_shutter
        try:
            for step in range(MOMENTS):
                time = opens + render.motion_blur_shutter * step / (MOMENTS - 1)
                whole = int(np.floor(time))
                self.frame_set(whole, subframe=time - whole)
                yield self._moment(depsgraph, camera, place)
        finally:
            self.frame_set(int(np.floor(frame)), subframe=frame - np.floor(frame))

    @staticmethod
    def _moment(depsgraph, camera, place: Place) -> Moment:
        capture_world = matrix_world(place.chosen.capture, depsgraph)
        return Moment(camera.evaluated_get(depsgraph), matrix_world(camera, depsgraph), capture_world)

    def _hand_over(self, layer, pictures: dict[str, np.ndarray]) -> None:
        height, width = pictures["Combined"].shape[:2]
        pictures["Combined"] = colour.scene_linear(pictures["Combined"])
        result = self.begin_result(0, 0, width, height, layer=layer.name)
        passes = result.layers[0].passes
        for name, values in pictures.items():
            found = next((one for one in passes if one.name == name), None)
            if found is not None:
                found.rect.foreach_set(np.ascontiguousarray(values[::-1], np.float32).ravel())
        self.end_result(result)

    def _stamp(self, chosen: render_settings.Chosen, answer: dict) -> None:
        """Into the metadata of the result, and of the files that it is saved to."""
        result = self.get_result()
        fields = {"Edit": chosen.name, "Instruction": chosen.instruction, "Engine": f"in2n_blender {__version__}",
                  "Device": answer["device"], "Seconds": f"{answer['seconds']:.2f}"}  # fmt: skip
        for name, value in fields.items():
            if value:
                result.stamp_data_add_field(f"IN2N {name}", value)

    def _tell(self, share: float) -> None:
        self.update_progress(share)
        self.update_stats("IN2N", f"Rendering {share:.0%}")

    def _fail(self, sentence: str) -> None:
        written_frames.fail()
        self.report({"ERROR"}, sentence)
        self.error_set(sentence)

    def view_update(self, context, depsgraph):
        """Blender draws no engine that lacks this; what has changed `view_draw` finds out by itself."""

    def view_draw(self, context, depsgraph):
        """Blender draws a viewport that is shaded as rendered."""
        if self.viewport is None:
            self.viewport = viewport_render.ViewportRender()
        self.viewport.draw(self, context, depsgraph)


CLASSES = (In2nRenderEngine,)


def _panels() -> list:
    """Blender's own panels that suit any engine: output, view layer, camera and the like."""
    unsuited = {"VIEWLAYER_PT_filter", "VIEWLAYER_PT_layer_passes", "RENDER_PT_simplify", "RENDER_PT_freestyle"}
    found = [panel for panel in _all_subclasses(bpy.types.Panel) if panel.__name__ not in unsuited]
    return [panel for panel in found if "BLENDER_RENDER" in getattr(panel, "COMPAT_ENGINES", ())]


def _all_subclasses(cls) -> Iterator[type]:
    for found in cls.__subclasses__():
        yield found
        yield from _all_subclasses(found)


def attach() -> None:
    """Let Blender's own panels show themselves for the engine."""
    for panel in _panels():
        panel.COMPAT_ENGINES.add(ENGINE)
    written_frames.attach()


def detach() -> None:
    """Take the engine out of Blender's own panels."""
    viewport_render.detach()
    written_frames.detach()
    for panel in _panels():
        panel.COMPAT_ENGINES.discard(ENGINE)
