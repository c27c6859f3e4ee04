"""Runs in a Blender with a window: the bundled capture through the whole job, with the real engine. Nothing is
recorded.

CAPTURE: the folder of a capture. IN2N_ENGINE_PYTHON: a Python with the engine's packages.
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, os.path.dirname(__file__))

import bpy
import mathutils
from acting import start
from driver import click_text, drive, log, press, redraw, shot, show_tab, type_text, until, view3d

PACKAGE = "bl_ext.user_default.in2n_blender"
CAPTURE = Path(os.environ["CAPTURE"])
INSTRUCTION = "make it look like it snowed"
FRAMES = 6
LONGEST = 1500.0  # seconds for a job, on two slow cores with other work


def jobs():
    return sys.modules[f"{PACKAGE}.blender.jobs"]


def running():
    return sys.modules[f"{PACKAGE}.blender.jobs"].current()


def picture(name):
    redraw()
    yield 1.0
    redraw()
    yield 0.5
    shot(name)


def job(name, seconds=LONGEST):
    """A picture once the job shows one of its own, then its end."""
    yield from until(lambda: not jobs().busy() or (running() and running().image), seconds, f"a picture of {name}")
    if jobs().busy():
        assert running().view in {o.in2n.photo for o in bpy.data.objects}, "the photo of the picture is named"
        yield 4.0
        yield from picture(f"{name}-at-work")
    yield from until(lambda: not jobs().busy(), seconds, f"the end of {name}")
    yield 0.5
    log(name, bpy.context.scene.in2n.status)
    yield from picture(f"{name}-done")


def demo():
    for thing in list(bpy.data.objects):
        bpy.data.objects.remove(thing)
    blend = Path(os.environ["IN2N_HOME"]).with_name("demo.blend")
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    yield from show_tab("IN2N")
    assert bpy.ops.in2n.import_capture(filepath=str(CAPTURE / "transforms.json")) == {"FINISHED"}
    settings = bpy.context.scene.in2n
    settings.preset = "draft"
    press(bpy.ops.in2n.look_through, direction="CURRENT")
    yield from picture("1-imported")
    scene = bpy.context.scene
    scene.camera = next(o for o in scene.objects if o.in2n.role == "CAMERA")  # she has none of her own
    yield from start("Reconstruct", which=1)
    yield from job("2-reconstruction")
    yield from click_text("Make it look like autumn")
    yield from type_text(INSTRUCTION)
    yield from start("Preview Grid")
    yield from job("2b-previews")
    yield from start("Start Edit")
    yield from job("3-edit")
    assert "is ready" in settings.status, settings.status
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, FRAMES
    scene.render.resolution_x = scene.render.resolution_y = 160
    yield from start("Render Frames")
    yield from job("4-frames")
    press(bpy.ops.in2n.extract_mesh)
    yield from job("5-mesh")
    (mesh,) = [o for o in bpy.data.objects if o.in2n.role == "MESH" and not o.in2n.quick]
    assert len([o for o in bpy.data.objects if o.in2n.quick]) == 2, "both scenes appeared unasked"
    assert len(mesh.data.vertices) > 1000
    edit = settings.edits[0].name
    frames = sorted((blend.with_suffix(".in2n") / "renders" / edit).glob("*/*.png"))
    assert len(frames) == FRAMES, frames
    yield from before_and_after(edit)
    bpy.ops.wm.save_mainfile()
    yield from field_in_the_viewport(scene)
    yield from composite(scene)


def before_and_after(edit: str):
    """A mesh of each, seen from beside the photos; the buttons swap them."""
    press(bpy.ops.in2n.extract_mesh, edit="original")
    yield from until(lambda: not jobs().busy(), LONGEST, "the mesh of what was photographed")
    view = view3d()[0].spaces.active
    view.region_3d.view_perspective, view.region_3d.view_distance = "PERSP", 7.0
    for number, (button, shown) in enumerate((("Before", "original"), ("After", edit))):
        yield from click_text(button)
        seen = [o for o in bpy.data.objects if o.in2n.role == "MESH" and o.visible_get()]
        assert [(o.in2n.edit, o.in2n.quick) for o in seen] == [(shown, False)], seen
        yield from picture(f"5{'bc'[number]}-{button.lower()}")


def field_in_the_viewport(scene):
    """Rendered shading of the render engine IN2N, from beside the photos; how soon a turned view is seen is told."""
    area, _main, _sidebar = view3d()
    view, viewports = area.spaces.active, sys.modules[f"{PACKAGE}.blender.viewport_render"]._viewports
    scene.render.engine, scene.view_settings.view_transform = "IN2N", "Standard"
    view.overlay.show_extras = False
    view.region_3d.view_perspective, view.region_3d.view_distance = "PERSP", 7.0
    view.shading.type = "RENDERED"
    area.tag_redraw()
    yield from until(lambda: any(v.share == 1 for v in viewports), LONGEST, "the field in the viewport")
    yield from picture("6-field-in-the-viewport")
    view.region_3d.view_rotation = mathutils.Quaternion((0, 0, 1), 0.6) @ view.region_3d.view_rotation
    began = time.monotonic()
    area.tag_redraw()
    yield 0.01
    while not any(0 < v.share < 1 for v in viewports):
        assert time.monotonic() - began < 30
        yield 0.01
    log("a turned view's first picture after", round(time.monotonic() - began, 2), "s")
    view.shading.type = "SOLID"


def composite(scene):
    """A ring round the house, half of it behind, in one render with the captured field."""
    bpy.ops.mesh.primitive_torus_add(major_radius=1.05, minor_radius=0.08, location=(0, 0, 0.45))
    bpy.ops.object.light_add(type="SUN", rotation=(0.5, 0.35, 0))
    bpy.context.object.data.energy = 1.5
    daylight(scene)
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 16, False
    scene.render.resolution_x = scene.render.resolution_y = 480
    press(bpy.ops.in2n.composite)
    bpy.context.preferences.view.render_display_type = "AREA"
    press(bpy.ops.render.render)
    yield 1.0
    yield from until(lambda: not bpy.app.is_job_running("RENDER"), LONGEST, "the composite")
    yield from picture("7-composite")


def daylight(scene):
    """A sky that lights what the sun does not reach, as out of doors."""
    scene.world = scene.world or bpy.data.worlds.new("World")
    background = next(n for n in scene.world.node_tree.nodes if n.type == "BACKGROUND")
    background.inputs["Color"].default_value = (0.35, 0.35, 0.35, 1)


drive(demo())
