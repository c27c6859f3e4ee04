"""What a cloud of Gaussian splats is: a row of numbers for each, as 3D Gaussian Splatting (Kerbl et al. 2023) has them.

A row holds, in this order, the columns below: the mean in capture coordinates, the logarithms of the three scales, the
rotation as a quaternion w, x, y, z, the opacity's logit, and 9 x 3 coefficients of spherical harmonics to degree 2,
coefficient by coefficient, each red, green, blue.
"""

from __future__ import annotations

import torch

MEAN, SCALE, ROTATION, OPACITY, COLOR = slice(0, 3), slice(3, 6), slice(6, 10), 10, slice(11, 38)
COEFFICIENTS = 9  # of degree 2
COLUMNS = 38

C0, C1 = 0.28209479177387814, 0.4886025119029199
C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)


def harmonics(directions: torch.Tensor) -> torch.Tensor:
    """The real spherical harmonics to degree 2, in 3D Gaussian Splatting's order and with its signs.

    Args:
        directions: (n, 3) of unit length, from the camera to the splat.

    Returns:
        (n, 9). A splat's colour is their sum weighted by its coefficients, plus 1/2.
    """
    x, y, z = directions.unbind(-1)
    return torch.stack(
        [
            torch.full_like(x, C0),
            -C1 * y,
            C1 * z,
            -C1 * x,
            C2[0] * x * y,
            -C2[0] * y * z,
            C2[1] * (2 * z * z - x * x - y * y),
            -C2[0] * x * z,
            C2[2] * (x * x - y * y),
        ],
        -1,
    )


def rotations(quaternions: torch.Tensor) -> torch.Tensor:
    """The matrices of quaternions.

    Args:
        quaternions: (n, 4), w first, of any length but 0.

    Returns:
        (n, 3, 3).
    """
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def quaternions_towards(normals: torch.Tensor) -> torch.Tensor:
    """Rotations that turn the z axis to given directions, the shortest way.

    Args:
        normals: (n, 3) of unit length.

    Returns:
        (n, 4) quaternions, w first, of unit length.
    """
    x, y, z = normals.unbind(-1)
    # Half way between the axis and the direction: (1 + cos, axis x direction), normalised.
    found = torch.stack([1 + z, -y, x, torch.zeros_like(x)], -1)
    opposite = (found.norm(dim=-1) < 1e-4)[:, None]
    return torch.nn.functional.normalize(torch.where(opposite, found.new_tensor([0.0, 1, 0, 0]), found), dim=-1)
