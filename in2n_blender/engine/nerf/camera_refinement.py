"""Small corrections of the training views' poses, learnt together with the scene (as in Lin et al. 2021, "BARF")."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from ...scene.camera import Camera


class CameraRefinement(nn.Module):
    """Small corrections of the training views' poses, which are learnt (Lin et al. 2021, "BARF").

    Each view has a rotation vector (radians, world axes, about the camera's centre) and a translation (normalised scene
    units). Their mean over the views is taken out, so that the scene does not wander away from the held-out views and
    other cameras.

    Args:
        views: Number of training views.
    """

    def __init__(self, views: int):
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(views, 6))

    def deltas(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The corrections as they stand.

        Returns:
            Rotations (views, 3, 3) and translations (views, 3) in normalised scene units.
        """
        delta = self.raw - self.raw.mean(0)
        return rotation_matrices(delta[:, :3]), delta[:, 3:]

    def apply(
        self, views: torch.Tensor, origins: torch.Tensor, directions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rays of the refined poses, differentiable in the corrections.

        Args:
            views: (rays,) the training view that each ray belongs to.
            origins: (rays, 3) of the poses as given, in normalised scene units.
            directions: (rays, 3) of the poses as given.

        Returns:
            Origins and directions (rays, 3).
        """
        rotations, translations = self.deltas()
        return origins + translations[views], (rotations[views] @ directions[..., None]).squeeze(-1)

    @torch.no_grad()
    def cameras(self, cameras: list[Camera], scale: float) -> list[Camera]:
        """The refined cameras.

        Args:
            cameras: The training views' cameras as given, in capture units.
            scale: Normalised scene units in a unit of the capture.

        Returns:
            As many, with the lenses as given.
        """
        rotations, translations = (values.cpu().double().numpy() for values in self.deltas())
        refined = []
        for camera, rotation, translation in zip(cameras, rotations, translations, strict=True):
            pose = np.array(camera.camera_to_world, np.float64)
            pose[:3, :3] = rotation @ pose[:3, :3]
            pose[:3, 3] += translation / scale
            refined.append(Camera(camera.intrinsics, pose))
        return refined


def rotation_matrices(vectors: torch.Tensor) -> torch.Tensor:
    """Rodrigues' formula, differentiable at zero too.

    Args:
        vectors: (n, 3) rotation vectors in radians.

    Returns:
        (n, 3, 3) rotation matrices.
    """
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3)
    angle = ((vectors**2).sum(-1) + 1e-20).sqrt()[:, None, None]
    sine_over_angle, half = torch.sinc(angle / math.pi), torch.sinc(angle / (2 * math.pi))
    return torch.eye(3, device=vectors.device) + sine_over_angle * cross + 0.5 * half**2 * (cross @ cross)
