"""A scene whose every answer is known: a coloured ball, with the interface of a trained NeRF."""

from types import SimpleNamespace

import numpy as np
import torch

from in2n_blender.scene.camera import Camera, Intrinsics

CENTER, RADIUS = np.array([1.0, 2.0, 3.0]), 1.0
OFFSET = np.array([500_000.0, 5_000_000.0, 300.0])  # of the capture


class BallScene:
    """A ball of RADIUS around CENTER, coloured by its outward normal: sRGB = (normal + 1) / 2."""

    device = torch.device("cpu")

    def __init__(self, has_alpha: bool = True, floaters: bool = False):
        self.has_alpha, self.floaters, self.rendered = has_alpha, floaters, 0
        self.capture = SimpleNamespace(
            training_views=[SimpleNamespace(camera=camera_at(angle)) for angle in (0.0, 2.0, 4.0)],
            offset=OFFSET,
            points=np.zeros((0, 3), np.float32),
        )

    def bounds(self) -> np.ndarray:
        return np.stack([CENTER - [1.5, 1.3, 1.4], CENTER + [1.5, 1.3, 1.4]])

    def density(self, points: torch.Tensor) -> torch.Tensor:
        outside = (points - torch.tensor(CENTER, dtype=torch.float32)).norm(dim=1) - RADIUS
        density = 200 * torch.sigmoid(-outside / 0.02)
        if self.floaters:
            speck = (points - torch.tensor(CENTER + [1.3, 1.1, 1.2], dtype=torch.float32)).norm(dim=1)
            density = density + 200 * torch.sigmoid((0.03 - speck) / 0.02)
        return density

    def color(self, points: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        assert torch.allclose(directions.norm(dim=1), torch.ones(len(directions)), atol=1e-4)
        return (-directions + 1) / 2

    def render(self, camera: Camera, report=None) -> SimpleNamespace:
        if report is not None:
            report.check()
        self.rendered += 1
        k = camera.intrinsics
        origins, directions = (array.astype(np.float64) for array in camera.rays())
        a, b = (directions**2).sum(1), ((origins - CENTER) * directions).sum(1)
        inside = b**2 - a * (((origins - CENTER) ** 2).sum(1) - RADIUS**2)
        depth = np.where(inside > 0, (-b - np.sqrt(np.maximum(inside, 0))) / a, 7.0)
        normal = (origins + depth[:, None] * directions - CENTER) / RADIUS
        alpha = (inside > 0).astype(np.float64)
        background = 1.0 if self.has_alpha else 0.25
        rgb = (normal + 1) / 2 * alpha[:, None] + background * (1 - alpha[:, None])
        shape = (k.height, k.width)
        as_tensor = lambda array, *more: torch.tensor(array, dtype=torch.float32).reshape(*shape, *more)
        return SimpleNamespace(rgb_srgb=as_tensor(rgb, 3), alpha=as_tensor(alpha), depth=as_tensor(depth))


def camera_at(angle: float, width: int = 40, height: int = 30, distance: float = 4.0) -> Camera:
    """Looking at the ball's centre from `angle` (radians) around the z axis, z up."""
    backward = np.array([np.cos(angle), np.sin(angle), 0.0])
    right = np.array([-np.sin(angle), np.cos(angle), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, [0, 0, 1], backward], 1)
    pose[:3, 3] = CENTER + distance * backward
    return Camera(Intrinsics(width, height, 50.0, 50.0, width / 2, height / 2), pose)
