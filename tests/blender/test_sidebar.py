"""The sidebar's buttons: previews and their guidance, instructions, presets, the list of edits, placing the capture."""

import ast
import json
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from mathutils import Matrix, Vector
from panel_reader import Read
from PIL import Image

import in2n_blender
from in2n_blender.blender import (
    alignment,
    instructions,
    jobs,
    operators,
    panels,
    pictures,
    scene_state,
    settings,
    translations,
)
from in2n_blender.blender.panels.base import what_is_missing
from in2n_blender.blender.scene_state import active_edit
from in2n_blender.link.requests import PreviewGrid
from in2n_blender.models import catalogue
from in2n_blender.scene.capture import pinhole_capture
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.readers import read as read_capture
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace


@pytest.fixture
def workspace(imported, scene, capture_folder):
    """The normalised garden with two edits: "snow" is finished and has edited photos, "gold" was interrupted."""
    made = Workspace(scene.in2n.workspace)
    capture = pinhole_capture(read_capture(capture_folder), 512, preset="standard")
    write_json(made.capture_json, capture.to_json())
    (made.root / "reconstruction").mkdir()
    (made.root / "reconstruction" / "checkpoint.safetensors").touch()
    write_json(made.reconstruction / "state.json", {"done": True})
    for view in capture.views:
        picture(made.root / view.image, 90)
    for name in ("snow", "gold"):
        folder = made.edit(name)
        write_json(
            folder / "edit.json",
            {
                "name": name,
                "instruction": f"Make it {name}",
                "editor": "miniature",
                "guidance_text": 2.5,
                "guidance_image": 1.25,
                "seed": 4,
                "rounds": 3,
                "preset": "draft",
                "noise_schedule": "uniform",
                "perceptual": "auto",
                "parent": None,
                "region": None,
            },
        )
        write_json(folder / "state.json", {"done": name == "snow"})
        for view in capture.views[:2] if name == "snow" else ():
            picture(folder / "dataset" / f"{view.name}.png", 200)
    from in2n_blender.blender import workspaces

    workspaces.sync_edits(scene)
    workspaces.select_edit(scene, "snow")
    return made


def picture(file: Path, grey: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((48, 64, 3), grey, np.uint8)).save(file)


def reason(operator, **arguments) -> str:
    with pytest.raises(RuntimeError) as raised:
        operator(**arguments)
    return str(raised.value)


def photos_shown(capture) -> dict[str, str]:
    found = {}
    for camera in scene_state.children(capture, "CAMERA"):
        (background,) = [b for b in camera.data.background_images if b.image.get("in2n_photo")]
        found[camera.in2n.photo] = Path(bpy.path.abspath(background.image.filepath)).parent.name
    return found


# --- what the panels show


def read_all() -> dict[str, Read]:
    return {
        name: Read(getattr(panels, f"IN2N_PT_{name}"))
        for name in ("capture", "reconstruct", "edit", "edits", "results")
    }


def test_an_empty_file_shows_where_to_begin(scene):
    shown = read_all()
    assert "engine is not installed" in shown["capture"].text and "in2n.import_capture" in shown["capture"].buttons()
    for name in ("reconstruct", "edit", "edits", "results"):
        assert "Import a capture first." in shown[name].text, name
    assert shown["edit"].count("prop") == 0 and shown["edit"].buttons() == ["in2n.edit"], "greyed out, and no more"


def test_an_imported_capture_opens_the_next_step(imported, scene, recording):
    shown = read_all()
    assert (
        "6 photos" in shown["capture"].text
        and "not installed" not in shown["capture"].text
        and "in2n.show_missing" in shown["capture"].buttons()
    )
    assert {"in2n.set_up", "in2n.set_ground", "in2n.set_scale"} <= set(shown["capture"].buttons())
    assert "first" not in shown["reconstruct"].text and shown["reconstruct"].buttons() == ["in2n.reconstruct"]
    assert "Reconstruct the capture first." in shown["edit"].text and "in2n.preview" in shown["edit"].buttons()
    assert "in2n.preview" not in shown["edit"].buttons(enabled_only=True), (
        "there is nothing to preview without an instruction"
    )
    scene.in2n.instruction = "Make it snow"
    assert "in2n.preview" in Read(panels.IN2N_PT_edit).buttons(enabled_only=True)


def test_the_editors_own_guidance_is_told_in_numbers(imported, scene, recording):
    assert "Text 1 · Image 1" in Read(panels.IN2N_PT_edit).text
    scene.in2n.editor = "timbrooks/instruct-pix2pix"
    assert "Text 7.5 · Image 1.5" in Read(panels.IN2N_PT_edit).text
    scene.in2n.use_default_guidance = False
    assert ("prop", "guidance_text", True) in Read(panels.IN2N_PT_edit).seen


def test_the_grid_grows_picture_by_picture(imported, scene, recording):
    scene.in2n.preview = "snow-1"
    folder = Path(scene.in2n.workspace) / "previews" / "snow-1"
    cells = [
        {"file": f"{t}-{i}.png", "guidance_text": t, "guidance_image": i} for i in (1.0, 1.5) for t in (2.0, 5.0, 8.0)
    ]
    write_json(folder / "preview.json", {"instruction": "Make it snow", "view": "001", "pictures": cells})
    bpy.ops.in2n.use_guidance(guidance_text=5.0, guidance_image=1.5)
    for made, cell in enumerate(cells):
        shown = Read(panels.IN2N_PT_edit)
        assert (
            shown.count("choice") == made
            and len(shown.arguments("in2n.use_guidance")) == 6
            and shown.count("pressed") == 1
        )
        picture(folder / cell["file"], 10)
    assert "“Make it snow”" in shown.text and "On 001." in shown.text
    assert shown.arguments("in2n.use_guidance")[1] == {"guidance_text": 5.0, "guidance_image": 1.0}
    write_json(folder / "preview.json", {"pictures": [{"file": "x"}, {}]})
    assert Read(panels.IN2N_PT_edit).count("choice") == 0, "a damaged record shows nothing"


def test_a_running_job_is_shown_in_its_own_step(workspace, scene, recording, window, monkeypatch):
    def wait(report):
        report.artifact("image", workspace.edit("snow") / "preview.png")
        while True:
            report.progress(5, 20, "views", "Editing")
            time.sleep(0.01)

    for label, name in (
        ("Reconstruct", "reconstruct"),
        ("Edit", "edit"),
        ("Extract Mesh", "results"),
        ("Install Engine", "capture"),
    ):
        job = window.begin(label, wait)
        window(lambda job=job: job.image is not None and job.progress is not None)
        shown = read_all()
        assert [step for step in shown if "in2n.cancel" in shown[step].buttons()] == [name]
        assert shown[name].count("picture") == 0, "it is in the viewport"
        with monkeypatch.context() as without:
            without.setattr(settings, "live_picture", lambda: False)
            assert Read(getattr(panels, f"IN2N_PT_{name}")).count("picture") == 1
        bpy.ops.in2n.cancel()
        window(lambda: not jobs.busy())


def test_the_list_shows_what_is_selected(workspace, scene, recording):
    shown = read_all()
    assert "“Make it snow”" in shown["edits"].text and "Text 2.5 · Image 1.25 · Seed 4" in shown["edits"].text
    assert "in2n.continue_edit" not in shown["edits"].buttons() and shown["edits"].count("prop") == 3
    assert "Of the unedited capture" in shown["results"].text and shown["results"].arguments("in2n.render_path") == [
        {"edit": "original"}
    ]
    scene.in2n.shown, scene.in2n.active_edit = "AFTER", 1
    picture(workspace.renders("gold", "Shot") / "0001.png", 10)
    shown = read_all()
    assert "in2n.continue_edit" in shown["edits"].buttons() and "Of “gold”" in shown["results"].text
    assert shown["results"].arguments("in2n.extract_mesh") == [{"edit": "gold"}]
    loads = shown["results"].arguments("in2n.load_frames")
    assert loads == [{"edit": "gold", "name": "Shot"}] * 2, "a button, and a menu of other ways"


def test_panels_are_drawn_however_narrow(workspace, scene, recording):
    scene.in2n.tell("A sentence about how it went " * 2, "Edit")
    narrow, wide = Read(panels.IN2N_PT_edit, width=40), Read(panels.IN2N_PT_edit, width=900)
    assert "in2n.show_told" in narrow.buttons() and "in2n.show_told" not in wide.buttons()
    assert "A sentence about how it went A sentence about how it went" in wide.text and narrow.height >= wide.height


# --- guidance previews


def test_a_preview_asks_for_the_photo_looked_through(imported, scene, recording, capture_folder):
    recording.answers(preview={"result": {"pictures": [1] * 12}})
    scene.in2n.instruction = "Make it snow"
    bpy.ops.in2n.look_through(direction="NEXT")
    assert bpy.ops.in2n.preview() == {"FINISHED"}
    first, asked = recording.asked
    assert first["method"] == "import" and asked["method"] == "preview", "it needs no reconstruction, but the photos"
    assert (
        asked["view"] == scene.camera.in2n.photo
        and asked["grid"]
        and asked["text_scales"] is None
        and asked["instruction"] == "Make it snow"
    )
    assert scene.in2n.preview == PreviewGrid(workspace="", instruction="Make it snow", view=asked["view"]).folder_name
    assert scene.in2n.status.startswith("12 previews") and scene.in2n.status_of == "Preview"


def test_one_preview_is_made_with_the_guidance_that_is_set(imported, scene, recording):
    bpy.ops.in2n.use_guidance(guidance_text=4.0, guidance_image=1.6)
    bpy.ops.in2n.preview(instruction="Make it snow", grid=False)
    asked = recording.asked[-1]
    assert not asked["grid"] and asked["text_scales"] == [4.0] and asked["image_scales"] == pytest.approx([1.6])
    bpy.ops.in2n.preview(instruction="Make it snow", text_scales="5, 7.5 10", image_scales="1.3")
    assert recording.asked[-1]["text_scales"] == [5.0, 7.5, 10.0] and recording.asked[-1]["image_scales"] == [1.3]
    assert "is not a list of numbers" in reason(bpy.ops.in2n.preview, instruction="x", text_scales="many")
    assert "instruction is empty" in reason(bpy.ops.in2n.preview)


def test_clicking_a_picture_takes_its_guidance_over(workspace, scene, recording):
    bpy.ops.in2n.use_guidance(guidance_text=2.5, guidance_image=1.25)
    assert not scene.in2n.use_default_guidance
    bpy.ops.in2n.edit(instruction="Make it snow")
    assert (recording.asked[0]["guidance_text"], recording.asked[0]["guidance_image"]) == (2.5, 1.25)


def test_what_is_previewed_is_what_one_gets(workspace, scene, recording):
    """The picture that was chosen begins the edit, as long as instruction, model and method are those it is of."""
    scene.in2n.instruction, scene.in2n.preview = "Make it snow", "snow-1"
    folder = Path(scene.in2n.workspace) / "previews" / "snow-1"
    cells = [{"file": f"{t}.png", "guidance_text": t, "guidance_image": 1.0} for t in (2.0, 5.0)]
    record = {"instruction": "Make it snow", "editor": "miniature", "view": "001", "pictures": cells}
    write_json(folder / "preview.json", record)
    for cell in cells:
        picture(folder / cell["file"], 10)
    assert Read(panels.IN2N_PT_edit).arguments("in2n.use_picture")[1] == {
        "file": "5.0.png", "guidance_text": 5.0, "guidance_image": 1.0,
    }  # fmt: skip
    asked = lambda: (bpy.ops.in2n.edit(), recording.asked[-1])[1]
    assert asked()["key_view"] is None

    bpy.ops.in2n.use_picture(file="5.0.png", guidance_text=5.0, guidance_image=1.0)
    assert "Begins with this picture" in Read(panels.IN2N_PT_edit).text
    edit = asked()
    assert edit["key_view"] == str(folder / "5.0.png") and edit["editing_method"] == "agreement"
    assert edit["guidance_text"] == 5.0, "made with the guidance of the picture"

    for change in (
        {"instruction": "Make it night"},
        {"editor": "timbrooks/instruct-pix2pix"},
        {"editing_method": "faithful"},
    ):
        before = {name: getattr(scene.in2n, name) for name in change}
        for name, value in change.items():
            setattr(scene.in2n, name, value)
        assert "Begins with this picture" not in Read(panels.IN2N_PT_edit).text and asked()["key_view"] is None
        for name, value in before.items():
            setattr(scene.in2n, name, value)
    assert asked()["key_view"]
    bpy.ops.in2n.use_picture(file="")
    assert asked()["key_view"] is None


# --- instructions


def test_instructions_are_remembered_newest_first_in_every_file(workspace, scene, recording, home):
    for text in ("Make it snow", "Make it gold", "make it SNOW"):
        bpy.ops.in2n.preview(instruction=text)
    bpy.ops.in2n.edit(instruction="Make it night")
    assert instructions.history() == ["Make it night", "make it SNOW", "Make it gold"]
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert instructions.history()[0] == "Make it night"
    bpy.ops.in2n.clear_history()
    assert instructions.history() == []
    assert "No instruction was used yet" in reason(bpy.ops.in2n.clear_history)


def test_a_history_that_cannot_be_written_or_read_stops_nobody(extension, home):
    home.mkdir()
    for content in ("[1, 2]", "{", '{"instructions": 3}'):
        instructions.history_file().write_text(content)
        assert instructions.history() == []
        instructions.remember("Make it snow")
    instructions.history_file().unlink()
    instructions.history_file().mkdir()
    instructions.remember("Make it snow")
    assert instructions.history() == []


def test_suggestions_are_what_the_editor_knows(scene, tmp_path):
    assert "Make it look like it snowed" in instructions.suggestions("miniature")
    assert instructions.suggestions("timbrooks/instruct-pix2pix") == list(catalogue.INSTRUCT_PIX2PIX.examples)
    (tmp_path / "miniature.json").write_text(json.dumps({"instructions": [{"phrases": ["make it blue"]}]}))
    assert instructions.suggestions(str(tmp_path)) == ["Make it blue"]
    bpy.ops.in2n.set_instruction(instruction="Make it blue")
    assert scene.in2n.instruction == "Make it blue"


def test_the_field_suggests_while_typing(scene, home):
    from in2n_blender.blender.properties import _suggest_instructions

    instructions.remember("Make it Nightly")
    found = _suggest_instructions(scene.in2n, None, "night")
    assert found[0] == "Make it Nightly" and "Make it night" in found and all("night" in text.lower() for text in found)


# --- presets


def test_a_preset_keeps_the_edits_settings(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(
        bpy.utils, "user_resource", lambda kind, path="", create=False: str(made_folder(tmp_path / path))
    )
    monkeypatch.setattr(bpy.utils, "is_path_extension", lambda path: False, raising=False)
    settings = scene.in2n
    settings.editor, settings.seed, settings.use_default_guidance, settings.guidance_text = (
        "timbrooks/instruct-pix2pix",
        9,
        False,
        10.0,
    )
    assert bpy.ops.in2n.add_edit_preset(name="strong") == {"FINISHED"}
    (file,) = (tmp_path / "presets" / "in2n" / "edit").glob("*.py")
    settings.editor, settings.seed, settings.use_default_guidance, settings.guidance_text = "miniature", 0, True, 7.5
    bpy.ops.script.execute_preset(filepath=str(file), menu_idname="IN2N_PT_edit_presets")
    assert (settings.editor, settings.seed, settings.use_default_guidance, settings.guidance_text) == (
        "timbrooks/instruct-pix2pix",
        9,
        False,
        10.0,
    )


def test_presets_come_with_the_extension(scene):
    (folder,) = bpy.utils.preset_paths("in2n/edit")
    files = {file.stem: file for file in Path(folder).glob("*.py")}
    assert "Miniature" in files and len(files) > 2
    for name, file in files.items():
        bpy.ops.script.execute_preset(filepath=str(file), menu_idname="IN2N_PT_edit_presets")
        assert (scene.in2n.editor == "miniature") == (name == "Miniature")
    in2n_blender.unregister()
    assert not bpy.utils.preset_paths("in2n/edit")
    in2n_blender.register()


def made_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# --- the list of edits


def test_before_and_after_change_photos_meshes_and_frames(workspace, imported, scene):
    for name in ("original", "snow"):
        mesh = bpy.data.objects.new(name, bpy.data.meshes.new(name))
        mesh.in2n.role, mesh.in2n.edit, mesh.parent = "MESH", name, imported
        scene.collection.objects.link(mesh)
        picture(workspace.renders(None if name == "original" else name, "Scene") / "0001.png", 10)
        bpy.ops.in2n.load_frames(edit=name)
    assert scene.in2n.shown == "AFTER", "what was just loaded is shown"
    bpy.ops.in2n.compare()
    bpy.ops.in2n.compare()
    assert scene.in2n.shown == "AFTER" and scene.in2n.shown_edit == "snow"
    assert [n for n, place in photos_shown(imported).items() if place == "dataset"] == ["000", "001"], (
        "the others were not edited"
    )
    visible = {o.name: not o.hide_get() and not o.hide_render for o in scene_state.children(imported, "MESH")}
    assert visible == {"original": False, "snow": True}
    frames = {
        b.image["in2n_frames"]: b.show_background_image
        for b in scene.camera.data.background_images
        if b.image.get("in2n_frames")
    }
    assert frames == {"original/Scene": False, "snow/Scene": True}
    bpy.ops.in2n.compare()
    assert set(photos_shown(imported).values()) == {"images"}
    assert {o.name: o.hide_get() for o in scene_state.children(imported, "MESH")} == {"original": False, "snow": True}


def test_what_another_edit_made_is_hidden(workspace, imported, scene):
    mesh = bpy.data.objects.new("snow", bpy.data.meshes.new("snow"))
    mesh.in2n.role, mesh.in2n.edit, mesh.parent = "MESH", "snow", imported
    scene.collection.objects.link(mesh)
    scene.in2n.shown = "AFTER"
    assert not mesh.hide_get()
    scene.in2n.shown = "BEFORE"
    assert mesh.hide_get() and mesh.hide_render


def test_choosing_another_edit_shows_it(workspace, imported, scene):
    scene.in2n.shown = "AFTER"
    assert "dataset" in photos_shown(imported).values()
    scene.in2n.active_edit = 1
    assert scene.in2n.shown_edit == "gold" and set(photos_shown(imported).values()) == {"images"}, (
        "gold has no edited photos yet"
    )


def test_rename_in_the_list_and_by_operator(workspace, imported, scene):
    picture(workspace.renders("snow", "Scene") / "0001.png", 10)
    bpy.ops.in2n.load_frames(edit="snow")
    mesh = bpy.data.objects.new("mine", bpy.data.meshes.new("mine"))
    mesh.in2n.role, mesh.in2n.edit, mesh.parent = "MESH", "snow", imported
    scene.collection.objects.link(mesh)
    scene.in2n.edits[0].title = "First snow"
    assert [e.name for e in scene.in2n.edits] == ["First snow", "gold"] and active_edit(scene) == "First snow"
    assert mesh.in2n.edit == "First snow"
    image = next(i for i in bpy.data.images if i.get("in2n_frames"))
    assert image["in2n_frames"] == "First snow/Scene" and Path(bpy.path.abspath(image.filepath)).is_file()
    scene.in2n.edits[0].title = "gold"
    assert "The name “gold” is taken" in scene.in2n.status and scene.in2n.edits[0].title == "First snow"
    assert bpy.ops.in2n.rename_edit(edit="gold", name="silver") == {"FINISHED"}
    assert workspace.edits() == ["First snow", "silver"] and active_edit(scene) == "First snow"
    assert "cannot be used as a name" in reason(bpy.ops.in2n.rename_edit, edit="silver", name="../x")


def test_renamed_its_photos_are_still_shown(workspace, imported, scene):
    scene.in2n.shown = "AFTER"
    scene.in2n.edits[0].title = "First snow"
    shown = [b.image for c in scene_state.children(imported, "CAMERA") for b in c.data.background_images]
    assert all(Path(bpy.path.abspath(image.filepath)).is_file() for image in shown)
    assert sum("First snow" in image.filepath for image in shown) == 2 and scene.in2n.shown_edit == "First snow"


def test_photos_that_changed_on_disk_are_read_again(workspace, imported, scene, recording):
    def brightness():
        camera = scene_state.children(imported, "CAMERA")[0]
        image = next(b.image for b in camera.data.background_images if b.image.get("in2n_photo"))
        return round(255 * image.pixels[0])

    scene.in2n.shown = "AFTER"
    assert brightness() == 200
    picture(workspace.edit("snow") / "dataset" / "000.png", 40)
    bpy.ops.in2n.continue_edit(edit="snow")
    assert brightness() == 40


def test_building_on_the_selected_edit(workspace, scene, recording):
    assert "in2n.edit" not in Read(panels.IN2N_PT_edits).buttons(), "there is no instruction yet"
    scene.in2n.instruction = "Make it night"
    assert Read(panels.IN2N_PT_edits).arguments("in2n.edit") == [{"parent": "snow"}]
    bpy.ops.in2n.edit(parent="snow")
    assert [asked["parent"] for asked in recording.asked if asked["method"] == "edit"] == ["snow"]
    scene.in2n.active_edit = 1
    assert "in2n.edit" not in Read(panels.IN2N_PT_edits).buttons(), "gold is not finished"


def test_duplicate_and_remove(workspace, imported, scene):
    assert bpy.ops.in2n.duplicate_edit() == {"FINISHED"}
    assert [e.name for e in scene.in2n.edits] == ["snow", "gold", "snow-2"] and active_edit(scene) == "snow-2"
    scene.in2n.shown = "AFTER"
    assert "dataset" in photos_shown(imported).values()
    bpy.ops.in2n.remove_edit()
    assert workspace.edits() == ["snow", "gold"] and active_edit(scene) == "gold"
    bpy.ops.in2n.remove_edit(edit="snow")
    bpy.ops.in2n.remove_edit()
    assert len(scene.in2n.edits) == 0 and set(photos_shown(imported).values()) == {"images"}, (
        "what was removed is not shown"
    )
    for operator in (
        bpy.ops.in2n.remove_edit,
        bpy.ops.in2n.duplicate_edit,
        bpy.ops.in2n.rename_edit,
        bpy.ops.in2n.compare,
        bpy.ops.in2n.continue_edit,
    ):
        assert "There is no edit yet" in reason(operator)


def test_an_interrupted_edit_goes_on_with_its_own_settings(workspace, scene, recording):
    scene.in2n.instruction, scene.in2n.seed = "something else", 99
    assert bpy.ops.in2n.continue_edit(edit="gold") == {"FINISHED"}
    (asked,) = recording.asked
    wanted = {
        "name": "gold",
        "instruction": "Make it gold",
        "guidance_text": 2.5,
        "guidance_image": 1.25,
        "seed": 4,
        "rounds": 3,
        "preset": "draft",
        "noise_schedule": "uniform",
        "restart": False,
    }
    assert wanted.items() <= asked.items()
    assert scene.in2n.shown == "AFTER" and active_edit(scene) == "gold"


def test_an_edits_settings_can_be_used_again(workspace, scene):
    scene.in2n.negative_prompt = "fog"
    bpy.ops.in2n.use_edit_settings(edit="snow")
    settings = scene.in2n
    assert (settings.instruction, settings.seed, settings.preset, settings.editor) == (
        "Make it snow",
        4,
        "draft",
        "miniature",
    )
    assert (settings.guidance_text, settings.guidance_image, settings.use_default_guidance) == (2.5, 1.25, False)
    assert settings.negative_prompt == "", "that of another edit would go on unseen"
    settings.set_editor("/models/mine")
    assert settings.editor == "folder" and settings.editor_id() == "/models/mine"


def test_what_was_made_before_is_loaded_without_an_engine(workspace, imported, scene):
    for number in (4, 2, 3):
        picture(workspace.renders("snow", "Shot") / f"{number:04d}.png", 10)
    assert bpy.ops.in2n.load_frames(edit="snow") == {"FINISHED"}
    image = next(i for i in bpy.data.images if i.get("in2n_frames") == "snow/Shot")
    user = next(b for b in scene.camera.data.background_images if b.image == image).image_user
    assert (user.frame_start, user.frame_duration) == (2, 3)
    assert "No frames of “gold” were rendered yet" in reason(bpy.ops.in2n.load_frames, edit="gold")
    assert "No mesh of “snow” was made yet" in reason(bpy.ops.in2n.load_mesh)
    file = workspace.mesh("snow", ".ply")
    file.parent.mkdir()
    file.write_text(
        "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
    )
    assert bpy.ops.in2n.load_mesh() == {"FINISHED"}
    assert [m.in2n.edit for m in scene_state.children(imported, "MESH")] == ["snow"]


# --- placing


def test_up_is_the_way_the_photos_were_held(imported):
    upright = imported.matrix_world.copy()
    tilt = Matrix.Rotation(0.7, 4, (1, 0.3, 0)) @ Matrix.Translation((1, 2, 3))
    imported.matrix_world = tilt @ upright
    bpy.ops.in2n.set_up(axis="CAMERAS")
    bpy.context.view_layer.update()
    np.testing.assert_allclose(imported.matrix_world.to_3x3() @ Vector((0, 0, 1)), (0, 0, 1), atol=1e-5)
    np.testing.assert_allclose(imported.matrix_world.translation, (tilt @ upright).translation, atol=1e-5)
    for axis, direction in (("-Y", (0, -1, 0)), ("+X", (1, 0, 0))):
        bpy.ops.in2n.set_up(axis=axis)
        bpy.context.view_layer.update()
        np.testing.assert_allclose(imported.matrix_world.to_3x3() @ Vector(direction), (0, 0, 1), atol=1e-5)


def test_the_ground_is_set_by_three_objects(imported, scene):
    plane = Matrix.Rotation(0.4, 4, "X") @ Matrix.Translation((0, 0, -1.5))
    bpy.ops.object.select_all(action="DESELECT")
    for place in ((1, 0, 0), (-1, 2, 0), (0, -2, 0)):
        marker = bpy.data.objects.new("ground", None)
        scene.collection.objects.link(marker)
        marker.parent, marker.location = imported, plane @ Vector(place)
        marker.select_set(True)
    bpy.context.view_layer.update()
    assert bpy.ops.in2n.set_ground() == {"FINISHED"}
    bpy.context.view_layer.update()
    markers = [o for o in scene.objects if o.name.startswith("ground")]
    np.testing.assert_allclose([m.matrix_world.translation.z for m in markers], 0, atol=1e-5)
    assert np.mean([c.matrix_world.translation.z for c in scene_state.children(imported, "CAMERA")]) > 0, (
        "the cameras are above it"
    )
    bpy.ops.in2n.set_ground(center=True)
    bpy.context.view_layer.update()
    np.testing.assert_allclose(np.mean([m.matrix_world.translation for m in markers], 0), 0, atol=1e-5)


def test_the_ground_is_set_by_vertices_of_a_mesh_under_the_capture(imported, scene):
    mesh = bpy.data.meshes.new("points")
    mesh.from_pydata([(0, 0, -1), (1, 0, -1), (0, 1, -1), (0, 0, 3)], [], [])
    points = bpy.data.objects.new("points", mesh)
    scene.collection.objects.link(points)
    points.parent = imported
    imported.scale = (2, 2, 2)
    for vertex in mesh.vertices:
        vertex.select = vertex.index < 3
    bpy.context.view_layer.objects.active = points
    points.select_set(True)
    bpy.ops.object.mode_set(mode="EDIT")
    assert bpy.ops.in2n.set_ground() == {"FINISHED"}
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.context.view_layer.update()
    heights = [(points.matrix_world @ v.co).z for v in mesh.vertices]
    np.testing.assert_allclose(heights, (0, 0, 0, 8), atol=1e-5)


def test_scale_makes_a_distance_true(imported, scene):
    bpy.ops.object.select_all(action="DESELECT")
    first, second = scene_state.children(imported, "CAMERA")[:2]
    first.select_set(True)
    assert "A distance is between two points, 2" not in reason(bpy.ops.in2n.set_ground)
    second.select_set(True)
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.in2n.set_scale(distance=10.0) == {"FINISHED"}
    bpy.context.view_layer.update()
    assert (first.matrix_world.translation - second.matrix_world.translation).length == pytest.approx(10.0, rel=1e-5)
    assert len({round(s, 5) for s in imported.scale}) == 1
    second.select_set(False)
    scene.cursor.location = first.matrix_world.translation + Vector((0, 0, 4))
    before = imported.scale.x
    bpy.ops.in2n.set_scale(distance=2.0)
    assert imported.scale.x == pytest.approx(before / 2, rel=1e-5), "with one point, the 3D cursor is the other"


def test_placing_says_what_it_needs(imported, scene):
    bpy.ops.object.select_all(action="DESELECT")
    assert "Select three or more points" in reason(bpy.ops.in2n.set_ground)
    assert "Select two points" in reason(bpy.ops.in2n.set_scale)
    for camera in scene_state.children(imported, "CAMERA")[:3]:
        camera.select_set(True)
    assert "3 are selected" in reason(bpy.ops.in2n.set_scale, distance=1.0)
    with pytest.raises(In2nError) as raised:
        alignment.plane_through(np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2.0]]), np.zeros(3))
    assert raised.value.code == "no_plane"


def test_half_a_turn_is_a_rotation():
    for start in ((0, 0, -1), (1, 0, 0), (0.3, -0.5, 0.1)):
        rotation = alignment.rotation_between(np.array(start, float), alignment.UP)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation) == pytest.approx(1)
        np.testing.assert_allclose(rotation @ start / np.linalg.norm(start), alignment.UP, atol=1e-9)


# --- capture, files, habits


def test_missing_photos_are_listed(imported, scene, capsys):
    assert bpy.ops.in2n.show_missing() == {"FINISHED"}
    assert "006" in capsys.readouterr().out
    imported.in2n.missing = 0
    assert "No photo is missing" in reason(bpy.ops.in2n.show_missing)


def test_dropping_takes_what_captures_are_made_of(extension):
    handler = next(
        c for c in bpy.types.FileHandler.__subclasses__() if c.__name__ == "IN2N_FH_capture" and c.is_registered
    )
    assert {".json", ".bin", ".txt", ".xml", ".csv", ".sfm", ".nvm", ".out", ".npy", ".zip", ".r3d"} <= set(
        handler.bl_file_extensions.split(";")
    )
    assert bpy.ops.in2n.import_capture.get_rna_type().properties["filter_glob"].default.startswith("*.json;*.bin;")
    assert bpy.ops.in2n.import_capture.get_rna_type().properties["filepath"].subtype == "FILE_PATH"
    assert handler.bl_import_operator == "in2n.import_capture"


def test_a_status_belongs_to_its_step(imported, scene, recording, capture_folder):
    assert scene.in2n.status.startswith("Imported") and scene.in2n.status_of == "Import"
    recording.answers(
        import_={},
        reconstruct={"error": {"code": "disk_full", "message": "The disk is full.", "hint": "Free some space."}},
    )
    reason(bpy.ops.in2n.reconstruct)
    assert scene.in2n.status_of == "Reconstruct"
    bpy.ops.in2n.import_capture(filepath=str(capture_folder))
    assert scene.in2n.status_of == "Import"


def test_each_step_says_what_comes_first(scene, capture_folder, recording, monkeypatch):
    assert what_is_missing(bpy.context, False) == "Import a capture first."
    bpy.ops.in2n.import_capture(filepath=str(capture_folder))
    assert what_is_missing(bpy.context, False) == ""
    assert what_is_missing(bpy.context, True) == "Reconstruct the capture first."
    monkeypatch.setenv("IN2N_ENGINE_PYTHON", "/nowhere/python")
    assert what_is_missing(bpy.context, False) == "Install the engine first."


def test_pictures_follow_their_files(extension, tmp_path):
    file = tmp_path / "a.png"
    assert pictures.icon(file) == 0 and pictures.icon(None) == 0
    picture(file, 10)
    for changed, kept in (
        (1, 1),
        (1, 1),
        (2, 2),
    ):  # without a window Blender gives no icons: what is kept for them is counted
        os.utime(file, ns=(changed, changed))
        pictures.icon(file)
        assert len(pictures._icons) == kept
    (tmp_path / "a.json").write_text('{"x": 1}')
    assert pictures.read(tmp_path / "a.json") == {"x": 1}
    (tmp_path / "a.json").write_text("{")
    assert pictures.read(tmp_path / "a.json") == {} and pictures.read(tmp_path / "none.json") == {}
    picture(tmp_path / "b.png", 10)
    assert pictures.newest(tmp_path).name == "b.png" and pictures.newest(tmp_path / "nowhere") is None


def test_menus_offer_what_there_is(workspace, scene, recording):
    instructions.remember("Make it blue")
    everything, specials, words = (
        Read(menu) for menu in (panels.IN2N_MT_capture, panels.IN2N_MT_edit_specials, panels.IN2N_MT_instructions)
    )
    assert len(everything.buttons()) > 15 and {"in2n.preview", "in2n.remove_edit", "in2n.set_scale"} <= set(
        everything.buttons()
    )
    assert "in2n.rename_edit" in specials.buttons() and specials.arguments("wm.path_open") == [
        {"filepath": str(workspace.edit("snow"))}
    ]
    offered = [given["instruction"] for given in words.arguments("in2n.set_instruction")]
    assert offered[0] == "Make it blue" and "Make it night" in offered and "This Model Knows" in words.text


def spoken_in(file: Path) -> set[tuple[str, str]]:
    """(context, text) of what a file puts before the user's eyes: texts given to the layout and to pgettext."""
    found = set()
    for call in (n for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        arguments = {k.arg: k.value for k in call.keywords}
        context = "Operator" if name in ("operator", "big", "operator_menu_enum") else "*"
        if name in ("iface", "tip"):
            found |= {("*", text.value) for text in call.args if isinstance(text, ast.Constant)}
        elif (
            isinstance(arguments.get("text"), ast.Constant) and arguments["text"].value and "translate" not in arguments
        ):
            found.add((context, arguments["text"].value))
    return found


def test_all_that_the_sidebar_says_is_translated(extension):
    files = [*Path(panels.__file__).parent.glob("*.py"), *Path(operators.__file__).parent.glob("*.py")]
    silent = ("installation.py", "capture.py")  # dialogs that have no translation
    spoken = set().union(
        *(spoken_in(file) for file in files if file.parent.name == "panels" or file.name not in silent)
    )
    for cls in panels.CLASSES:
        if getattr(cls, "bl_label", "") and cls is not panels.IN2N_PT_edit_presets:  # named for the last preset chosen
            spoken.add(("*", cls.bl_label))
    assert len(spoken) > 40
    assert spoken - set(translations.GERMAN) == set()


def test_translations_keep_what_is_filled_in(extension):
    for (_context, text), german in translations.GERMAN.items():
        assert sorted(re.findall(r"{[^}]*}", text)) == sorted(re.findall(r"{[^}]*}", german)), text


def test_translations_come_and_go_with_the_extension(home, monkeypatch):
    """The wheels of bpy are built without languages, so what Blender is told is watched instead of what it then
    says."""
    told = []
    watched = SimpleNamespace(
        register=lambda name, words: told.append((name, set(words))),
        unregister=lambda name: told.append((name, "gone")),
    )
    monkeypatch.setattr(translations, "bpy", SimpleNamespace(app=SimpleNamespace(translations=watched)))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    in2n_blender.register()
    in2n_blender.unregister()
    assert told == [("in2n_blender", {"de"}), ("in2n_blender", "gone")]


def test_no_key_is_taken(extension):
    keymaps = bpy.context.window_manager.keyconfigs.addon.keymaps if bpy.context.window_manager.keyconfigs.addon else []
    assert not [item for keymap in keymaps for item in keymap.keymap_items if item.idname.startswith("in2n.")]
    assert not jobs.busy()
