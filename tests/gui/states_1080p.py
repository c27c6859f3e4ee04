"""Runs in a Blender with a window of 1920x1080: what an artist sees of a capture of portrait photos, state by state.

CAPTURE: the folder of a capture whose photos are higher than wide.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, os.path.dirname(__file__))

import bpy
from acting import (
    CAPTURE,
    answers,
    begin_reconstruction,
    finish_reconstruction,
    module,
    name_a_python,
    photos,
    pictures,
    preview_record,
    record_the_engine,
    scene,
    settled,
    snowy,
)
from driver import (
    click,
    click_text,
    drive,
    find_text,
    key,
    press,
    redraw,
    scroll,
    shot,
    show_tab,
    view3d,
)


def states():
    record_the_engine()
    bpy.context.preferences.view.ui_scale = 1.0  # as Blender comes
    for thing in list(bpy.data.objects):
        bpy.data.objects.remove(thing)
    yield from no_engine()
    name_a_python()
    blend = Path(os.environ["IN2N_HOME"]).with_name("states.blend")
    shutil.rmtree(blend.with_suffix(".in2n"), ignore_errors=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    yield from show_tab("IN2N")
    assert bpy.ops.in2n.import_capture(filepath=str(CAPTURE / "transforms.json")) == {"FINISHED"}
    press(bpy.ops.in2n.look_through, direction="CURRENT")
    yield from pictures("20-imported")
    yield from at_work()
    yield from unknown_instruction()
    yield from previews()
    yield from two_results()
    yield from agx()
    yield from missing(blend)


def no_engine():
    """No PyTorch is built for this Blender's Python, so to speak."""
    engine, environment = module("blender.engine"), module("environment")
    errors, plan = module("scene.errors"), environment.plan

    def refused(*_):
        raise errors.In2nError("wrong_python", "The engine has no build for Blender's Python 3.19.", "")

    environment.plan = refused
    engine.look_again()
    yield from show_tab("IN2N")
    press(bpy.ops.in2n.install_engine) if bpy.ops.in2n.install_engine.poll() else None
    yield from pictures("21-no-fitting-python")
    environment.plan = plan
    engine.look_again()
    yield from key("ESC")


def at_work():
    """A reconstruction: in the sidebar, with the sidebar closed, and gone when it has ended."""
    yield from begin_reconstruction(png(photos()[2], "rendered"), photos()[2].stem)
    yield from pictures("22-at-work")
    live = module("blender.live")
    assert live._picture is not None and live._picture.texture is not None, "it was drawn"
    area, _main, _sidebar = view3d()
    area.spaces.active.show_region_ui = False
    yield from pictures("23-at-work-with-the-sidebar-closed")
    area.spaces.active.show_region_ui = True
    yield 0.5
    yield from click_text("Cancel")
    yield from settled("the reconstruction")
    assert live._picture is None
    yield from pictures("24-cancelled")
    yield from finish_reconstruction()


def png(photo: Path, name: str) -> str:
    """A photo as the engine writes its pictures."""
    file = Path(os.environ["IN2N_HOME"]).with_name(f"{name}.png")
    subprocess.run(["convert", str(photo), "-resize", "512x512", str(file)], check=True)
    return str(file)


def unknown_instruction():
    scene().in2n.instruction = "make it a spaceship"
    yield from pictures("25-unknown-instruction")
    press(bpy.ops.in2n.explain_objection)
    yield from pictures("25b-unknown-instruction-explained")
    yield from key("ESC")
    yield 0.5
    scene().in2n.instruction = "make it look like it just snowed"


def previews():
    """Every picture is chosen by real clicks on it."""
    press(bpy.ops.in2n.look_through, direction="CURRENT")
    settings = scene().in2n
    looks = snowy("snowy")
    settings.preview = "unset"
    # the folder's name is made by the operator: the first try tells it
    answers(preview={})
    press(bpy.ops.in2n.preview, grid=True)
    yield from settled("the preview's name")
    record, copies = preview_record(looks)
    copies[f"previews/{settings.preview}/photo.png"] = png(photos()[0], "photo")
    answers(preview={"files": {f"previews/{settings.preview}/preview.json": record}, "copies": copies})
    press(bpy.ops.in2n.preview, grid=True)
    yield from settled("the preview")
    yield from scroll(-40)
    yield from scroll(8)
    yield from pictures("26-previews")
    yield from take("7.5 · 1.2", "Use This Guidance: 7.5 · 1.2", "27-a-picture-large")
    assert (round(settings.guidance_text, 3), round(settings.guidance_image, 3)) == (7.5, 1.2)
    assert not settings.use_default_guidance and not settings.key_view
    yield from pictures("28-its-guidance-taken")
    yield from take("5 · 1.5", "Use This Picture", "28b-another-picture-large")
    assert settings.key_view.endswith("/5-1.5.png") and round(settings.guidance_text, 3) == 5, settings.key_view
    yield from pictures("28c-the-picture-taken")


def take(below: str, choice: str, name: str):
    """Click a picture, over the button that says `below`, and then, in what opens, the picture that says `choice`."""
    before = scene().in2n.guidance_image
    for turns in (0, -40, 8, 4, 4):
        yield from scroll(turns)
        found = sorted(find_text(below, 0.9), key=lambda place: -place[1])
        if found:
            break
    x, y = found[0][:2]
    for _ in range(3):  # Blender takes the first click after a picture of the screen for the mouse's coming
        yield from click(x, y + 60)
        redraw()
        yield 1.0
        places = find_text(choice, 0.85, whole=True)
        if places:
            break
    shot(name)
    assert places and scene().in2n.guidance_image == before, "the first click shows the picture, and no more"
    yield from click(places[0][0], places[0][1] + 150)
    yield 0.5


def two_results():
    scene().in2n.note_read()
    scene().in2n.tell("“make-it-look-like-it-snowed” is ready: 24 edits in 4 min.", "Edit")
    scene().in2n.tell("The disk is full. Free some space, then start it again.", "Edit", failed=True)
    yield from pictures("29-two-unread-results")


def agx():
    scene().view_settings.view_transform = "AgX"
    yield from scroll(60)
    yield from pictures("30-agx-note")
    yield from click_text("Use Standard for This Scene")
    assert scene().view_settings.view_transform == "Standard"
    yield from pictures("31-standard")
    yield from scroll(-60)


def missing(blend):
    bpy.ops.wm.save_mainfile()
    away = blend.with_name("moved elsewhere.in2n")
    shutil.rmtree(away, ignore_errors=True)
    shutil.move(blend.with_suffix(".in2n"), away)
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    yield 1.5
    yield from show_tab("IN2N")
    yield from pictures("32-missing-workspace")
    assert bpy.ops.in2n.locate_workspace(directory=str(away)) == {"FINISHED"}
    yield 1.2
    yield from pictures("33-located")
    assert scene().in2n.workspace == str(away)


drive(states())
