"""What is lost is named, and found again: workspaces, sizes of photos, an engine that cannot be, documentation."""

import fnmatch
import shutil
from dataclasses import replace
from pathlib import Path

import bpy
import pytest
from panel_reader import Layout, Read

import in2n_blender
from in2n_blender.blender import engine, jobs, links, panels, photo_sizes, preview_cells, workspaces
from in2n_blender.blender.operators import installation
from in2n_blender.blender.operators.job import report_text
from in2n_blender.blender.scene_state import children
from in2n_blender.scene.capture import PinholeCapture, pinhole_capture
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.readers import read as read_capture
from in2n_blender.workspace import journal
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace


def panel(name) -> Read:
    return Read(getattr(panels, f"IN2N_PT_{name}"))


def reason(operator, **arguments) -> str:
    with pytest.raises(RuntimeError) as raised:
        operator(**arguments)
    return str(raised.value)


def moment():
    """Whether a folder is there is looked up once a second."""
    workspaces._is_there.cache_clear()


@pytest.fixture
def made(reconstructed, scene, capture_folder):
    """A workspace with its photos and an edit."""
    capture = pinhole_capture(read_capture(capture_folder), 512, preset="standard")
    write_json(reconstructed.capture_json, capture.to_json())
    for view in capture.views:
        file = reconstructed.root / view.image
        file.parent.mkdir(exist_ok=True)
        shutil.copy(capture_folder / "images" / f"{view.name}.png", file)
    write_json(reconstructed.edit("snow") / "edit.json", {"name": "snow", "instruction": "Make it snow"})
    write_json(reconstructed.edit("snow") / "state.json", {"done": True})
    workspaces.sync_edits(scene)
    moment()
    return reconstructed


# --- a workspace that is gone


def test_a_workspace_that_was_never_made_is_not_missing(imported, scene, recording):
    assert not workspaces.is_missing(scene) and "in2n.locate_workspace" not in panel("capture").buttons()


def test_a_missing_workspace_is_named_and_located(made, imported, scene, recording, tmp_path):
    blend = tmp_path / "a.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    elsewhere = tmp_path / "archive" / "garden moved.in2n"
    elsewhere.parent.mkdir()
    shutil.move(made.root, elsewhere)
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    moment()
    scene = bpy.context.scene
    shown = {name: panel(name) for name in ("capture", "reconstruct", "edit", "edits", "results")}
    assert f"Workspace “{made.root.name}” is missing." in shown["capture"].text
    assert "in2n.locate_workspace" in shown["capture"].buttons()
    for name in ("reconstruct", "edit"):
        assert "The workspace is missing: see Capture." in shown[name].text, name
    assert not any("Reconstruct the capture first" in read.text for read in shown.values())
    assert [edit.name for edit in scene.in2n.edits] == ["snow"], "nothing seems lost"
    assert "workspace is missing" in reason(bpy.ops.in2n.reconstruct)
    assert "workspace is missing" in reason(bpy.ops.in2n.edit, instruction="Make it snow")
    assert recording.asked == [] and not made.root.exists(), "and nothing is begun beside it"

    assert "is no workspace" in reason(bpy.ops.in2n.locate_workspace, directory=str(tmp_path / "garden"))
    assert bpy.ops.in2n.locate_workspace(directory=str(elsewhere)) == {"FINISHED"}
    moment()
    assert scene.in2n.workspace == str(elsewhere) and not workspaces.is_missing(scene)
    assert [edit.name for edit in scene.in2n.edits] == ["snow"] and "missing" not in panel("edit").text


def test_a_farm_has_the_workspace_under_another_root(made, imported, scene, tmp_path, monkeypatch):
    root = tmp_path / "mnt" / "share"
    monkeypatch.setenv("IN2N_WORKSPACE_ROOT", str(root))
    assert workspaces.resolve(imported) == made.root, "where there is none, it is where it was"
    shutil.copytree(made.root, root / made.root.name)
    assert workspaces.resolve(imported) == root / made.root.name
    shutil.rmtree(made.root)
    moment()
    assert not workspaces.is_missing(scene)


def test_the_folder_above_a_workspace_will_do(made, imported, scene, tmp_path):
    elsewhere = tmp_path / "archive" / "garden.in2n"
    elsewhere.parent.mkdir()
    shutil.move(made.root, elsewhere)
    moment()
    assert bpy.ops.in2n.locate_workspace(directory=str(elsewhere.parent)) == {"FINISHED"}
    assert scene.in2n.workspace == str(elsewhere)


def test_another_captures_workspace_is_refused(made, imported, scene, tmp_path):
    capture = PinholeCapture.load(made.capture_json)
    cameras = [view.camera for view in capture.views]
    named = tuple(replace(view, name=f"x{view.name}") for view in capture.views)
    turned = tuple(replace(view, camera=other) for view, other in zip(capture.views, cameras[3:] + cameras[:3]))
    for number, (views, words) in enumerate(((named, "photos have other names"), (turned, "cameras stand elsewhere"))):
        other = Workspace(tmp_path / f"other-{number}.in2n")
        write_json(other.capture_json, replace(capture, views=views).to_json())
        assert words in reason(bpy.ops.in2n.locate_workspace, directory=str(other.root))
        assert scene.in2n.workspace == str(made.root)


def test_a_missing_workspace_can_be_given_up(made, imported, scene, recording, tmp_path):
    shutil.move(made.root, tmp_path / "away")
    moment()
    assert "in2n.begin_anew" in panel("capture").buttons()
    assert bpy.ops.in2n.begin_anew() == {"FINISHED"}
    assert not workspaces.is_missing(scene) and len(scene.in2n.edits) == 0
    assert "in2n.reconstruct" in panel("reconstruct").buttons(enabled_only=True)
    assert (tmp_path / "away" / "capture.json").is_file()
    assert "The workspace is there" in reason(bpy.ops.in2n.begin_anew)


def test_moving_it_beside_the_blend_saves_the_file(made, imported, scene, tmp_path):
    blend = tmp_path / "day.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    assert bpy.ops.in2n.move_workspace() == {"FINISHED"}
    assert "the .blend is saved" in scene.in2n.status
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    moment()
    scene = bpy.context.scene
    assert scene.in2n.workspace == str(tmp_path / "day.in2n") and not workspaces.is_missing(scene)
    assert [edit.name for edit in scene.in2n.edits] == ["snow"]


def test_moved_without_saving_it_can_be_located(made, imported, scene, tmp_path):
    blend = tmp_path / "day.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    assert bpy.ops.in2n.move_workspace(save=False) == {"FINISHED"}
    assert "save the .blend" in scene.in2n.status
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    moment()
    scene = bpy.context.scene
    assert workspaces.is_missing(scene)
    assert bpy.ops.in2n.locate_workspace(directory=str(tmp_path)) == {"FINISHED"}
    assert scene.in2n.workspace == str(tmp_path / "day.in2n")


# --- the truth about the photos' sizes


def test_the_preset_says_what_becomes_of_the_photos(imported, scene, recording):
    assert photo_sizes.said(scene) == "Photos of 64 × 48 pixels" and "64 × 48" in panel("reconstruct").text
    scene.in2n.preset = "full"
    assert photo_sizes.said(scene) == "Photos stay 64 × 48, as imported with Standard: they are no larger"
    for camera in children(imported, "CAMERA"):
        camera.in2n.image_size = (512, 384)
    photo_sizes._common_size.cache_clear()
    assert (
        photo_sizes.said(scene)
        == "Photos stay 512 × 384, as imported with Standard: for others, import again with Full"
    )
    scene.in2n.preset = "draft"
    assert photo_sizes.said(scene).endswith("import again with Draft")


# --- an engine that cannot be


def test_without_a_fitting_python_a_sentence_leads_to_the_preferences(scene, monkeypatch):
    sentence = "There is no PyTorch for this Blender's Python."

    def refused(*_):
        raise In2nError("wrong_python", sentence, "Use another.")

    with monkeypatch.context() as without:
        without.setattr(engine.environment, "plan", refused)
        engine.look_again()
        shown = panel("capture")
        assert sentence.split(" for ")[0] in shown.text
        assert "in2n.open_preferences" in shown.buttons() and "in2n.install_engine" not in shown.buttons()
        without.setattr(installation, "_poll_packages", lambda cls: True)
        said = reason(bpy.ops.in2n.install_engine)
        assert sentence in said and "Traceback" not in said
    engine.look_again()
    assert "in2n.install_engine" in panel("capture").buttons()


# --- documentation


def test_documentation_is_that_of_the_manifest_or_the_readme(extension, monkeypatch):
    assert links.documentation().startswith(("https://", "file://"))
    base, parts = links.manual_map()
    assert base and any("in2n" in pattern for pattern, _ in parts)
    layout = Layout()
    monkeypatch.setattr(links, "website", lambda: "")
    links.draw(layout)
    assert [what[0] for _, what, _ in layout.seen] == ["in2n.show_documentation", "in2n.copy_report"]
    assert bpy.ops.in2n.show_documentation() == {"FINISHED"} == bpy.ops.in2n.show_documentation()
    (text,) = [text for text in bpy.data.texts if text.get("in2n_documentation")]
    assert text.as_string().startswith("# in2n_blender")
    monkeypatch.setattr(links, "website", lambda: "https://example.org/project")
    assert links.documentation() == "https://example.org/project#readme"
    assert links.issues() == "https://example.org/project/issues"
    layout = Layout()
    links.draw(layout)
    opened = [what[2].get("url") for _, what, _ in layout.seen]
    assert opened == [links.documentation(), links.issues(), None], "a report can be copied in any case"
    found = list(bpy.utils.manual_map())
    assert any(links.PARTS[0][0] in dict(mapping) for _, mapping in found)


def test_earlier_results_can_be_looked_at(made, scene):
    folders = lambda: [one["filepath"] for one in panel("capture").arguments("wm.path_open")]
    assert folders() == [scene.in2n.workspace]
    Workspace(scene.in2n.workspace).earlier.mkdir()
    assert folders() == [scene.in2n.workspace, str(Workspace(scene.in2n.workspace).earlier)]


def test_every_button_has_its_part_of_the_documentation(extension):
    headings = [
        line.strip("# \n") for line in links.readme().read_text(encoding="utf-8").splitlines() if line[:1] == "#"
    ]
    anchors = {heading.lower().replace(",", "").replace(" ", "-") for heading in headings}
    assert {part for _, part in links.PARTS} <= anchors
    first = lambda name: next(part for pattern, part in links.PARTS if fnmatch.fnmatchcase(name, pattern))
    operators = [f"bpy.ops.in2n.{name}" for name in dir(bpy.ops.in2n)]
    assert len(operators) > 40 and all(map(first, operators))
    assert (
        first("bpy.ops.in2n.remove_composite") == first("bpy.types.in2nrender.what") == "f12-viewport-and-compositing"
    )
    assert first("bpy.ops.in2n.import_capture") == "any-capture" and first("bpy.ops.in2n.edit") == "in-blender"


# --- previews


@pytest.fixture
def preview(imported, scene, recording, capture_folder):
    scene.in2n.instruction, scene.in2n.preview = "Make it look like it snowed", "snow-1"
    folder = Path(scene.in2n.workspace) / "previews" / "snow-1"
    folder.mkdir(parents=True)
    scales = [(text, image) for image in (1.0, 1.5) for text in (2.0, 5.0, 8.0, 9.0)]
    cells = [{"file": f"{t:g}-{i:g}.png", "guidance_text": t, "guidance_image": i} for t, i in scales]
    record = {"instruction": scene.in2n.instruction, "editor": "miniature", "view": "001", "pictures": cells}
    write_json(folder / "preview.json", record)
    for name in ("photo.png", *(cell["file"] for cell in cells)):
        shutil.copy(capture_folder / "images" / "000.png", folder / name)
    return folder


@pytest.mark.parametrize("width", [240, 280, 480, 900])
def test_cells_are_at_least_100_pixels_high(preview, scene, width):
    shown = Read(panels.IN2N_PT_edit, width=width)
    cells = [what for kind, what, _ in shown.seen if kind == "choice"]
    assert [name for name, _, _ in cells] == [preview_cells.name_of(index) for index in range(8)]
    assert all(size >= 100 and large >= 400 for _, size, large in cells), cells
    assert "Click a picture" in shown.text


def test_a_click_on_a_picture_offers_its_photo_its_guidance_and_itself(preview, scene):
    icons = preview_cells.choices(scene, 5)
    assert [choice[0] for choice in icons] == ["PHOTO", "GUIDANCE", "PICTURE"]
    assert "5 · 1.5" in icons[1][1]
    cells = bpy.context.window_manager.in2n_previews
    cells.cell_5 = "PHOTO"
    assert scene.in2n.use_default_guidance and not scene.in2n.key_view, "the photo is there to look at"
    cells.cell_5 = "GUIDANCE"
    settings = scene.in2n
    assert (settings.guidance_text, settings.guidance_image) == (5.0, 1.5) and not settings.key_view
    assert not settings.use_default_guidance
    cells.cell_6 = "PICTURE"
    assert settings.key_view == "snow-1/8-1.5.png" and settings.guidance_text == 8.0
    assert cells.cell_0 == "GUIDANCE", "what the cell itself shows is the edited picture"
    assert preview_cells.choices(scene, 30) == [("NONE", "", "", 0, 0)] and not jobs.busy()


def test_every_picture_that_a_preview_can_have_has_a_cell(extension):
    cells = bpy.context.window_manager.in2n_previews.bl_rna.properties
    assert sum(name.startswith("cell_") for name in cells.keys()) == preview_cells.MOST == 64


def test_a_report_says_what_helps_and_not_whose_home_it_is(imported, scene, recording, monkeypatch):
    root = Path(scene.in2n.workspace)
    log = root / journal.LOG_NAME
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("\n".join(f"line {number}" for number in range(100)), encoding="utf-8")
    text = report_text(bpy.context)
    assert bpy.app.version_string in text and in2n_blender.__version__ in text and scene.in2n.status in text
    assert "line 99" in text and "line 0\n" not in text
    scene.in2n.instruction, scene.in2n.seed = "Make it snow", 31
    assert "instruction 'Make it snow'" in report_text(bpy.context) and "seed 31" in report_text(bpy.context)
    monkeypatch.setattr("pathlib.Path.home", lambda: root.parent)
    hidden = report_text(bpy.context)
    assert str(root.parent) not in hidden and "~" in hidden
    assert bpy.ops.in2n.copy_report() == {"FINISHED"}
