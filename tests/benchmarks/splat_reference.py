"""An independent rasteriser of 3DGS files, to judge ours by: numpy alone, from the formulas of Kerbl et al. 2023.

It shares no code with the product, not even the reader: a header, floats, and for each pixel every splat that reaches
it, sorted over the whole picture by depth. Cameras are those of a transforms.json: camera-to-world with OpenGL's axes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

LOW_PASS, LEAST_ALPHA, MOST_ALPHA, LEAST_TRANSMITTANCE = 0.3, 1 / 255, 0.99, 1e-4
STRIP = 16  # rows of the picture at a time, for its memory's sake


def read_ply(path: Path) -> dict[str, np.ndarray]:
    """The float properties of a binary .ply's vertices.

    Args:
        path: Written little endian, with nothing but float properties.

    Returns:
        Property -> (n,) float64.
    """
    content = path.read_bytes()
    head, body = content.split(b"end_header\n", 1)
    lines = head.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"], lines[:2]
    names = [line.split()[-1] for line in lines if line.startswith("property float ")]
    assert len(names) == sum(line.startswith("property") for line in lines)
    count = next(int(line.split()[-1]) for line in lines if line.startswith("element vertex"))
    table = np.frombuffer(body, "<f4", count * len(names)).reshape(count, len(names))
    return {name: table[:, number].astype(np.float64) for number, name in enumerate(names)}


def picture(splats: dict[str, np.ndarray], pose: np.ndarray, lens: tuple, width: int, height: int) -> np.ndarray:
    """Draw splats before black.

    Args:
        splats: Of `read_ply`.
        pose: (4, 4) camera-to-world, x right, y up, looking along -z.
        lens: fx, fy, cx, cy in pixels, (0, 0) the corner of the upper left pixel.
        width: In pixels.
        height: In pixels.

    Returns:
        (height, width, 4) sRGB and the alpha.
    """
    fx, fy, cx, cy = lens
    stacked = lambda *names: np.stack([splats[name] for name in names], -1)
    means = stacked("x", "y", "z")
    to_camera = np.diag([1.0, -1, -1]) @ pose[:3, :3].T  # x right, y down, z forward
    t = (means - pose[:3, 3]) @ to_camera.T
    kept = t[:, 2] > 0.2 * np.exp(stacked("scale_0", "scale_1", "scale_2")).max(1)
    splats = {name: values[kept] for name, values in splats.items()}
    t, means = t[kept], means[kept]
    x, y, z = t.T
    limit_x, limit_y = 1.3 * width / (2 * fx), 1.3 * height / (2 * fy)
    tx, ty = np.clip(x / z, -limit_x, limit_x) * z, np.clip(y / z, -limit_y, limit_y) * z
    jacobian = np.zeros((len(z), 2, 3))
    jacobian[:, 0, 0], jacobian[:, 0, 2] = fx / z, -fx * tx / z**2
    jacobian[:, 1, 1], jacobian[:, 1, 2] = fy / z, -fy * ty / z**2
    turn = _matrix(stacked("rot_0", "rot_1", "rot_2", "rot_3"))
    half = turn * np.exp(stacked("scale_0", "scale_1", "scale_2"))[:, None, :]
    flat = jacobian @ to_camera @ half
    covariance = flat @ flat.transpose(0, 2, 1) + LOW_PASS * np.eye(2)
    conic = np.linalg.inv(covariance)
    opacity = 1 / (1 + np.exp(-splats["opacity"]))
    color = _colors(splats, means - pose[:3, 3])
    u, v = fx * x / z + cx, fy * y / z + cy
    # Where the falloff reaches 1 / 255: nothing farther away counts.
    reach = np.sqrt(2 * np.log(np.maximum(opacity / LEAST_ALPHA, 1)))
    reach = np.stack([reach * np.sqrt(covariance[:, 0, 0]), reach * np.sqrt(covariance[:, 1, 1])], -1)
    inside = (u + reach[:, 0] > 0) & (u - reach[:, 0] < width) & (v + reach[:, 1] > 0) & (v - reach[:, 1] < height)
    order = np.nonzero(inside & (opacity > LEAST_ALPHA))[0]
    order = order[np.argsort(z[order], kind="stable")]
    parts = [
        _strip(first, min(first + STRIP, height), width, u[order], v[order], conic[order], opacity[order], color[order],
               reach[order])
        for first in range(0, height, STRIP)
    ]  # fmt: skip
    return np.concatenate(parts)


def _strip(top, bottom, width, u, v, conic, opacity, color, reach) -> np.ndarray:
    """Rows from `top` up to `bottom`: every splat at every pixel that it reaches, then pixel by pixel, by depth."""
    low_x = np.clip(np.floor(u - reach[:, 0]), 0, width).astype(int)
    high_x = np.clip(np.ceil(u + reach[:, 0]) + 1, 0, width).astype(int)
    low_y = np.clip(np.floor(v - reach[:, 1]), top, bottom).astype(int)
    high_y = np.clip(np.ceil(v + reach[:, 1]) + 1, top, bottom).astype(int)
    wide, tall = high_x - low_x, high_y - low_y
    count = wide * tall
    splat = np.repeat(np.arange(len(u)), count)
    within = np.arange(len(splat)) - np.repeat(np.cumsum(count) - count, count)
    column, row = low_x[splat] + within % wide[splat], low_y[splat] + within // wide[splat]
    dx, dy = column + 0.5 - u[splat], row + 0.5 - v[splat]
    power = -0.5 * (conic[splat, 0, 0] * dx**2 + conic[splat, 1, 1] * dy**2) - conic[splat, 0, 1] * dx * dy
    alpha = np.minimum(MOST_ALPHA, opacity[splat] * np.exp(np.minimum(power, 0)))
    counts = alpha >= LEAST_ALPHA
    splat, alpha, pixel = splat[counts], alpha[counts], ((row - top) * width + column)[counts]
    order = np.argsort(pixel, kind="stable")  # splats are in the order of their depth already
    splat, alpha, pixel = splat[order], alpha[order], pixel[order]
    logs = np.cumsum(np.log1p(-alpha))
    first = np.concatenate([[True], pixel[1:] != pixel[:-1]]) if len(pixel) else np.zeros(0, bool)
    start = np.maximum.accumulate(np.where(first, np.arange(len(pixel)), 0))
    before_all = np.where(start > 0, logs[np.maximum(start - 1, 0)], 0.0)
    after = np.exp(logs - before_all)
    taken = after >= LEAST_TRANSMITTANCE
    weight = np.where(taken, after / (1 - alpha) * alpha, 0.0)
    size = (bottom - top) * width
    sums = [np.bincount(pixel, weight * color[splat, channel], size) for channel in range(3)]
    return np.stack([*sums, np.bincount(pixel, weight, size)], -1).reshape(bottom - top, width, 4)


def _matrix(q: np.ndarray) -> np.ndarray:
    r, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    return np.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - r * z), 2 * (x * z + r * y),
            2 * (x * y + r * z), 1 - 2 * (x * x + z * z), 2 * (y * z - r * x),
            2 * (x * z - r * y), 2 * (y * z + r * x), 1 - 2 * (x * x + y * y),
        ],
        -1,
    ).reshape(-1, 3, 3)  # fmt: skip


def _colors(splats: dict[str, np.ndarray], away: np.ndarray) -> np.ndarray:
    """(n, 3): the spherical harmonics of the reference implementation, to the degree that the file has."""
    x, y, z = (away / np.linalg.norm(away, axis=1, keepdims=True)).T
    xx, yy, zz = x * x, y * y, z * z
    rest = sum(name.startswith("f_rest_") for name in splats) // 3
    basis = [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    basis += [1.0925484305920792 * x * y, -1.0925484305920792 * y * z, 0.31539156525252005 * (2 * zz - xx - yy)]
    basis += [-1.0925484305920792 * x * z, 0.5462742152960396 * (xx - yy)]
    channels = []
    for channel in range(3):
        value = 0.28209479177387814 * splats[f"f_dc_{channel}"] + 0.5
        for number in range(rest):
            value = value + basis[number] * splats[f"f_rest_{channel * rest + number}"]
        channels.append(np.maximum(value, 0))
    return np.stack(channels, -1)
