"""What a mask covers: carried into the workspace with its photo, never trained on, never edited."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from in2n_blender.engine.editing import dataset_update, methods
from in2n_blender.engine.editing.baselines import ScoreDistillation
from in2n_blender.engine.importing import normalise_capture
from in2n_blender.engine.masks import normalised_mask
from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.engine.nerf.dataset import RayDataset, SceneTransform
from in2n_blender.engine.nerf.reconstruction import reconstruct
from in2n_blender.engine.nerf.rendering import NerfModel
from in2n_blender.engine.nerf.scene import Scene
from in2n_blender.engine.nerf.training import Trainer
from in2n_blender.engine.photos import Photos, normalise_photo
from in2n_blender.engine.poses.prepared import prepare
from in2n_blender.link.requests import Edit, ImportCapture, Reconstruct
from in2n_blender.scene.camera import Intrinsics
from in2n_blender.scene.capture import DARK, LIGHT, Frame, PhotoMask, PinholeCapture, View
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.lens import Lens, pinhole_for
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.imported import load_capture
from in2n_blender.workspace.layout import Workspace
from in2n_blender.workspace.provenance import photos_hash
from tests.engine.ball import TINY, ring, sphere_image
from tests.engine.small_editor import small_editor_folder
from tests.scene.captures import ring as poses_of_a_ring
from tests.scene.captures import write_transforms

GREEN, MAGENTA = (0, 200, 0), (255, 0, 255)
BARREL = Lens("opencv", Intrinsics(120, 80, 90.0, 92.0, 58.0, 41.0), (-0.25, 0.06, 1e-3, 0.0))


def covered(width=120, height=80):
    """(height, width) bool: a bar and a dot, which a person in a photo may be."""
    there = np.zeros((height, width), bool)
    there[height // 5 :, width // 3 : width // 2] = True
    there[height // 8, -width // 8] = True
    return there


def write_mask(path, ignored, kind, **options):
    values = np.where(ignored if kind == LIGHT else ~ignored, 255, 0).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return PhotoMask(path, kind)


@pytest.mark.parametrize("kind, suffix", [(DARK, "png"), (LIGHT, "png"), (DARK, "jpg")])
@pytest.mark.parametrize("side", [120, 70])
def test_no_pixel_that_counts_shows_anything_of_what_is_covered(tmp_path, kind, suffix, side):
    there = covered()
    if suffix == "jpg":
        there[80 // 8] = False  # a single pixel does not survive it
    photo = np.where(there[..., None], MAGENTA, GREEN).astype(np.uint8)
    target = pinhole_for(BARREL).fitted(side)[0]
    frame = Frame("a", tmp_path / "a.png", BARREL, np.eye(4), mask=write_mask(tmp_path / f"m.{suffix}", there, kind))
    counts = normalised_mask(frame, target)
    image = normalise_photo(photo, BARREL, target, side).astype(int)
    assert counts.shape == image.shape[:2] and 0.5 < counts.mean() < 0.95
    assert np.abs(image[counts] - GREEN).max() <= (12 if suffix == "png" else 40)
    magenta = np.abs(image - MAGENTA).max(-1) < 20
    assert magenta.any() and not (counts & magenta).any()


def test_a_mask_is_turned_with_its_photo_and_may_be_smaller(tmp_path):
    ignored = np.zeros((10, 15), bool)
    ignored[:, :5] = True  # left third as stored: the upper third when shown upright
    lens = Lens("pinhole", Intrinsics(80, 120, 90.0, 90.0, 40.0, 60.0))
    mask = write_mask(tmp_path / "m.png", ignored, DARK)
    counts = normalised_mask(Frame("a", tmp_path / "a", lens, np.eye(4), None, 6, mask), lens.intrinsics)
    assert counts.shape == (120, 80) and not counts[:40].any() and counts[40:].all()


def test_import_writes_masks_and_counts_them(tmp_path):
    write_transforms(tmp_path / "dog", poses_of_a_ring(6), size=(48, 32))
    for i in range(3):
        write_mask(tmp_path / f"dog/masks/{i:03d}.png", covered(48, 32) & (i < 2), DARK)
    write_mask(tmp_path / "dog/masks/003.png", covered(20, 32), DARK)
    events, workspace = [], Workspace(tmp_path / "work")
    request = ImportCapture(workspace=str(workspace.root), source=str(tmp_path / "dog"), preset="draft")
    capture = normalise_capture(request, Reporter(events.append))
    assert [v.mask for v in capture.views] == ["masks/000.png", "masks/001.png", "", "", "", ""]
    assert sorted(path.name for path in workspace.masks.iterdir()) == ["000.png", "001.png"]
    log = [event for event in events if isinstance(event, str)]
    assert any("2 with masks" in line for line in log) and any("mask of 003 cannot be used" in line for line in log)
    assert load_capture(workspace).to_json() == capture.to_json()
    first, second, third = Photos(workspace, capture.views[:3]).masks()
    assert third is None and np.array_equal(first, ~covered(48, 32)) and np.array_equal(second, first)
    before = photos_hash(workspace)
    write_mask(workspace.masks / "001.png", ~covered(48, 32), DARK)
    assert photos_hash(workspace) != before, "results are of the masks too"
    write_transforms(tmp_path / "cat", poses_of_a_ring(4), size=(48, 32))
    normalise_capture(ImportCapture(workspace=str(workspace.root), source=str(tmp_path / "cat")), Reporter())
    assert not workspace.masks.exists()


def test_masks_of_the_users_are_neither_deleted_nor_replaced(tmp_path):
    write_transforms(tmp_path / "dog", poses_of_a_ring(4), size=(48, 32))
    mine = tmp_path / "work/masks/mine.png"
    write_mask(mine, covered(48, 32), DARK)
    with pytest.raises(In2nError) as caught:
        normalise_capture(ImportCapture(workspace=str(tmp_path / "work"), source=str(tmp_path / "dog")), Reporter())
    assert caught.value.code == "not_ours" and mine.is_file()


def patched(image):
    """The view with a magenta patch in its middle, and whether a pixel counts."""
    image, counts = image.copy(), np.ones(image.shape[:2], bool)
    image[5:11, 8:16], counts[5:11, 8:16] = (1.0, 0.0, 1.0), False
    return image, counts


@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_a_covered_patch_does_not_reach_the_reconstruction(loss):
    cameras = ring(8)
    images, masks = zip(*(patched(sphere_image(camera)) for camera in cameras))
    masks = [mask if view % 2 == 0 else None for view, mask in enumerate(masks)]
    images = [image if view % 2 == 0 else sphere_image(cameras[view]) for view, image in enumerate(images)]
    shown = {}
    for given in (masks, None):
        torch.manual_seed(0)
        dataset = RayDataset(cameras, images, SceneTransform.of(cameras), "cpu", given)
        trainer = Trainer(NerfModel(TINY), dataset, seed=0, total_steps=250, loss=loss, learning_rate=1.0)
        for _ in range(250):
            trainer.step()
        scene = Scene(trainer.model, dataset.transform, None, "cpu", False)
        patch = [scene.render(cameras[view]).rgb_srgb[6:10, 9:15] for view in (0, 2, 4, 6)]
        truth = [torch.from_numpy(sphere_image(cameras[view]))[6:10, 9:15] for view in (0, 2, 4, 6)]
        shown[given is None] = float((torch.stack(patch) - torch.stack(truth)).abs().mean())
    assert shown[False] < 0.09 and shown[False] < 0.5 * shown[True], shown


def test_pixels_that_count_are_drawn_alone_and_all_of_them():
    cameras = ring(2)
    image, counts = patched(sphere_image(cameras[0]))
    dataset = RayDataset(cameras, [image, image], SceneTransform.of(cameras), "cpu", [counts, None])
    drawn = dataset.sample(20000, torch.Generator().manual_seed(0))
    assert dataset.count(drawn).all() and len(drawn.unique()) == counts.sum() + counts.size
    assert torch.equal(dataset.mask(0), torch.from_numpy(counts)) and dataset.mask(1).all()
    with pytest.raises(In2nError) as caught:
        RayDataset(cameras, [image, image], SceneTransform.of(cameras), "cpu", [counts & False] * 2)
    assert caught.value.code == "all_masked"


def test_a_dataset_without_masks_draws_as_before():
    cameras = ring(2)
    images = [sphere_image(camera) for camera in cameras]
    plain, with_none = (
        RayDataset(cameras, images, SceneTransform.of(cameras), "cpu", masks) for masks in (None, [None, None])
    )
    draw = lambda dataset: dataset.sample(50, torch.Generator().manual_seed(3))
    assert torch.equal(draw(plain), draw(with_none)) and plain.mask(0) is None and plain.count(draw(plain)) is None


def masked_ball(root, monkeypatch):
    """A workspace whose four photos are covered in their middle, reconstructed a little."""
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)
    monkeypatch.setattr(dataset_update, "DENOISING_STEPS", 2)
    views = []
    (root / "images").mkdir(parents=True)
    for index, camera in enumerate(ring(4)):
        image, counts = patched(sphere_image(camera))
        Image.fromarray((image * 255).astype(np.uint8)).save(root / f"images/{index}.png")
        write_mask(root / f"masks/{index}.png", ~counts, DARK)
        views.append(View(str(index), f"images/{index}.png", camera, index == 3, f"masks/{index}.png"))
    write_json(root / "capture.json", PinholeCapture("ball", "", "draft", tuple(views)).to_json())
    state = reconstruct(Reconstruct(workspace=str(root), preset="draft", device="cpu", steps=20), Reporter())
    assert state["psnr_db"] > 0


@pytest.mark.parametrize("method", ["iterative", "agreement"])
def test_an_edit_keeps_the_photo_where_a_mask_covers_it(tmp_path, method, monkeypatch):
    editor, root = small_editor_folder(tmp_path / "editor", block_transform=True), tmp_path / "ws"
    masked_ball(root, monkeypatch)
    request = Edit(
        workspace=str(root), name="n", instruction="make it night", editor=str(editor), preset="draft", device="cpu",
        rounds=1, editing_method=method,
    )  # fmt: skip
    methods.edit(request, Reporter())
    for index in range(3):
        photo = np.asarray(Image.open(root / f"images/{index}.png")).astype(int)
        edited = np.asarray(Image.open(root / f"edits/n/dataset/{index}.png")).astype(int)
        counts = patched(photo)[1]
        assert np.abs(edited - photo)[~counts].max() <= 1 and np.abs(edited - photo)[counts].mean() > 5
    assert json.loads((root / "edits/n/state.json").read_text())["done"]


def test_score_distillation_moves_nothing_where_a_mask_covers_it(tmp_path, monkeypatch):
    """The gradient of every step at every pixel of the picture that is distilled from."""
    editor, root = small_editor_folder(tmp_path / "editor", block_transform=True), tmp_path / "ws"
    masked_ball(root, monkeypatch)
    steps, shown = [], Scene.over_background

    def kept(scene, rendered):
        color = shown(scene, rendered)
        if color.requires_grad:
            color.retain_grad()
            steps.append(color)
        return color

    monkeypatch.setattr(Scene, "over_background", kept)
    request = Edit(
        workspace=str(root), name="n", instruction="make it night", editor=str(editor), preset="draft", device="cpu",
        rounds=1,
    )  # fmt: skip
    methods.edit(request, Reporter(), ScoreDistillation)
    assert steps
    height, width = sphere_image(ring(4)[0]).shape[:2]
    for color in steps:
        gradient = color.grad.abs().sum(-1).flatten()
        side = round((len(gradient) * width / height) ** 0.5)
        assert len(gradient) % side == 0
        small, counts = gradient.view(-1, side), torch.from_numpy(patched(sphere_image(ring(4)[0]))[1])
        counts = torch.nn.functional.interpolate(counts[None, None].float(), size=small.shape, mode="area")[0, 0]
        assert (small[counts < 1] == 0).all() and small[counts == 1].sum() > 0 and (counts < 1).any()


def with_alpha(folder, count, clear):
    """A capture of PNGs with alpha, transparent where `clear` says for the photo's number."""
    write_transforms(folder, poses_of_a_ring(count), size=(48, 32))
    for i in range(count):
        file = folder / f"images/{i:03d}.png"
        with Image.open(file) as opened:
            image = np.array(opened.convert("RGBA"))
        image[..., 3] = np.where(clear(i), 0, 255)
        Image.fromarray(image).save(file)
    return folder


def imported(source, folder):
    log, workspace = [], Workspace(folder)
    request = ImportCapture(workspace=str(folder), source=str(source), preset="draft")
    return normalise_capture(request, Reporter(log.append)), workspace, [e for e in log if isinstance(e, str)]


def test_alpha_inside_photos_is_their_mask(tmp_path):
    there = covered(48, 32)
    source = with_alpha(tmp_path / "dog", 6, lambda i: there & (i < 2))
    write_mask(tmp_path / "dog/masks/001.png", np.arange(48)[None] < 5 + np.zeros((32, 1)), DARK)
    capture, workspace, log = imported(source, tmp_path / "work")
    assert [bool(view.mask) for view in capture.views] == [True, True, False, False, False, False]
    assert any("2 with masks" in line for line in log) and any(
        "transparent in photos is masked" in line for line in log
    )
    images = [Image.open(workspace.photo(view.image)) for view in capture.views]
    assert {image.mode for image in images} == {"RGB"}
    first, second, _ = Photos(workspace, capture.views[:3]).masks()
    assert not (first & there).any() and first.mean() > 0.5
    assert not second[:, :5].any() and not (second & there).any(), "with what a mask of its own covers"
    assert sorted(path.name for path in workspace.masks.iterdir()) == ["000.png", "001.png"]


def test_a_thing_cut_out_stays_before_nothing(tmp_path):
    around = np.ones((32, 48), bool)
    around[8:24, 12:36] = False
    capture, workspace, log = imported(with_alpha(tmp_path / "dog", 6, lambda i: around), tmp_path / "work")
    assert not any(view.mask for view in capture.views) and any("there is nothing there" in line for line in log)
    assert Image.open(workspace.photo(capture.views[0].image)).mode == "RGBA"


def test_alpha_that_is_nowhere_transparent_is_none(tmp_path):
    nothing = np.zeros((32, 48), bool)
    capture, workspace, _ = imported(with_alpha(tmp_path / "dog", 6, lambda i: nothing), tmp_path / "work")
    assert not any(view.mask for view in capture.views) and not workspace.masks.exists()
    assert Image.open(workspace.photo(capture.views[0].image)).mode == "RGB"


def test_no_feature_is_looked_for_where_a_bare_photo_is_transparent(tmp_path):
    (tmp_path / "photos").mkdir()
    image = np.random.default_rng(0).integers(0, 255, (60, 90, 4)).astype(np.uint8)
    image[..., 3] = np.where(covered(90, 60), 0, 255)
    Image.fromarray(image).save(tmp_path / "photos/a.png")
    Image.fromarray(image[..., :3]).save(tmp_path / "photos/b.png")
    for part in ("images", "masks"):
        (tmp_path / "search" / part).mkdir(parents=True)
    files = tuple(sorted((tmp_path / "photos").iterdir()))
    for _ in range(2):  # the second time it is there
        found = prepare(files, tmp_path / "photos", tmp_path / "search", Reporter())
        assert [photo.masked for photo in found.photos] == [True, False]
    mask = np.asarray(Image.open(tmp_path / f"search/masks/{found.photos[0].file}.png"))
    assert np.array_equal(mask == 0, covered(90, 60))
