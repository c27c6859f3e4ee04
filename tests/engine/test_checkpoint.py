"""Checkpoints: what is read owns its memory, what is damaged is named, and work that ends early is saved."""

import inspect
import json
import math
import random
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from in2n_blender.engine.nerf import checkpoint
from in2n_blender.engine.nerf import scene as scene_module
from in2n_blender.engine.nerf.checkpoint import Saver, read_checkpoint, save_checkpoint
from in2n_blender.engine.nerf.dataset import RayDataset, SceneTransform
from in2n_blender.engine.nerf.rendering import NerfModel
from in2n_blender.engine.nerf.scene import load_scene
from in2n_blender.engine.nerf.settings import CPU, GPU, NerfSettings, with_options
from in2n_blender.engine.nerf.training import Trainer
from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.workspace.files import write_json

SMALL = NerfSettings(
    levels=2,
    coarsest=4,
    finest=8,
    log2_table=6,
    features=2,
    hidden=8,
    proposal_levels=1,
    proposal_finest=8,
    proposal_samples=8,
    samples=4,
    rays=16,
    steps=5,
)
CAMERA = Camera(Intrinsics(6, 4, 8.0, 8.0, 3.0, 2.0), np.eye(4))


def small_trainer(steps=2):
    torch.manual_seed(0)
    dataset = RayDataset([CAMERA], [np.full((4, 6, 3), 0.5, np.float32)], SceneTransform((0.0, 0.0, 0.0), 1.0), "cpu")
    trainer = Trainer(NerfModel(SMALL), dataset, seed=1, total_steps=5)
    for _ in range(steps):
        trainer.step()
    return trainer


@pytest.fixture
def saved(tmp_path):
    """A workspace whose reconstruction stopped after two steps."""
    write_json(
        tmp_path / "capture.json", PinholeCapture("one", ".", "draft", (View("a", "images/a.png", CAMERA),)).to_json()
    )
    tensors, numbers = small_trainer().state()
    state = {
        "settings": SMALL.to_json(),
        "transform": {"center": [0, 0, 0], "scale": 1.0},
        "near": 0.05,
        "has_alpha": False,
        "seconds": 1.5,
        "done": False,
        **numbers,
    }
    save_checkpoint(tmp_path / "reconstruction", tensors, state)
    return tmp_path


def file_of(workspace):
    return workspace / "reconstruction" / "checkpoint.safetensors"


def rewrite(workspace, change):
    """The checkpoint as `change(tensors, state)` leaves it, unchecked."""
    tensors, state = read_checkpoint(workspace / "reconstruction")
    change(tensors, state)
    save_file(tensors, file_of(workspace), metadata={"state": json.dumps(state)})


def refusal(workspace):
    with pytest.raises(In2nError) as refused:
        load_scene(str(workspace), None, "cpu")
    assert refused.value.code == "bad_checkpoint" and len(str(refused.value)) < 600
    return str(refused.value)


@pytest.mark.skipif(sys.platform != "linux", reason="the list of memory maps is Linux's")
def test_a_read_checkpoint_leaves_no_memory_map(saved):
    tensors, _ = read_checkpoint(saved / "reconstruction")
    assert tensors and str(saved) not in Path("/proc/self/maps").read_text()


def test_read_tensors_survive_their_files_end(saved):
    expected = {name: value.clone() for name, value in small_trainer().state()[0].items()}
    tensors, _ = read_checkpoint(saved / "reconstruction")
    with open(file_of(saved), "r+b") as overwritten:  # in place, as os.replace cannot be refused here
        overwritten.write(b"\xff" * file_of(saved).stat().st_size)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in tensors.items())


def test_what_was_saved_is_read_and_loaded(saved):
    tensors, state = read_checkpoint(saved / "reconstruction")
    assert state["step"] == 2 and NerfSettings.from_json(state["settings"]) == SMALL
    scene = load_scene(str(saved), None, "cpu")
    assert torch.equal(scene.model.field.encoding.table, tensors["model.field.encoding.table"])


SETTINGS = [
    ("log2_table", 2**31),
    ("log2_table", -1),
    ("coarsest", 0.0),
    ("coarsest", float("inf")),
    ("coarsest", -5),
    ("hidden", float("nan")),
    ("hidden", True),
    ("hidden_layers", 2**63),
    ("hidden_layers", "²"),
    ("features", None),
    ("levels", []),
    ("proposal_finest", 10**300),
    ("refine_cameras", 0),
    ("refine_cameras", True),
    ("perceptual", {}),
    ("perceptual", "vgg"),
    ("learning_rate_grid", "0.1"),
    ("views", -1),
    ("appearance", 4),
    ("a setting to come", 1),
]


@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_settings_that_cannot_be_are_refused(saved, name, value):
    rewrite(saved, lambda tensors, state: state["settings"].update({name: value}))
    refusal(saved)


STATE = [
    ("settings", None),
    ("settings", []),
    ("transform", None),
    ("transform", {"center": [0, 0], "scale": 1.0}),
    ("transform", {"center": [0, 0, float("nan")], "scale": 1.0}),
    ("transform", {"center": "abc", "scale": 1.0}),
    ("transform", {"center": [0, 0, 0], "scale": 0}),
    ("transform", {"center": [0, 0, 0]}),
    ("near", 0),
    ("near", "0.05"),
    ("near", float("inf")),
    ("has_alpha", "no"),
    ("done", 1),
    ("step", -1),
    ("step", 2.5),
    ("total_steps", None),
    ("seconds", float("nan")),
]


@pytest.mark.parametrize(("name", "value"), STATE)
def test_a_state_that_cannot_be_is_refused(saved, name, value):
    rewrite(saved, lambda tensors, state: state.update({name: value}))
    assert name in refusal(saved)


EDIT = {"instruction": "x", "edits_done": 3, "cpu_seconds": 1.5, "unet_evaluations": 60, "peak_memory_mb": 900}


def test_a_whole_edit_is_read(saved):
    rewrite(saved, lambda tensors, state: state.update(EDIT))
    assert read_checkpoint(saved / "reconstruction")[1]["edits_done"] == 3


@pytest.mark.parametrize(
    ("name", "value"), [("edits_done", 2.5), ("edits_done", None), ("peak_memory_mb", -1), ("cpu_seconds", "3")]
)
def test_an_edit_that_does_not_count_is_refused(saved, name, value):
    rewrite(saved, lambda tensors, state: state.update({**EDIT, name: value}))
    assert name in refusal(saved)


@pytest.mark.parametrize("name", ["settings", "transform", "near", "has_alpha", "done", "step", "seconds"])
def test_a_state_that_lacks_something_is_refused(saved, name):
    rewrite(saved, lambda tensors, state: state.pop(name))
    refusal(saved)


TABLE = "model.field.encoding.table"
TENSORS = {
    "missing": lambda tensors: tensors.pop(TABLE),
    "renamed": lambda tensors: tensors.update({"model.field.tables": tensors.pop(TABLE)}),
    "one too many": lambda tensors: tensors.update({"model.extra": torch.zeros(1)}),
    "other shape": lambda tensors: tensors.update({TABLE: tensors[TABLE].T.contiguous()}),
    "other type": lambda tensors: tensors.update({TABLE: tensors[TABLE].half()}),
    "NaN": lambda tensors: tensors[TABLE][0].fill_(float("nan")),
    "infinite": lambda tensors: tensors["model.field.color.0.bias"].fill_(float("inf")),
    "NaN in Adam": lambda tensors: tensors["optimizer.0.exp_avg"].fill_(float("nan")),
}


@pytest.mark.parametrize("change", TENSORS.values(), ids=TENSORS)
def test_tensors_that_do_not_fit_are_refused(saved, change):
    rewrite(saved, lambda tensors, state: change(tensors))
    refusal(saved)


def test_a_model_of_another_size_is_never_built(saved, monkeypatch):
    def build(*given, **more):
        raise AssertionError("gigabytes")

    largest = {"levels": 32, "features": 16, "log2_table": 24, "finest": 2**16}
    rewrite(saved, lambda tensors, state: state["settings"].update(largest))
    monkeypatch.setattr(scene_module, "NerfModel", build)
    refusal(saved)


@pytest.mark.parametrize(
    "state", [None, "", "null", "[]", "{", "[" * 100_000, '{"step": ' + "9" * 5000 + "}", '"settings"']
)
def test_a_state_that_is_no_object_is_refused(saved, state):
    save_file(load_file(file_of(saved)), file_of(saved), metadata=None if state is None else {"state": state})
    refusal(saved)


ODD = [None, True, -1, 0, 7, 2.5, 1e308, 2**31, 10**30, math.nan, -math.inf, "", "²", "../x", [], {}, [[1]], {"a": 1}]


def mutated(value, rng):
    """A JSON value, one of whose parts, however deep, is odd, gone or there twice."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return rng.choice(ODD)
    changed = dict(value) if isinstance(value, dict) else list(value)
    key = rng.choice(list(changed) if isinstance(value, dict) else range(len(changed)))
    if rng.random() < 0.2:
        del changed[key]
    elif isinstance(value, dict) and rng.random() < 0.1:
        changed[f"{key}2"] = changed[key]
    else:
        changed[key] = mutated(changed[key], rng)
    return changed


def mutated_file(whole, rng):
    """The file with an odd state or header, with some bytes of these overwritten, or cut short."""
    length = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    kind = rng.choice(("state", "state", "header", "bytes", "cut"))
    if kind == "state":
        header["__metadata__"] = {"state": json.dumps(mutated(json.loads(header["__metadata__"]["state"]), rng))}
    elif kind == "header":
        header = mutated(header, rng)
    text = bytearray(json.dumps(header).encode())
    if kind == "bytes":
        for _ in range(rng.randint(1, 3)):
            text[rng.randrange(len(text))] = rng.randrange(256)
    file = len(text).to_bytes(8, "little") + text + data
    return file[: rng.randrange(len(file))] if kind == "cut" else file


def test_whatever_is_damaged_is_named(saved):
    whole, rng = file_of(saved).read_bytes(), random.Random(0)
    results = []
    for _ in range(500):
        file_of(saved).write_bytes(mutated_file(whole, rng))
        try:
            small_trainer(0).restore(*read_checkpoint(saved / "reconstruction"))
            load_scene(str(saved), None, "cpu")
            results.append("loaded")
        except In2nError as error:
            results.append(error.code)
    assert set(results) == {"loaded", "bad_checkpoint"} and results.count("bad_checkpoint") > 200


def test_a_state_of_before_a_setting_came_is_whole(saved):
    rewrite(saved, lambda tensors, state: state["settings"].pop("views"))
    assert load_scene(str(saved), None, "cpu").model.settings == SMALL


@pytest.mark.parametrize("settings", [*CPU.values(), *GPU.values(), with_options(SMALL, True, True, 7)])
def test_settings_come_back_from_json(settings):
    assert NerfSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_every_setting_is_explained_and_its_limits_hold_its_default():
    assert NerfSettings.from_json(asdict(NerfSettings())) == NerfSettings()
    # Python 3.13 takes a docstring's indentation away by itself.
    explained = inspect.getdoc(NerfSettings)
    assert all(f"    {name}: " in explained for name in asdict(NerfSettings())), "a setting is not explained"


RESUMES = {
    "no random state": lambda tensors: tensors.pop("generator"),
    "short random state": lambda tensors: tensors.update(generator=torch.zeros(16, dtype=torch.uint8)),
    "damaged random state": lambda tensors: tensors["generator"].fill_(255),
    "random state of another type": lambda tensors: tensors.update(generator=torch.zeros(5056)),
    "no step counter": lambda tensors: tensors.pop("optimizer.0.step"),
    "other shape": lambda tensors: tensors.update({"optimizer.1.exp_avg": torch.zeros(3)}),
    "other type": lambda tensors: tensors.update({"optimizer.1.exp_avg": tensors["optimizer.1.exp_avg"].double()}),
    "unknown": lambda tensors: tensors.update({"optimizer.0.momentum": torch.zeros(3)}),
    "other weights": lambda tensors: tensors.update({TABLE: torch.zeros(2, 2)}),
}


@pytest.mark.parametrize("change", RESUMES.values(), ids=RESUMES)
def test_a_trainer_refuses_what_does_not_fit_and_stays_as_it_was(change):
    tensors, numbers = small_trainer().state()
    change(tensors)
    trainer, other = small_trainer(3), small_trainer(3)
    with pytest.raises(In2nError) as refused:
        trainer.restore(tensors, numbers)
    assert refused.value.code == "bad_checkpoint" and trainer.step_count == 3
    trainer.step(), other.step()
    for ours, theirs in zip(trainer.state()[0].values(), other.state()[0].values()):
        assert torch.equal(ours, theirs)


def test_edited_photos_that_do_not_fit_are_refused():
    dataset = small_trainer(0).dataset
    edited = torch.zeros_like(dataset.colors)
    for wrong in (None, edited[1:], edited[:, :2], edited.float()):
        with pytest.raises(In2nError) as refused:
            dataset.restore({} if wrong is None else {"dataset": wrong})
        assert refused.value.code == "bad_checkpoint" and dataset.colors.float().mean() == 128
    pixels = int(dataset.starts[1])
    for views in ([len(dataset)], [-1], [1, 1], [0, 1], []):
        wrong = {"dataset": edited[:pixels], "dataset.views": torch.tensor(views, dtype=torch.int64)}
        with pytest.raises(In2nError):
            dataset.restore(wrong)
        assert dataset.colors.float().mean() == 128
    with pytest.raises(In2nError):
        dataset.restore({"dataset": edited[:pixels], "dataset.views": torch.tensor([0.5])})
    dataset.restore({"dataset": edited})
    assert dataset.colors.max() == 0


def test_of_an_edit_that_is_not_done_only_edited_photos_are_saved():
    """All photos of a large capture are a gigabyte, which is written every half minute."""
    photos, place = [np.full((4, 6, 3), 0.5, np.float32)] * 3, SceneTransform((0.0, 0.0, 0.0), 1.0)
    dataset, other = (RayDataset([CAMERA] * 3, photos, place, "cpu") for _ in "ab")
    assert len(dataset.saved(whole=False)["dataset"]) == 0, "nothing was edited yet"
    other.restore(dataset.saved(whole=False))
    assert torch.equal(other.colors, dataset.colors)
    height, width = dataset.sizes[1]
    dataset.replace(1, torch.rand(height, width, 3))
    saved = dataset.saved(whole=False)
    assert saved["dataset"].shape == (height * width, 3) and saved["dataset.views"].tolist() == [1]
    other.restore(saved)
    assert torch.equal(other.colors, dataset.colors) and other.changed == {1}
    assert list(dataset.saved(whole=True)) == ["dataset"] and len(dataset.saved(whole=True)["dataset"]) == len(
        dataset.colors
    )
    for view, (height, width) in enumerate(dataset.sizes):
        dataset.replace(view, torch.rand(height, width, 3))
    assert list(dataset.saved(whole=False)) == ["dataset"]


@pytest.mark.parametrize("error", [Cancelled(), In2nError("no_space", "Full.", "Free some."), KeyboardInterrupt()])
def test_work_that_ends_early_is_saved_once_more(error):
    saves = []
    with pytest.raises(type(error)) as raised, Saver(lambda: saves.append(1)):
        raise error
    assert raised.value is error and saves == [1]


def test_work_that_ends_well_is_saved_by_its_owner():
    saves = []
    with Saver(lambda: saves.append(1)) as saver:
        saver.maybe()
    assert not saves


def test_a_save_that_fails_hides_no_earlier_error():
    def save():
        raise OSError("the disk is full")

    with pytest.raises(ZeroDivisionError) as raised, Saver(save):
        _ = 1 / 0
    assert "the disk is full" in "".join(raised.value.__notes__)


def saves_of(monkeypatch, pieces, cost=0.0):
    """The work, in seconds, that was unsaved at each save between pieces of work as long as these."""
    clock, unsaved, saved = [0.0], [], []

    def save():
        saved.append(unsaved[-1])
        unsaved[-1] = 0.0
        clock[0] += cost

    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    unsaved.append(0.0)
    saver = Saver(save)
    for piece in pieces:
        clock[0] += piece
        unsaved[-1] += piece
        saver.maybe()
    return saved


def test_at_most_half_a_minute_of_work_is_unsaved(monkeypatch):
    assert 20 < max(saves_of(monkeypatch, [0.1] * 2000)) <= 30
    assert max(saves_of(monkeypatch, [12.0] + [0.3] * 500)) <= 30, "soon after the first step, which compiles"
    views_between_steps = saves_of(monkeypatch, ([14.0] + [0.2] * 10) * 20)
    assert max(views_between_steps) <= 30 and len(views_between_steps) <= 20
    assert saves_of(monkeypatch, [40.0] * 5) == [40.0] * 5, "each piece, where it is longer"


def test_saving_takes_a_fifth_of_the_time_at_most(monkeypatch):
    assert min(saves_of(monkeypatch, [0.5] * 2000, cost=20.0)[1:]) >= 79
