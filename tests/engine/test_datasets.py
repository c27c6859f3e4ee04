"""Datasets for other trainers, read back by pycolmap and by our own readers."""

import json
from dataclasses import replace

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from in2n_blender.engine.nerf.checkpoint import read_checkpoint, save_checkpoint, weights_hash
from in2n_blender.engine.output.datasets import export_dataset
from in2n_blender.link.requests import ExportDataset
from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.capture import PinholeCapture
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.readers import colmap, transforms
from in2n_blender.scene.reporting import Progress, Reporter
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace
from tests.engine.ball import reconstructed_ball, ring

OFFSET = np.array([500_000.0, 4_200_000.0, 100.0])  # metres of a map
HELD_OUT = (2, 6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A capture with a held-out view, two lenses, a mask and sparse points, far from its origin; edited."""
    workspace = Workspace(tmp_path_factory.mktemp("dataset") / "workspace")
    reconstructed_ball(workspace.root, ring(), HELD_OUT)
    capture, random = PinholeCapture.load(workspace.capture_json), np.random.default_rng(3)
    views = list(capture.views)
    k = views[0].camera.intrinsics
    other = Intrinsics(k.width, k.height, k.fx * 1.1, k.fy * 1.1, k.cx + 0.25, k.cy)
    views[0] = replace(views[0], camera=Camera(other, views[0].camera.camera_to_world))
    workspace.masks.mkdir()
    Image.fromarray(random.integers(0, 2, (k.height, k.width), np.uint8) * 255).save(workspace.masks / "1.png")
    views[1] = replace(views[1], mask="masks/1.png")
    points = random.normal(size=(50, 3)).astype(np.float32)
    colors = random.integers(0, 256, (50, 3)).astype(np.uint8)
    changed = replace(capture, views=tuple(views), offset=OFFSET, points=points, point_colors=colors)
    write_json(workspace.capture_json, changed.to_json())
    tensors, state = read_checkpoint(workspace.reconstruction)
    pixels = sum(v.camera.intrinsics.width * v.camera.intrinsics.height for v in changed.training_views)
    tensors["dataset"] = torch.from_numpy(random.integers(0, 256, (pixels, 3)).astype(np.uint8))
    workspace.edit("gold").mkdir(parents=True)
    save_checkpoint(workspace.edit("gold"), tensors, {**state, "weights": weights_hash(tensors)})
    return workspace, PinholeCapture.load(workspace.capture_json), tensors["dataset"].numpy()


def export(workspace, folder, edit=None, report=None, **more):
    request = ExportDataset(workspace=str(workspace.root), edit=edit, out=str(folder), **more)
    return export_dataset(request, report or Reporter())


def own_poses(views) -> dict[str, np.ndarray]:
    found = {}
    for view in views:
        pose = np.array(view.camera.camera_to_world, np.float64)
        pose[:3, 3] += OFFSET
        found[view.name] = pose
    return found


def assert_same_pose(found, expected) -> None:
    """To 1e-9; of millions of metres, turned into the camera and back, float64 has no more digits than that."""
    np.testing.assert_allclose(found[:3, :3], expected[:3, :3], rtol=0, atol=1e-9)
    atol = max(1e-9, 4 * np.spacing(np.abs(expected[:3, 3]).max()))
    np.testing.assert_allclose(found[:3, 3], expected[:3, 3], rtol=0, atol=atol)


def edited_pictures(capture, colors) -> dict[str, np.ndarray]:
    pictures, start = {}, 0
    for view in capture.training_views:
        k = view.camera.intrinsics
        pictures[view.name] = colors[start : start + k.width * k.height].reshape(k.height, k.width, -1)
        start += k.width * k.height
    return pictures


@pytest.mark.parametrize("edit", [None, "gold"])
@pytest.mark.parametrize("form", ["nerfstudio", "colmap"])
def test_our_readers_find_the_poses_lenses_pictures_and_points_again(trained, tmp_path, edit, form):
    workspace, capture, colors = trained
    result = export(workspace, tmp_path / "out", edit, format=form)
    views = capture.training_views if edit else capture.views
    assert (result["views"], result["held_out"]) == (len(views), 0 if edit else len(HELD_OUT))
    found = (
        transforms.read(tmp_path / "out" / "transforms.json")
        if form == "nerfstudio"
        else colmap.read(colmap.find(tmp_path / "out"))
    )
    poses, lenses = own_poses(views), {view.name: view.camera.intrinsics for view in views}
    assert {frame.name for frame in found.frames} == set(poses) and not found.missing and not found.unusable
    edited = edited_pictures(capture, colors)
    for frame in found.frames:
        assert_same_pose(frame.camera_to_world, poses[frame.name])
        assert frame.lens.model == "pinhole" and frame.lens.intrinsics == lenses[frame.name]
        source = next(view for view in views if view.name == frame.name)
        expected = edited[frame.name] if edit else np.asarray(Image.open(workspace.root / source.image))
        np.testing.assert_array_equal(np.asarray(Image.open(frame.photo)), expected)
        mask = np.asarray(Image.open(frame.mask.path)) > 0
        own = np.asarray(Image.open(workspace.masks / "1.png")) > 0 if frame.name == "1" else True
        np.testing.assert_array_equal(mask, np.broadcast_to(own, mask.shape))
        if not edit:
            assert frame.held_out == source.held_out
    order = np.lexsort(found.points.T), np.lexsort((capture.points + OFFSET).T)
    np.testing.assert_allclose(found.points[order[0]], (capture.points + OFFSET)[order[1]], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.point_colors[order[0]], capture.point_colors[order[1]])


def test_pycolmap_finds_the_poses_and_the_pictures_again(trained, tmp_path):
    workspace, capture, colors = trained
    export(workspace, tmp_path, "gold", format="colmap")
    model = pycolmap.Reconstruction(tmp_path / "sparse" / "0")
    poses, edited = own_poses(capture.training_views), edited_pictures(capture, colors)
    assert (model.num_images(), model.num_cameras(), model.num_points3D()) == (6, 2, 50)
    for image in model.images.values():
        name = image.name.removesuffix(".png")
        to_world = image.cam_from_world().inverse()
        expected = poses[name] @ np.diag([1.0, -1.0, -1.0, 1.0])
        assert_same_pose(to_world.matrix(), expected)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "images" / image.name)), edited[name])


def test_held_out_photos_are_told_apart_as_each_trainer_wants_it(trained, tmp_path):
    workspace, capture, _ = trained
    export(workspace, tmp_path)
    table = json.loads((tmp_path / "transforms.json").read_text())
    held_out = sorted(f"images/{view.name}.png" for view in capture.held_out_views)
    assert sorted(table["val_filenames"]) == sorted(table["test_filenames"]) == held_out
    assert not set(table["train_filenames"]) & set(held_out)
    assert sorted((tmp_path / "sparse" / "0" / "test.txt").read_text().split()) == ["2.png", "6.png"]


def test_what_all_lenses_share_stands_once(trained, tmp_path):
    workspace, _, _ = trained
    export(workspace, tmp_path / "two")
    table = json.loads((tmp_path / "two" / "transforms.json").read_text())
    assert "fl_x" not in table and all("fl_x" in frame for frame in table["frames"])
    reconstructed = Workspace(tmp_path / "one")
    reconstructed_ball(reconstructed.root, ring(3))
    export(reconstructed, tmp_path / "alike")
    table = json.loads((tmp_path / "alike" / "transforms.json").read_text())
    assert "fl_x" in table and not any("fl_x" in frame or "mask_path" in frame for frame in table["frames"])
    assert "ply_file_path" not in table and "val_filenames" not in table


def test_the_same_dataset_is_not_made_again_and_another_replaces_it_whole(trained, tmp_path):
    workspace, _, _ = trained
    first = export(workspace, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert export(workspace, tmp_path) == first
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    export(workspace, tmp_path, "gold", format="nerfstudio")
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [f"{i}.png" for i in (0, 1, 3, 4, 5, 7)]
    assert not (tmp_path / "sparse" / "0" / "images.bin").exists() and not list(tmp_path.rglob(".writing*"))


def test_a_strangers_file_is_not_overwritten(trained, tmp_path):
    workspace, _, _ = trained
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "3.png").write_bytes(b"hers")
    with pytest.raises(In2nError) as refused:
        export(workspace, tmp_path)
    assert refused.value.code == "not_ours" and (tmp_path / "images" / "3.png").read_bytes() == b"hers"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["3.png"]


def test_a_cancelled_export_leaves_no_list_of_half_a_dataset(trained, tmp_path):
    workspace, _, _ = trained
    export(workspace, tmp_path)
    told = []
    with pytest.raises(Cancelled):
        export(workspace, tmp_path, "gold", Reporter(told.append, lambda: len(told) > 3))
    assert all(isinstance(event, Progress) for event in told)
    for name in ("transforms.json", "dataset.json", "sparse/0/images.bin"):
        assert not (tmp_path / name).exists()
    export(workspace, tmp_path, "gold")
    assert len(json.loads((tmp_path / "transforms.json").read_text())["frames"]) == 6


def test_an_edit_that_was_not_begun_has_no_dataset(trained, tmp_path):
    workspace, _, _ = trained
    with pytest.raises(In2nError) as refused:
        export(workspace, tmp_path / "out", "nobody")
    assert refused.value.code == "not_trained" and not (tmp_path / "out").exists()


def test_a_dataset_in_the_workspace_follows_its_edit(trained):
    from in2n_blender.workspace import edits

    workspace, _, _ = trained
    request = ExportDataset(workspace=str(workspace.root), edit="gold")
    folder = export_dataset(request, Reporter())["folder"]
    assert folder == str(workspace.dataset("gold"))
    write_json(workspace.edit("gold") / "edit.json", {"name": "gold"})
    edits.rename(workspace, "gold", "silver")
    try:
        assert (workspace.dataset("silver") / "transforms.json").is_file() and not workspace.dataset("gold").exists()
    finally:
        edits.rename(workspace, "silver", "gold")


def test_of_an_edit_that_is_not_done_what_was_not_edited_is_as_photographed(trained, tmp_path):
    workspace, capture, colors = trained
    views, pictures = capture.training_views, edited_pictures(capture, colors)
    tensors, state = read_checkpoint(workspace.edit("gold"))
    some = torch.from_numpy(pictures[views[1].name].reshape(-1, 3).copy())
    tensors |= {"dataset": some, "dataset.views": torch.tensor([1])}
    save_checkpoint(workspace.edit("half"), tensors, {**state, "done": False})
    export(workspace, tmp_path / "out", "half", format="nerfstudio")
    for number, view in enumerate(views):
        made = np.asarray(Image.open(tmp_path / "out" / "images" / f"{view.name}.png"))
        photo = np.asarray(Image.open(workspace.photo(view.image)))
        assert np.array_equal(made, pictures[view.name] if number == 1 else photo), view.name
