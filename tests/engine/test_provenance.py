"""No result is taken for what it is not: other photos, another parent, other weights; and nothing is lost for it."""

import json
import shutil
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from in2n_blender.engine.diffusion.editor import Editor, OriginalLatent
from in2n_blender.engine.editing import lineage, methods
from in2n_blender.engine.editing.methods import edit
from in2n_blender.engine.nerf import checkpoint
from in2n_blender.engine.nerf.checkpoint import read_checkpoint
from in2n_blender.engine.nerf.reconstruction import reconstruct
from in2n_blender.engine.nerf.training import Trainer
from in2n_blender.link.requests import Reconstruct
from in2n_blender.models import catalogue
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Artifact, Progress, Reporter
from in2n_blender.workspace import provenance
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.hashes import checkpoint_state
from in2n_blender.workspace.layout import Workspace
from in2n_blender.workspace.provenance import Provenance, is_done, outdated
from tests.engine.ball import ring, sphere_image
from tests.engine.test_dataset_update import made, request_for, tiny  # noqa: F401 (fixtures)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(provenance, "LOOK_SECONDS", 0.0)


@pytest.fixture
def own(made, tmp_path):
    """(a workspace of the test's own, editor folder)"""
    workspace, editor = made
    for name in ("images", "reconstruction"):
        shutil.copytree(workspace / name, tmp_path / "ws" / name)
    shutil.copy(workspace / "capture.json", tmp_path / "ws")
    return Workspace(tmp_path / "ws"), editor


def reconstruct_request(workspace, **more):
    return Reconstruct(**{"workspace": str(workspace.root), "preset": "draft", "device": "cpu", "steps": 30, **more})


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def reporter_that(action, when):
    """A reporter that calls `action` at the first Progress for which `when` is true."""

    def emit(event):
        if isinstance(event, Progress) and when(event):
            action()

    return Reporter(emit)


def fail(error):
    def action():
        raise error

    return action


def as_last_version(folder, *also):
    """A result as the last version wrote it: without provenance and hashes, and what else was not there yet."""
    file, later = folder / "checkpoint.safetensors", ("provenance", "weights", *also)
    state = {key: value for key, value in checkpoint_state(folder).items() if key not in later}
    save_file(load_file(file), file, metadata={"state": json.dumps(state)})
    write_json(folder / "state.json", state)
    if (folder / "edit.json").is_file():
        record = json.loads((folder / "edit.json").read_text())
        record.pop("provenance")
        write_json(folder / "edit.json", record)


# --- reconstructions


def test_other_pixels_under_the_same_names_are_another_reconstruction(own):
    workspace, _ = own
    first = reconstruct(reconstruct_request(workspace), Reporter(cancelled=lambda: True))
    assert first["done"] and outdated(workspace, None) is None
    before = contents(workspace.reconstruction)
    photo = workspace.images / "1.png"
    Image.fromarray(255 - np.asarray(Image.open(photo))).save(photo)
    logged = []
    again = reconstruct(reconstruct_request(workspace), Reporter(logged.append))
    assert any("photos changed" in str(line) for line in logged)
    assert again["weights"] != first["weights"] and again["provenance"] != first["provenance"]
    assert contents(workspace.root / "earlier" / "reconstruction-1") == before, "the earlier one is kept whole"
    assert outdated(workspace, None) is None and is_done(workspace, None)


def test_changed_photos_are_said_to_the_panel_without_reading_them(own, monkeypatch):
    workspace, _ = own
    reconstruct(reconstruct_request(workspace), Reporter())
    monkeypatch.setattr(provenance, "file_hash", fail(AssertionError("a photo was read")))
    photo = workspace.images / "1.png"
    Image.fromarray(255 - np.asarray(Image.open(photo))).resize((9, 7)).save(photo)
    assert outdated(workspace, None) == "The photos changed after this was made."


def test_the_earlier_reconstruction_stays_until_the_new_one_has_something_to_show(own):
    workspace, _ = own
    before = contents(workspace.reconstruction)
    for steps in (4, 5):
        with pytest.raises(KeyboardInterrupt):
            interrupt = reporter_that(fail(KeyboardInterrupt()), lambda event: event.unit == "step")
            reconstruct(reconstruct_request(workspace, steps=steps), interrupt)
        assert contents(workspace.reconstruction) == before and is_done(workspace, None)
    with pytest.raises(Cancelled):
        cancel = reporter_that(fail(Cancelled()), lambda event: event.unit == "step" and event.done == 2)
        reconstruct(reconstruct_request(workspace, steps=5), cancel)
    assert checkpoint_state(workspace.reconstruction)["step"] == 2 and not is_done(workspace, None)
    assert contents(workspace.root / "earlier" / "reconstruction-1") == before


def test_with_restart_the_earlier_one_goes_when_the_new_one_is_done(own):
    workspace, _ = own
    before = contents(workspace.reconstruction)
    replaced = workspace.root / "earlier" / "replaced" / "reconstruction"
    for _ in range(2):
        with pytest.raises(Cancelled):
            cancel = reporter_that(fail(Cancelled()), lambda event: event.unit == "step" and event.done == 2)
            reconstruct(reconstruct_request(workspace, restart=True, steps=6), cancel)
        assert contents(replaced) == before, "what was done, not what was cancelled"
    assert reconstruct(reconstruct_request(workspace, steps=6), Reporter())["done"]
    assert not (workspace.root / "earlier").exists() and is_done(workspace, None)
    assert not list(workspace.root.glob(".making-*"))


def test_a_kill_between_the_renames_is_settled(own):
    workspace, _ = own
    reconstruct(reconstruct_request(workspace), Reporter())
    workspace.reconstruction.rename(workspace.root / ".making-reconstruction")
    logged = []
    assert reconstruct(reconstruct_request(workspace), Reporter(logged.append))["done"] and not logged


def test_a_reconstruction_of_the_last_version_counts_and_is_not_called_outdated(own):
    workspace, _ = own
    as_last_version(workspace.reconstruction)
    logged = []
    assert reconstruct(reconstruct_request(workspace), Reporter(logged.append))["done"] and not logged
    assert outdated(workspace, None) is None and is_done(workspace, None)
    reconstruct(reconstruct_request(workspace, seed=5), Reporter(logged.append))
    assert any("starts anew" in str(line) for line in logged)


def test_a_half_done_reconstruction_of_the_last_version_is_gone_on_with(own):
    workspace, _ = own
    with pytest.raises(Cancelled):
        cancel = reporter_that(fail(Cancelled()), lambda event: event.unit == "step" and event.done == 7)
        reconstruct(reconstruct_request(workspace, seed=3), cancel)
    as_last_version(workspace.reconstruction)
    steps = []
    reporter_events = Reporter(lambda e: steps.append(e.done) if isinstance(e, Progress) and e.unit == "step" else None)
    assert reconstruct(reconstruct_request(workspace, seed=3), reporter_events)["done"] and min(steps) == 7


def test_a_reconstruction_shows_pictures_while_it_trains(own, monkeypatch):
    """Each time that 15 seconds are over, where every look at the clock takes one."""
    workspace, _ = own
    seconds, shown, measured = count(), [], []
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))

    def emit(event):
        if isinstance(event, Artifact) and event.kind == "image" and not measured:
            assert Image.open(event.path).size == (24, 16)
            shown.append(event.view)
        elif isinstance(event, Progress) and event.done == event.total == 30:
            measured.append(event.message)

    reconstruct(reconstruct_request(workspace, seed=5), Reporter(emit))
    assert measured and len(shown) >= 3 and set(shown) == {"4"}, "the photo that is held out"


def test_a_run_that_fails_is_saved(own):
    workspace, _ = own
    with pytest.raises(ZeroDivisionError):
        failing = reporter_that(fail(ZeroDivisionError()), lambda event: event.unit == "step" and event.done == 9)
        reconstruct(reconstruct_request(workspace, seed=4), failing)
    assert checkpoint_state(workspace.reconstruction)["step"] == 9


def test_a_diverged_run_leaves_the_last_good_checkpoint(own, monkeypatch):
    workspace, _ = own
    with pytest.raises(Cancelled):
        cancel = reporter_that(fail(Cancelled()), lambda event: event.unit == "step" and event.done == 5)
        reconstruct(reconstruct_request(workspace, seed=6), cancel)
    before = contents(workspace.reconstruction)
    step = Trainer.step

    def diverging(trainer):
        loss = step(trainer)
        if trainer.step_count == 8:
            next(iter(trainer.model.parameters())).data.mul_(float("nan"))
        return loss

    monkeypatch.setattr(Trainer, "step", diverging)
    with pytest.raises(In2nError) as raised:
        reconstruct(reconstruct_request(workspace, seed=6), Reporter())
    assert raised.value.code == "diverged" and raised.value.hint
    after = contents(workspace.reconstruction)
    assert all(after[name] == before[name] for name in ("checkpoint.safetensors", "state.json"))


@pytest.mark.parametrize("far", [1e60, 1e308])
def test_cameras_too_far_apart_are_an_error_and_spoil_nothing(own, far):
    workspace, _ = own
    before = contents(workspace.reconstruction)
    capture = json.loads(workspace.capture_json.read_text())
    capture["views"][0]["camera_to_world"][0][3] = far
    write_json(workspace.capture_json, capture)
    with pytest.raises(In2nError) as raised:
        reconstruct(reconstruct_request(workspace), Reporter())
    assert raised.value.code == "bad_capture" and contents(workspace.reconstruction) == before


# --- edits


def test_a_record_beside_another_edits_checkpoint_is_not_its_result(own):
    """An edit that was begun anew and killed before its first save, by the last version and by this one."""
    workspace, editor = own
    for name, last in (("new", False), ("last", True)):
        sunset = request_for(workspace.root, editor, name, rounds=1)
        night = request_for(workspace.root, editor, name, rounds=1, seed=8, restart=True)
        edit(night, Reporter())
        record = (workspace.edit(name) / "edit.json").read_bytes()
        edit(request_for(workspace.root, editor, name, rounds=1, restart=True), Reporter())
        (workspace.edit(name) / "edit.json").write_bytes(record)
        if last:
            as_last_version(workspace.edit(name))
        old = checkpoint_state(workspace.edit(name))
        assert old["seed"] == 7 and old["done"] and not is_done(workspace, name)
        state = edit(request_for(workspace.root, editor, name, rounds=1, seed=8), Reporter())
        assert state["seed"] == 8 and checkpoint_state(workspace.edit(name))["seed"] == 8
        assert is_done(workspace, name)
        with pytest.raises(In2nError) as refused:
            edit(sunset, Reporter())
        assert refused.value.code == "edit_exists"


def test_an_edit_restarted_and_killed_before_its_first_save_is_done_anew_by_the_same_command(own):
    workspace, editor = own
    edit(request_for(workspace.root, editor, "x", rounds=1), Reporter())
    before = contents(workspace.edit("x"))
    other = request_for(workspace.root, editor, "x", rounds=1, seed=8, restart=True)
    with pytest.raises(KeyboardInterrupt):
        edit(other, reporter_that(fail(KeyboardInterrupt()), lambda event: event.unit == "step"))
    assert contents(workspace.edit("x")) == before and is_done(workspace, "x"), "still the earlier edit"
    state = edit(request_for(workspace.root, editor, "x", rounds=1, seed=8), Reporter())
    assert state["seed"] == 8 and is_done(workspace, "x") and not (workspace.root / "earlier").exists()
    with pytest.raises(In2nError) as refused:
        edit(request_for(workspace.root, editor, "x", rounds=1, seed=9), Reporter())
    assert refused.value.code == "edit_exists", "another edit is not meant by that command"


def test_an_edit_whose_parent_was_made_again_is_outdated(own):
    workspace, editor = own
    edit(request_for(workspace.root, editor, "A", rounds=1), Reporter())
    on_a = request_for(workspace.root, editor, "B", rounds=1, parent="A")
    first = edit(on_a, Reporter())
    assert outdated(workspace, "B") is None
    edit(request_for(workspace.root, editor, "A", rounds=1, seed=9, restart=True), Reporter())
    assert outdated(workspace, "B") == "“A”, which it builds on, was made again." and outdated(workspace, "A") is None
    with pytest.raises(In2nError) as refused:
        edit(on_a, Reporter())
    assert refused.value.code == "edit_exists" and "“A”, which it builds on, was made again" in refused.value.message
    assert checkpoint_state(workspace.edit("B"))["weights"] == first["weights"], "kept"
    again = edit(request_for(workspace.root, editor, "B", rounds=1, parent="A", restart=True), Reporter())
    assert again["weights"] != first["weights"] and outdated(workspace, "B") is None


def test_an_edit_of_an_earlier_reconstruction_is_outdated(own):
    workspace, editor = own
    request = request_for(workspace.root, editor, "x", rounds=1)
    edit(request, Reporter())
    reconstruct(reconstruct_request(workspace, seed=1), Reporter())
    assert outdated(workspace, "x") == "Made from an earlier reconstruction." and is_done(workspace, "x")
    with pytest.raises(In2nError) as refused:
        edit(request, Reporter())
    assert refused.value.code == "edit_exists" and "earlier reconstruction" in refused.value.message
    with pytest.raises(In2nError) as refused:
        edit(request_for(workspace.root, editor, "y", rounds=1, parent="x"), Reporter())
    assert refused.value.code == "other_reconstruction"


def test_other_weights_of_the_editor_are_another_edit(own, tmp_path):
    workspace, editor = own
    shutil.copytree(editor, tmp_path / "editor")
    request = request_for(workspace.root, tmp_path / "editor", "x", rounds=1)
    edit(request, Reporter())
    weights = tmp_path / "editor" / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: value * 1.01 for name, value in load_file(weights).items()}, weights)
    with pytest.raises(In2nError) as refused:
        edit(request, Reporter())
    assert refused.value.code == "edit_exists" and "other weights" in refused.value.message


def test_another_version_of_the_engine_is_said(own, monkeypatch):
    workspace, editor = own
    edit(request_for(workspace.root, editor, "x", rounds=1), Reporter())
    monkeypatch.setattr(provenance, "NUMERIC_VERSION", provenance.NUMERIC_VERSION + 1)
    assert outdated(workspace, "x") == "Made by another version of the engine."


def test_an_edit_of_the_last_version_counts_is_built_upon_and_renamed(own):
    workspace, editor = own
    for name, parent in (("A", None), ("B", "A")):
        edit(request_for(workspace.root, editor, name, rounds=1, parent=parent), Reporter())
    for folder in (workspace.reconstruction, workspace.edit("A"), workspace.edit("B")):
        as_last_version(folder)
    stop = Reporter(cancelled=lambda: True)
    for name, parent in (("A", None), ("B", "A")):
        assert edit(request_for(workspace.root, editor, name, rounds=1, parent=parent), stop)["done"]
        assert outdated(workspace, name) is None and is_done(workspace, name)
    assert edit(request_for(workspace.root, editor, "C", rounds=1, parent="A"), Reporter())["done"]
    assert outdated(workspace, "C") is None


def test_a_half_done_edit_of_the_last_version_is_gone_on_with(own):
    workspace, editor = own
    request = request_for(workspace.root, editor, "x", rounds=1)
    with pytest.raises(Cancelled):
        edit(request, reporter_that(fail(Cancelled()), lambda event: event.unit == "step" and event.done == 15))
    as_last_version(workspace.edit("x"))
    steps = []
    reporter = Reporter(lambda event: steps.append(event.done) if isinstance(event, Progress) else None)
    assert edit(request, reporter)["done"] and min(steps) == 15


def found(workspace, record, noted, state):
    """What is gone on with where a record lies beside a checkpoint that says this of itself."""
    folder = workspace.edit(record["name"])
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "edit.json", noted)
    save_file({}, folder / "checkpoint.safetensors", metadata={"state": json.dumps(state)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lineage, "read_checkpoint", checkpoint_state)  # without a model
        return lineage.checkpoint_to_go_on_from(workspace, record, restart=False)


def test_the_record_of_what_is_gone_on_with_is_written_again(tmp_path):
    """Where another was begun in its place and stopped before its first save."""
    sunset, night = (Provenance("edit", {"seed": seed}, {}).to_json() for seed in (7, 8))
    record = {"name": "x", "parent": None, "seed": 7, "provenance": sunset}
    workspace = Workspace(tmp_path)
    assert found(workspace, record, {**record, "seed": 8, "provenance": night}, {"provenance": sunset})
    assert json.loads((workspace.edit("x") / "edit.json").read_text()) == record
    with pytest.raises(In2nError) as refused:
        found(workspace, record, {**record, "seed": 8, "provenance": night}, {"provenance": night})
    assert refused.value.message == "There already is an edit named “x”: made with other settings."


@pytest.mark.parametrize("name_now, known", [("dusk", True), ("dawn", False), ("night", False)])
def test_the_parent_of_an_edit_of_the_last_version_is_known_again_by_its_new_name(tmp_path, name_now, known):
    """Its checkpoint says "evening", which was renamed to "dusk", as its record says."""
    record = {"name": "x", "parent": name_now, "seed": 7, "provenance": None}
    noted = {**record, "parent": "dusk"}
    if known:
        assert found(Workspace(tmp_path), record, noted, {**record, "parent": "evening"})
    else:
        with pytest.raises(In2nError) as refused:
            found(Workspace(tmp_path), record, noted, {**record, "parent": "evening"})
        assert refused.value.code == "edit_exists"


class UnchangingEditor(Editor):
    """Gives the original photo back, over white as it came."""

    model = replace(catalogue.INSTRUCT_PIX2PIX, id="unchanging")

    def prepare(self, instruction, negative_prompt=""):
        pass

    def encode_original(self, image):
        return OriginalLatent(image, tuple(image.shape[-2:]))

    def edit(self, render, original, **_):
        return original.latent

    def distillation_loss(self, render, original, **_):
        raise NotImplementedError


@pytest.fixture
def unchanging(monkeypatch):
    editor = UnchangingEditor()
    monkeypatch.setattr(methods, "load_editor", lambda *_: editor)
    return editor


def test_an_edit_of_a_photo_with_alpha_keeps_straight_colour(tmp_path, unchanging):
    """A dark ball with a soft rim: an edit that changes nothing leaves its colour as it is, not paled by the white."""
    workspace, views, photos = Workspace(tmp_path), [], []
    workspace.images.mkdir()
    for index, camera in enumerate(ring(4)):
        color = np.round(sphere_image(camera) * 100).astype(np.uint8)
        down, right = np.mgrid[-1 : 1 : color.shape[0] * 1j, -1 : 1 : color.shape[1] * 1j]
        alpha = np.round(255 * np.clip(1.6 - 2 * np.hypot(down, right), 0, 1)).astype(np.uint8)
        photos.append(np.dstack([color, alpha]))
        Image.fromarray(photos[-1]).save(workspace.images / f"{index}.png")
        views.append(View(str(index), f"images/{index}.png", camera))
    write_json(workspace.capture_json, PinholeCapture("ball", "", "draft", tuple(views)).to_json())
    reconstruct(reconstruct_request(workspace, steps=3), Reporter())
    for name, parent in (("once", None), ("twice", "once")):
        edit(request_for(tmp_path, "unchanging", name, rounds=1, parent=parent), Reporter())
        dataset = read_checkpoint(workspace.edit(name))[0]["dataset"].numpy()
        for index, photo in enumerate(photos):
            size = photo.shape[0] * photo.shape[1]
            edited = dataset[index * size : (index + 1) * size].reshape(photo.shape).astype(int)
            rim = (photo[..., 3] > 50) & (photo[..., 3] < 250)
            assert rim.sum() > 20 and (edited[..., 3] == photo[..., 3]).all()
            assert np.abs(edited - photo)[photo[..., 3] > 50].max() <= 4, name


def test_an_editor_that_gives_no_numbers_is_an_error_and_spoils_nothing(own, unchanging):
    workspace, _ = own
    edit(request_for(workspace.root, "unchanging", "x", rounds=1), Reporter())
    before = contents(workspace.edit("x"))
    unchanging.edit = lambda render, original, **_: original.latent * float("nan")
    with pytest.raises(In2nError) as raised:
        edit(request_for(workspace.root, "unchanging", "x", rounds=1, seed=8, restart=True), Reporter())
    assert raised.value.code == "not_finite" and raised.value.hint
    assert contents(workspace.edit("x")) == before and is_done(workspace, "x")


def test_an_edit_of_weights_that_are_no_numbers_is_an_error(own, unchanging):
    workspace, _ = own
    file = workspace.reconstruction / "checkpoint.safetensors"
    state = checkpoint_state(workspace.reconstruction)
    tensors = {name: value * torch.nan for name, value in load_file(file).items()}
    save_file(tensors, file, metadata={"state": json.dumps(state)})
    unchanging.edit = lambda render, original, **_: render
    with pytest.raises(In2nError) as raised:
        edit(request_for(workspace.root, "unchanging", "x", rounds=1), Reporter())
    assert raised.value.code == "bad_checkpoint" and not is_done(workspace, "x")
