"""What each view has of its own: its exposure, and a correction of its pose."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from in2n_blender.engine.measure import psnr
from in2n_blender.engine.nerf.camera_refinement import CameraRefinement, rotation_matrices
from in2n_blender.engine.nerf.checkpoint import read_checkpoint, save_checkpoint
from in2n_blender.engine.nerf.dataset import camera_bundle
from in2n_blender.engine.nerf.reconstruction import reconstruct
from in2n_blender.engine.nerf.rendering import NerfModel
from in2n_blender.engine.nerf.scene import load_scene
from in2n_blender.engine.nerf.settings import with_options
from in2n_blender.engine.nerf.training import Trainer
from in2n_blender.link.requests import Reconstruct
from in2n_blender.scene.camera import Camera
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.errors import Cancelled
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.files import write_json
from tests.engine.ball import TINY, dataset_of, ring, sphere_image, trained_on


def test_appearance_takes_up_what_differs_in_exposure():
    """Every camera took two photos, the second with half the light: only the photo itself says which it is."""
    cameras = ring(8) * 2
    images = [sphere_image(camera) * (1.0 if i < 8 else 0.5) for i, camera in enumerate(cameras)]
    _, scene = trained_on(cameras, images, appearance=True)
    own = np.mean([psnr(scene.render(c, view=i).rgb_srgb, image) for i, (c, image) in enumerate(zip(cameras, images))])
    halfway = np.mean([psnr(image * 0.75 / (1.0 if i < 8 else 0.5), image) for i, image in enumerate(images)])
    assert own > halfway + 1, "better than what one scene can be for both"
    dark, middle, bright = (scene.render(cameras[0], view=view).rgb_srgb.mean() for view in (8, None, 0))
    assert bright > 1.5 * dark and dark < middle < bright


def turned(camera, degrees):
    angle = math.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    pose = camera.camera_to_world.copy()
    pose[:3, :3] = turn[:3, :3] @ pose[:3, :3]
    return Camera(camera.intrinsics, pose)


def pixels_apart(a, b):
    """How far apart two cameras see the ball's surface; a turn and a step aside that undo each other there are no
    mistake."""
    points = np.random.default_rng(0).normal(size=(30, 3))
    points *= 0.6 / np.linalg.norm(points, axis=1, keepdims=True)

    def seen(camera):
        x, y, z = (points - camera.position).dot(camera.camera_to_world[:3, :3]).T
        return np.stack([camera.intrinsics.fx * x / -z, camera.intrinsics.fy * y / -z], 1)

    return np.linalg.norm(seen(a) - seen(b), axis=1).mean()


def test_refinement_brings_a_wrong_pose_nearer():
    cameras = ring(16)
    images = [sphere_image(c) for c in cameras]
    given = [turned(c, 4) if i == 3 else c for i, c in enumerate(cameras)]
    trainer, _ = trained_on(given, images, steps=300, refine_cameras=True)
    refined = trainer.dataset.cameras
    assert pixels_apart(given[3], cameras[3]) > 2 and pixels_apart(refined[3], cameras[3]) < 1.4
    assert np.median([pixels_apart(a, b) for a, b in zip(refined, cameras)]) < 0.6, (
        "the right ones stay where they were"
    )
    pixels = torch.arange(int(trainer.dataset.starts[3]), int(trainer.dataset.starts[4]))
    expected, _ = camera_bundle(refined[3], trainer.dataset.transform, "cpu")
    rays = trainer.dataset.rays(pixels)
    assert torch.allclose(rays.directions, expected.directions, atol=1e-5) and torch.allclose(
        rays.origins, expected.origins, atol=1e-5
    )


def test_rotation_matrices_are_the_exponential_of_the_cross_product():
    vectors = torch.cat([torch.randn(20, 3), torch.randn(5, 3) * 1e-4, torch.zeros(1, 3)]).requires_grad_()
    x, y, z = vectors.detach().double().unbind(-1)
    zero = torch.zeros_like(x)
    expected = torch.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3))
    found = rotation_matrices(vectors)
    assert torch.allclose(found.double(), expected, atol=1e-5)
    found[:, 0, 1].sum().backward()
    assert torch.isfinite(vectors.grad).all() and vectors.grad[-1].tolist() == [0, 0, -1]


def test_refinement_does_not_move_all_cameras_together():
    refinement = CameraRefinement(4)
    torch.nn.init.normal_(refinement.raw, 0.3, 0.1)
    _, translations = refinement.deltas()
    assert translations.mean(0).abs().max() < 1e-6
    cameras = ring(4)
    for before, after in zip(cameras, refinement.cameras(cameras, scale=0.5)):
        rotation = after.camera_to_world[:3, :3]
        assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5) and not np.allclose(
            before.position, after.position
        )


def test_views_own_parameters_resume_exactly_and_rest_while_editing():
    cameras = ring(4)
    images = [sphere_image(c) for c in cameras]
    settings = with_options(TINY, True, True, len(cameras))

    def fresh(loss="mse"):
        torch.manual_seed(0)
        return Trainer(NerfModel(settings), dataset_of(cameras, images), seed=5, total_steps=20, loss=loss)

    straight, first, resumed = fresh(), fresh(), fresh()
    for _ in range(8):
        straight.step()
    for _ in range(3):
        first.step()
    resumed.restore(*first.state())
    for _ in range(5):
        resumed.step()
    for a, b in zip(straight.model.state_dict().values(), resumed.model.state_dict().values()):
        assert torch.allclose(a, b, atol=1e-6)
    own = {
        name: value.clone()
        for name, value in straight.model.state_dict().items()
        if name in ("field.appearance", "refinement.raw")
    }
    assert all(value.abs().sum() > 0 for value in own.values())

    editing = fresh("l1")
    editing.model.load_state_dict(straight.model.state_dict())
    assert np.allclose(editing.dataset.cameras[1].camera_to_world, straight.dataset.cameras[1].camera_to_world)
    for _ in range(2):
        editing.step()
    for name, value in own.items():
        assert torch.equal(editing.model.state_dict()[name], value)


@pytest.fixture
def workspace(tmp_path):
    """Six small photos of the ball, one of them held out."""
    from PIL import Image

    cameras = ring(6)
    views = tuple(View(f"{i}", f"images/{i}.png", camera, held_out=i == 2) for i, camera in enumerate(cameras))
    (tmp_path / "images").mkdir()
    for view in views:
        Image.fromarray((sphere_image(view.camera) * 255).round().astype(np.uint8)).save(tmp_path / view.image)
    write_json(tmp_path / "capture.json", PinholeCapture("ball", ".", "draft", views).to_json())
    return tmp_path


def test_a_reconstruction_with_options_is_stored_resumed_and_loaded(workspace):
    request = Reconstruct(
        workspace=str(workspace), preset="draft", device="cpu", steps=6, appearance=True, refine_cameras=True
    )
    asked = 0

    def after_some_steps():
        nonlocal asked
        asked += 1
        return asked > 5 + 3

    with pytest.raises(Cancelled):
        reconstruct(request, Reporter(cancelled=after_some_steps))
    halfway, state = read_checkpoint(workspace / "reconstruction")
    assert 0 < state["step"] < 6 and not state["done"]
    reconstruct(request, Reporter())
    resumed, state = read_checkpoint(workspace / "reconstruction")
    assert state["done"] and state["settings"]["views"] == 5
    reconstruct(replace(request, restart=True), Reporter())
    straight, _ = read_checkpoint(workspace / "reconstruction")
    assert {"model.field.appearance", "model.refinement.raw"} < set(straight)
    for name, value in straight.items():
        assert torch.allclose(value, resumed[name], atol=1e-6), name
    scene = load_scene(str(workspace), None, "cpu")
    assert scene.model.refinement.raw.abs().sum() > 0
    assert torch.isfinite(scene.render(ring()[0], view=1).rgb_srgb).all()


def test_a_checkpoint_from_before_a_setting_came_still_counts(workspace):
    request = Reconstruct(workspace=str(workspace), preset="draft", device="cpu", steps=2)
    reconstruct(request, Reporter())
    tensors, state = read_checkpoint(workspace / "reconstruction")
    for name in ("appearance", "refine_cameras", "views", "learning_rate_appearance", "learning_rate_cameras"):
        del state["settings"][name]
    save_checkpoint(workspace / "reconstruction", tensors, state)
    messages = []
    reconstruct(request, Reporter(messages.append))
    assert not messages
    reconstruct(replace(request, steps=3), Reporter(messages.append))
    assert any("starts anew" in str(event) for event in messages)


def test_without_options_a_model_is_what_it_was():
    assert with_options(TINY, False, False, 9) is TINY
    assert set(NerfModel(TINY).state_dict()) == {"proposal.encoding.table", "field.encoding.table"} | {
        f"field.color.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")
    }
