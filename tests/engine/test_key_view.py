"""What is previewed is what one gets: the user's picture is the first key view."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from in2n_blender.engine.editing import agreement, methods
from in2n_blender.engine.editing.agreement import LEVELS, Agreement, AgreementSchedule
from in2n_blender.engine.editing.batches import Batches
from in2n_blender.engine.editing.key_picture import KeyPicture, read_key_picture
from in2n_blender.engine.editing.preview import preview
from in2n_blender.engine.evaluation.answers import load_exact
from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.link.requests import Edit, PreviewGrid
from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.files import read_json, write_json
from in2n_blender.workspace.layout import Workspace
from tests.engine.ball import TINY, reconstructed_ball, ring

VIEWS = 12
EDITOR = "exact:K=3,s=0.05"  # red, green and blue


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A tiny reconstruction of the painted ball; the photo "3" is held out."""
    places = ring(VIEWS)
    places[3] = ring(2 * VIEWS)[5]  # nearer to its neighbour, as held-out photos are
    cameras = [Camera(Intrinsics(96, 64, 120.0, 120.0, 48.0, 32.0), small.camera_to_world) for small in places]
    return reconstructed_ball(tmp_path_factory.mktemp("key-view") / "ws", cameras, held_out={3})


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)


def previewed(workspace, view, seed):
    """The picture of a preview of a photo, and which of the editor's answers it shows."""
    made = preview(
        PreviewGrid(
            workspace=str(workspace), instruction="paint it", editor=EDITOR, view=view, seed=seed, device="cpu"
        ),
        Reporter(),
    )
    file = f"{made['folder']}/{made['pictures'][0]['file']}"
    return file, answer(workspace, view, file)


def answer(workspace, photo, file):
    as_tensor = lambda path: torch.from_numpy(np.asarray(Image.open(path).convert("RGB"), np.float32) / 255)
    truths = load_exact(EDITOR, "cpu").answers(as_tensor(workspace / "images" / f"{photo}.png").permute(2, 0, 1))
    return int(((truths - as_tensor(file).permute(2, 0, 1)) ** 2).mean((1, 2, 3)).argmin())


def edited(workspace, name, method=Agreement, **more):
    request = Edit(
        workspace=str(workspace),
        name=name,
        instruction="paint it",
        editor=EDITOR,
        seed=3,
        preset="draft",
        device="cpu",
        editing_method="agreement",
        **more,
    )
    return methods.edit(request, Reporter(), method)


@pytest.mark.parametrize("view", ["5", "3"])
def test_the_whole_scene_becomes_what_the_picture_shows(workspace, view):
    """Of a photo that is trained on, and of one that is held out."""
    found = {}
    for seed in range(12):
        file, shown = previewed(workspace, view, seed)
        found.setdefault(shown, file)
    assert len(found) > 1, "the editor answers differently"
    for shown, file in sorted(found.items())[:2]:
        name = f"like-{view}-{shown}"
        state = edited(workspace, name, key_view=file)
        dataset = Workspace(workspace).edit(name) / "dataset"
        photos = sorted((path.stem for path in dataset.iterdir()), key=int)
        assert photos == [str(index) for index in range(VIEWS) if index != 3]
        assert {answer(workspace, photo, dataset / f"{photo}.png") for photo in photos} == {shown}
        assert state["key_view"]["view"] == view
        if view == "5":
            assert (dataset / "5.png").read_bytes() and np.array_equal(
                np.asarray(Image.open(dataset / "5.png")), np.asarray(Image.open(file))
            ), "her own picture stays as it is"


def test_the_picture_is_kept_with_the_edit_and_is_part_of_what_it_is_made_from(workspace, tmp_path):
    file, _ = previewed(workspace, "5", 0)
    mine = tmp_path / "5.png"
    shutil.copy(file, mine)
    edited(workspace, "kept", key_view=str(mine))
    mine.unlink()
    own = Workspace(workspace).edit("kept") / "key_view.png"
    assert edited(workspace, "kept", key_view=str(own))["done"], "gone on with from its own picture"
    Image.fromarray(255 - np.asarray(Image.open(own))).save(mine)
    with pytest.raises(In2nError) as raised:
        edited(workspace, "kept", key_view=str(mine))
    assert raised.value.code == "edit_exists"
    with pytest.raises(In2nError):
        edited(workspace, "kept")


@pytest.mark.parametrize("height, is_small", [(32, True), (60, False)])
def test_a_small_picture_gets_its_photos_detail(workspace, tmp_path, height, is_small):
    file, _ = previewed(workspace, "5", 0)
    width = round(Image.open(file).width * height / Image.open(file).height)
    Image.open(file).resize((width, height)).save(tmp_path / "5.png")
    calls = []

    class Recorded(Agreement):
        def edited(self, asked):
            calls.extend((one.view, one.level) for one in asked)
            return super().edited(asked)

    edited(workspace, f"of {height}", Recorded, key_view=str(tmp_path / "5.png"))
    names = [view.name for view in PinholeCapture.from_json(read_json(workspace / "capture.json")).training_views]
    assert ((names.index("5"), LEVELS[-1]) in calls) == is_small


def test_a_photo_that_is_held_out_is_looked_at_after_all_others(monkeypatch):
    """At the size of its picture; here after 300."""
    views = [View(str(number), f"{number}.png", camera) for number, camera in enumerate(ring(301))]
    planned = []
    monkeypatch.setattr(agreement, "plan_carrying", lambda seen, first, *more: planned.append((seen, first)) or [])
    method = object.__new__(Agreement)
    method.schedule, method.state = AgreementSchedule(300, 1, 10, 0, "falling"), {"noise_level": 0.6, "edits_done": 0}
    method.batches, method.report, method.request = Batches(1), Reporter(), SimpleNamespace(views_together=None)
    method.key_picture = KeyPicture(views[-1], np.zeros((32, 48, 3), np.float32))
    dataset = SimpleNamespace(cameras=[view.camera for view in views[:-1]], mask=lambda view: None)
    method.trainer = SimpleNamespace(dataset=dataset)
    method.scene = SimpleNamespace(
        capture=SimpleNamespace(training_views=views[:-1]),
        render=lambda camera, report: SimpleNamespace(depth=torch.ones(1, 1)),
    )
    method.carry_all()
    ((seen, first),) = planned
    assert (len(seen), first) == (301, 300)
    assert np.array_equal(seen[300].camera.camera_to_world, views[-1].camera.camera_to_world)
    assert (seen[300].camera.intrinsics.width, seen[300].camera.intrinsics.height) == (48, 32)


def test_a_picture_of_no_photo_and_what_is_no_picture_are_refused(workspace, tmp_path):
    capture = PinholeCapture.from_json(read_json(workspace / "capture.json"))

    def code(path):
        with pytest.raises(In2nError) as raised:
            read_key_picture(str(path), capture)
        return raised.value.code

    assert code(tmp_path / "none.png") == "no_picture"
    (tmp_path / "5.png").write_text("no picture")
    assert code(tmp_path / "5.png") == "no_picture"
    Image.new("RGB", (96, 64)).save(tmp_path / "other.png")
    assert code(tmp_path / "other.png") == "unknown_view"
    Image.new("RGB", (64, 64)).save(tmp_path / "4.png")
    assert code(tmp_path / "4.png") == "other_shape"
    for damaged in ("[1]", "{", json.dumps({"pictures": 3}), json.dumps({"pictures": [3]})):
        (tmp_path / "preview.json").write_text(damaged)
        Image.new("RGB", (96, 64)).save(tmp_path / "6.png")
        assert read_key_picture(str(tmp_path / "6.png"), capture).view.name == "6"


def test_which_photo_a_picture_shows_is_said_beside_it_else_by_its_name(workspace, tmp_path):
    """By a preview of its own pictures, and by an edit of the one that it was made like; by neither of any other."""
    capture = PinholeCapture.from_json(read_json(workspace / "capture.json"))
    write_json(tmp_path / "preview.json", {"view": "6", "pictures": [{"file": "text-2.png"}]})
    write_json(tmp_path / "edit.json", {"key_view": {"view": "5"}})
    for name, view in (("text-2.png", "6"), ("key_view.png", "5"), ("4.png", "4")):
        Image.new("RGB", (96, 64)).save(tmp_path / name)
        assert read_key_picture(str(tmp_path / name), capture).view.name == view


def test_other_methods_have_no_key_view():
    with pytest.raises(In2nError) as raised:
        Edit(workspace="w", name="n", instruction="x", editing_method="faithful", key_view="p.png").check()
    assert raised.value.code == "no_key_views"
