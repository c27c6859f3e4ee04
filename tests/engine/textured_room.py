"""A corner of a room with speckled walls, in which structure from motion finds enough to hold on to."""

from __future__ import annotations

import numpy as np

from in2n_blender.scene.camera import Camera, Intrinsics

WIDTH, HEIGHT = 320, 240
LENS = Intrinsics(WIDTH, HEIGHT, 300.0, 300.0, 160.0, 120.0)
TEXELS, SIDE = 512, 6.0  # of a wall, and its length
# Each wall: its origin and the two axes that span it.
WALLS = (
    ((0, 0, 0), (1, 0, 0), (0, 1, 0)),
    ((0, 0, 0), (1, 0, 0), (0, 0, 1)),
    ((0, 0, 0), (0, 1, 0), (0, 0, 1)),
)


def textures(seed=0):
    """One for each wall, (TEXELS, TEXELS, 3) uint8: blots of many sizes."""
    random = np.random.default_rng(seed)
    found = []
    for _ in WALLS:
        layers = np.zeros((TEXELS, TEXELS, 3))
        for side in (16, 32, 64, 128, 256):
            blots = random.uniform(-1, 1, (side, side, 3))
            layers += np.kron(blots, np.ones((TEXELS // side, TEXELS // side, 1)))
        found.append(np.clip(128 + 38 * layers, 0, 255).astype(np.uint8))
    return found


def cameras(count):
    """On an arc in front of the corner, looking into it; LENS, OpenGL axes."""
    found = []
    for share in np.linspace(0.12, 0.88, count):
        angle = share * np.pi / 2
        position = np.array([4.6 * np.cos(angle) + 0.7, 4.6 * np.sin(angle) + 0.7, 2.2 + 0.6 * np.sin(5 * share)])
        backward = position - np.array([1.2, 1.2, 1.2])
        backward /= np.linalg.norm(backward)
        right = np.cross([0, 0, 1], backward)
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = np.stack([right, np.cross(backward, right), backward], 1), position
        found.append(Camera(LENS, pose))
    return found


def walls_hit(camera):
    """For each wall (hit, u, v, nearest): (pixels,) bool, where on it, and how far along the rays all walls so far are,
    infinity beside them. A pixel is hit again by a later wall that is nearer."""
    origins, directions = camera.rays()
    nearest = np.full(len(directions), np.inf)
    for origin, across, along in np.array(WALLS, np.float64):
        normal = np.cross(across, along)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = ((origin - origins) @ normal) / (directions @ normal)
        at = origins + directions * distance[:, None] - origin
        u, v = at @ across, at @ along
        hit = (distance > 0) & (distance < nearest) & (u >= 0) & (v >= 0) & (u < SIDE) & (v < SIDE)
        nearest[hit] = distance[hit]
        yield hit, u, v, nearest


def picture(camera, walls):
    """What a camera sees, (HEIGHT, WIDTH, 3) uint8; grey beside the walls."""
    seen = np.full((camera.intrinsics.height * camera.intrinsics.width, 3), 90, np.uint8)
    for (hit, u, v, _), texture in zip(walls_hit(camera), walls):
        place = (np.stack([v[hit], u[hit]]) / SIDE * TEXELS).astype(int)
        seen[hit] = texture[place[0], place[1]]
    return seen.reshape(camera.intrinsics.height, camera.intrinsics.width, 3)


def sharp_picture(camera, walls, samples=2):
    """As `picture`, averaged over samples x samples in each pixel."""
    k = camera.intrinsics
    fine = picture(camera.scaled_to(k.width * samples, k.height * samples), walls).astype(np.float32)
    return fine.reshape(k.height, samples, k.width, samples, 3).mean((1, 3)).round().astype(np.uint8)
