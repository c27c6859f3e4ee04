"""Where an edit may act: a box, an ellipsoid or a closed mesh, placed in the capture's coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import In2nError

KINDS = ("box", "ellipsoid", "mesh")


@dataclass(frozen=True)
class Region:
    """kind "box": the cube [-1, 1]^3; "ellipsoid": the unit ball; "mesh": a closed triangle mesh file, relative to the
    workspace.

    matrix: (4, 4) float64, from the shape's own coordinates to the capture's.
    """

    kind: str
    matrix: np.ndarray
    mesh: str | None = None

    def to_json(self) -> dict:
        return {"kind": self.kind, "matrix": np.asarray(self.matrix, np.float64).tolist(), "mesh": self.mesh}

    @staticmethod
    def from_json(data: dict) -> Region:
        """Raises In2nError("bad_region")."""
        try:
            region = Region(data["kind"], np.array(data["matrix"], np.float64).reshape(4, 4), data.get("mesh"))
        except (KeyError, TypeError, ValueError) as error:
            raise _bad_region(f"it cannot be read ({error})") from None
        if region.kind not in KINDS:
            raise _bad_region(f"its kind “{region.kind}” is none of {', '.join(KINDS)}")
        if not np.isfinite(region.matrix).all() or abs(np.linalg.det(region.matrix[:3, :3])) < 1e-12:
            raise _bad_region("its matrix has no volume")
        if (region.kind == "mesh") != bool(region.mesh):
            raise _bad_region("a mesh file is given for the kind “mesh”, and for no other")
        return region


def _bad_region(reason: str) -> In2nError:
    return In2nError("bad_region", f"The region of the edit is not valid: {reason}.", "Choose the region object again.")
