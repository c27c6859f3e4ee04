"""What splats are made from: the field rendered from the training views, and from between them."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from ...scene.camera import Camera, Intrinsics
from ...scene.reporting import Reporter, seconds_left
from ..nerf.scene import Scene

MOST_VIEWS = 120  # that are trained on; of more, as many are taken, evenly
MOST_BETWEEN = 60  # views between them
MOST_PIXELS = 3_000_000  # of all pictures together: more cost time and memory
LONGEST_SIDE = 640
WIDER = 1.25  # how much more a view between two others sees than they do, so that the splats do not end at their edges


@dataclass(frozen=True)
class Source:
    """The field from one camera, on the CPU.

    Attributes:
        camera: In capture units, of the pictures' size.
        rgb_srgb: (height, width, 3) before the scene's background, white where its photos have an alpha.
        alpha: (height, width).
        depth: (height, width) along the camera's axis, in capture units.
    """

    camera: Camera
    rgb_srgb: torch.Tensor
    alpha: torch.Tensor
    depth: torch.Tensor


def source_cameras(cameras: list[Camera]) -> tuple[list[Camera], list[Camera]]:
    """The cameras that the field is rendered from.

    Args:
        cameras: The training views'.

    Returns:
        The training views' cameras, and wider ones half way between each and its nearest neighbours that look much the
        same way.
    """
    cameras = _evenly(cameras, MOST_VIEWS)
    positions = np.stack([camera.position for camera in cameras])
    forward = np.stack([-camera.camera_to_world[:3, 2] for camera in cameras])
    pairs: dict[tuple, Camera] = {}
    for number in range(len(cameras)):
        away = np.linalg.norm(positions - positions[number], axis=1)
        away[(forward @ forward[number] < 0.5) | (away == 0)] = np.inf
        for other in np.argsort(away)[:2]:
            pair = (min(number, int(other)), max(number, int(other)))
            if np.isfinite(away[other]) and pair not in pairs:
                pairs[pair] = _between(cameras[pair[0]], cameras[pair[1]])
    between = _evenly(list(pairs.values()), MOST_BETWEEN)
    pixels = sum(camera.intrinsics.width * camera.intrinsics.height for camera in [*cameras, *between])
    scale = min(1.0, (MOST_PIXELS / pixels) ** 0.5)
    return [_small(camera, scale) for camera in cameras], [_small(camera, scale) for camera in between]


def render_sources(scene: Scene, cameras: list[Camera], report: Reporter) -> list[Source]:
    """The field from cameras.

    Args:
        scene: The trained scene.
        cameras: In capture units.
        report: Told how far it is, and asked whether the job was cancelled.

    Returns:
        A source for every camera.

    Raises:
        Cancelled.
    """
    started, found = time.monotonic(), []
    for number, camera in enumerate(cameras):
        left = seconds_left(started, number, len(cameras))
        report.progress(number, len(cameras), "view", "Looking at the field", left)
        rendered = scene.render(camera, report=report)
        found.append(Source(camera, rendered.rgb_srgb.float(), rendered.alpha.float(), rendered.depth.float()))
    return found


def _evenly(values: list, most: int) -> list:
    return [values[number] for number in np.linspace(0, len(values) - 1, min(len(values), most)).round().astype(int)]


def _small(camera: Camera, scale: float) -> Camera:
    k = camera.intrinsics
    scale = min(scale, LONGEST_SIDE / max(k.width, k.height))
    return camera.scaled_to(max(1, round(k.width * scale)), max(1, round(k.height * scale)))


def _between(one: Camera, other: Camera) -> Camera:
    """Half way: the mean position, and the mean of the axes made orthogonal."""
    mean = (one.camera_to_world + other.camera_to_world) / 2
    u, _, v = np.linalg.svd(mean[:3, :3])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = u @ v, mean[:3, 3]
    k = one.intrinsics
    return Camera(Intrinsics(k.width, k.height, k.fx / WIDER, k.fy / WIDER, k.cx, k.cy), pose)
