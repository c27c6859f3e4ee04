"""Gaussian splats as files of 3D Gaussian Splatting (Kerbl et al. 2023) hold them: read, moved and written by numpy.

Of each splat: x y z, opacity as a logit, scale_0..2 as logarithms, rot_0..3 a quaternion with w first, f_dc_0..2 and
f_rest_* the coefficients of spherical harmonics, channel after channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import In2nError
from .readers import ply

C0 = 0.28209479177387814  # the harmonic of degree 0
SCALES, ROTATION, DIRECT = (
    tuple(f"{name}_{i}" for i in range(n)) for name, n in (("scale", 3), ("rot", 4), ("f_dc", 3))
)
NEEDED = ("x", "y", "z", "opacity", *SCALES, *ROTATION, *DIRECT)


@dataclass(frozen=True)
class Splats:
    """A cloud of splats.

    Attributes:
        columns: Property -> (n,) float32, as a file has them, NEEDED and others.
    """

    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.columns["x"])

    @property
    def means(self) -> np.ndarray:
        """(n, 3) where they lie."""
        return self._stacked("xyz")

    @property
    def scales(self) -> np.ndarray:
        """(n, 3) their standard deviations along their own axes."""
        return np.exp(self._stacked(SCALES))

    @property
    def axes(self) -> np.ndarray:
        """(n, 3, 3) rotations, whose columns are their own axes."""
        return rotations(self._stacked(ROTATION))

    @property
    def opacities(self) -> np.ndarray:
        """(n,) in [0, 1]."""
        return 1 / (1 + np.exp(-np.clip(self.columns["opacity"], -80, 80)))

    @property
    def colors_srgb(self) -> np.ndarray:
        """(n, 3) in [0, 1], seen from all sides alike."""
        return np.clip(0.5 + C0 * self._stacked(DIRECT), 0, 1)

    def _stacked(self, names) -> np.ndarray:
        return np.stack([self.columns[name] for name in names], -1)

    def chosen(self, which: np.ndarray) -> Splats:
        """Some of them.

        Args:
            which: Indices, or (n,) bool.
        """
        return Splats({name: values[which] for name, values in self.columns.items()})

    def transformed(self, matrix: np.ndarray) -> Splats:
        """The splats moved, turned and scaled, what they look like from each side turned with them.

        Args:
            matrix: (4, 4), the same scale along all axes.

        Returns:
            A cloud of its own.

        Raises:
            In2nError: "not_alike" where the matrix scales its axes differently or mirrors.
        """
        matrix = np.asarray(matrix, np.float64)
        scale = np.linalg.norm(matrix[:3, :3], axis=0).mean()
        turn = matrix[:3, :3] / scale
        if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) or np.linalg.det(turn) < 0:
            raise In2nError(
                "not_alike",
                "Splats cannot be written from a capture that is scaled differently along its axes, or mirrored.",
                "Give the capture's Empty the same scale along X, Y and Z.",
            )
        columns = dict(self.columns)
        columns |= _named("xyz", self.means @ matrix[:3, :3].T + matrix[:3, 3])
        columns |= _named(SCALES, self._stacked(SCALES) + np.log(scale))
        columns |= _named(ROTATION, _product(quaternion_of(turn), self._stacked(ROTATION)))
        rest = [name for name in columns if name.startswith("f_rest_")]
        turned = _turned(self._stacked([f"f_rest_{i}" for i in range(len(rest))]), turn) if rest else None
        if turned is not None:
            columns |= _named([f"f_rest_{i}" for i in range(len(rest))], turned)
        return Splats({name: np.asarray(values, np.float32) for name, values in columns.items()})


def read_splats(path: Path) -> Splats:
    """Read a .ply of splats.

    Args:
        path: The file.

    Returns:
        The splats that have finite numbers throughout.

    Raises:
        In2nError: "bad_splats" for another kind of .ply, "bad_points" for what is none.
        OSError: The file cannot be read.
    """
    columns = {name: np.asarray(values, np.float32) for name, values in ply.read_vertices(path).items()}
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise In2nError("bad_splats", f"{path} holds no splats: it has no {missing[0]}.", "Make the splats again.")
    splats = Splats(columns)
    whole = np.all([np.isfinite(values) for values in columns.values()], axis=0)
    return splats if whole.all() else splats.chosen(whole)


def splat_bytes(splats: Splats) -> bytes:
    """A .ply of splats, binary.

    Args:
        splats: With all of NEEDED.

    Returns:
        The file's content.
    """
    names = list(splats.columns)
    rows = np.empty(len(splats), [(name, "<f4") for name in names])
    for name in names:
        rows[name] = splats.columns[name]
    properties = [f"property float {name}" for name in names]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}", *properties, "end_header", ""]
    return "\n".join(header).encode() + rows.tobytes()


def rotations(quaternions: np.ndarray) -> np.ndarray:
    """The matrices of quaternions.

    Args:
        quaternions: (n, 4), w first, of any length but 0.

    Returns:
        (n, 3, 3).
    """
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def quaternion_of(rotation: np.ndarray) -> np.ndarray:
    """The quaternion of a rotation: the eigenvector of Bar-Itzhack (2000), exact for any angle.

    Args:
        rotation: (3, 3).

    Returns:
        (4,) w first, of unit length.
    """
    (a, b, c), (d, e, f), (g, h, i) = rotation
    table = np.array(
        [
            [a - e - i, d + b, g + c, h - f],
            [d + b, e - a - i, h + f, c - g],
            [g + c, h + f, i - a - e, d - b],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    x, y, z, w = np.linalg.eigh(table)[1][:, -1]
    return np.array([w, x, y, z])


def _product(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The quaternion product of one (4,) with each of the others (n, 4)."""
    w, v = one[0], one[1:]
    real = w * others[:, 0] - others[:, 1:] @ v
    return np.column_stack([real, w * others[:, 1:] + others[:, :1] * v + np.cross(v, others[:, 1:])])


def _named(names, values: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(names, np.asarray(values, np.float32).T))


def harmonics(directions: np.ndarray, degree: int) -> np.ndarray:
    """The real spherical harmonics above degree 0, in 3D Gaussian Splatting's order and with its signs.

    Args:
        directions: (n, 3) of unit length, from the camera to the splat.
        degree: The highest, 0 to 3.

    Returns:
        (n, (degree + 1)^2 - 1).
    """
    x, y, z = directions.T
    xx, yy, zz = x * x, y * y, z * z
    bands = [
        [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x],
        [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * zz - xx - yy),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
        ],
        [
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * zz - xx - yy),
            0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
            -0.4570457994644658 * x * (4 * zz - xx - yy),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ],
    ]
    return np.stack([value for band in bands[:degree] for value in band], -1) if degree else np.zeros((len(x), 0))


def _turned(rest: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """f_rest (n, 3 * k), channel after channel, of splats that are turned: seen from a direction they look as before
    from the direction turned back. Each degree turns into itself, so its matrix follows from enough directions."""
    count = rest.shape[1] // 3
    degree = {3: 1, 8: 2, 15: 3}.get(count)
    if degree is None:  # of a degree that nobody writes
        return rest
    directions = np.random.default_rng(0).normal(size=(64, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    now, before = harmonics(directions, degree), harmonics(directions @ turn, degree)
    matrix = np.linalg.lstsq(now, before, rcond=None)[0]  # now @ matrix = before
    return (rest.reshape(-1, 3, count).astype(np.float64) @ matrix.T).reshape(len(rest), -1)
