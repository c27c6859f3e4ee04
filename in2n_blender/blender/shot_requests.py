"""Shots as the engine is asked for them: of what the scene's settings say, where the capture's Empty places it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..link.requests import RenderShot
from ..scene.camera import Camera
from ..scene.shot import Shot
from . import regions
from .cameras import workspace_shift
from .render_settings import Chosen, device


@dataclass(frozen=True)
class Place:
    """What is rendered, and where it stands in the scene.

    Attributes:
        chosen: What the scene's settings say.
        capture_world: (4, 4) float64 the matrix of the capture's Empty.
        shift: (3,) float64 what has to be added to places under the Empty for the engine.
        subject: As `RenderShot.subject`.
    """

    chosen: Chosen
    capture_world: np.ndarray
    shift: np.ndarray
    subject: dict

    @staticmethod
    def of(chosen: Chosen, depsgraph) -> Place:
        """The place of what is rendered, as a depsgraph has it.

        Args:
            chosen: What is rendered.
            depsgraph: The render's or the viewport's.

        Raises:
            In2nError: "bad_capture", "bad_region".
        """
        world = matrix_world(chosen.capture, depsgraph)
        return Place(chosen, world, workspace_shift(chosen.capture, chosen.workspace), _subject(chosen, depsgraph))

    def request(self, shot: Shot, **settings) -> Callable[[str], RenderShot]:
        """What to ask the engine for.

        Args:
            shot: In the coordinates under the Empty.
            **settings: Of RenderShot: samples, passes, transparent.

        Returns:
            From the file to the request.
        """
        moved = np.eye(4)
        moved[:3, 3] = self.shift
        cameras = tuple(Camera(c.intrinsics, moved @ c.camera_to_world) for c in shot.cameras)
        to_scene = self.capture_world @ np.linalg.inv(moved)
        params = {
            "workspace": str(self.chosen.workspace.root),
            "edit": self.chosen.edit,
            "shot": replace(shot, cameras=cameras).to_json(),
            "to_scene": to_scene.ravel().tolist(),
            "subject": self.subject,
            "device": device(self.chosen.scene),
            **settings,
        }
        return lambda file: RenderShot(out=file, **params)


def matrix_world(obj, depsgraph) -> np.ndarray:
    """An object's matrix as a depsgraph has it; the object's own where it is not in there, as what is hidden.

    Args:
        obj: A `bpy.types.Object`.
        depsgraph: The render's or the viewport's.

    Returns:
        (4, 4) float64.
    """
    return np.array(obj.evaluated_get(depsgraph).matrix_world, np.float64)


def _subject(chosen: Chosen, depsgraph) -> dict:
    scene = chosen.scene
    if not scene.in2n.render.subject_only:
        return {}
    region = scene.in2n.region
    if region is None or scene.objects.get(region.name) != region:
        return {"type": "bounds"}
    found = regions.region_of(region, chosen.capture, chosen.workspace, scene.in2n.soft_edge, depsgraph)
    return found.to_json()
