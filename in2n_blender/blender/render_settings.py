"""What the render engine renders: which edit, how many rays, the subject alone or everything."""

from __future__ import annotations

import os
from dataclasses import dataclass

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty, PointerProperty

from ..scene.errors import In2nError
from ..workspace.layout import ORIGINAL, Workspace
from . import workspaces
from .scene_state import active_edit

WHAT_ITEMS = (
    ("SHOWN", "As Shown", "What Before / After shows: the unedited capture, or the edit that is selected"),
    ("ORIGINAL", "Original", "The unedited capture"),
    ("EDIT", "Selected Edit", "The edit that is selected in the list"),
)


class In2nRender(bpy.types.PropertyGroup):
    """How a scene is rendered by the engine IN2N (`scene.in2n.render`)."""

    what: EnumProperty(name="Render", description="What is rendered", items=WHAT_ITEMS, default="SHOWN")
    samples: IntProperty(
        name="Samples", description="Rays a pixel: more make edges smoother", default=1, min=1, max=4096, soft_max=64
    )
    blur_samples: IntProperty(
        name="Blur Samples",
        description="Rays a pixel at least where the camera has depth of field or moves while the shutter is open",
        default=24,
        min=1,
        max=4096,
        soft_max=256,
    )
    subject_only: BoolProperty(
        name="Subject Only",
        description=(
            "A matte: only what lies in the region, or where there is none within the scene's bounds, before nothing"
        ),
        default=False,
    )
    settings_of: PointerProperty(
        name="Settings Of",
        description="The scene whose capture, edit and settings are rendered; none: this one",
        type=bpy.types.Scene,
        options={"HIDDEN"},
    )


@dataclass(frozen=True)
class Chosen:
    """What of a scene is rendered.

    Attributes:
        scene: Whose settings these are.
        capture: The capture's Empty.
        workspace: The capture's.
        edit: The edit's name; None: the reconstruction.
        instruction: The edit's.
    """

    scene: object
    capture: object
    workspace: Workspace
    edit: str | None
    instruction: str

    @property
    def name(self) -> str:
        """What the edit is called in results."""
        return self.edit or ORIGINAL


def chosen(scene) -> Chosen:
    """What the scene's settings say is to be rendered.

    Args:
        scene: A `bpy.types.Scene`, not an evaluated copy.

    Returns:
        Whether there is a reconstruction of it the engine finds out.

    Raises:
        In2nError: "no_capture"; "no_edit" where the selected edit is asked for and there is none.
    """
    scene = scene.in2n.render.settings_of or scene
    capture, workspace = workspaces.require(scene)
    what = scene.in2n.render.what
    edit = active_edit(scene) if what == "EDIT" or (what == "SHOWN" and scene.in2n.shown == "AFTER") else None
    if what == "EDIT" and edit is None:
        raise In2nError(
            "no_edit", "There is no edit to render.", "Make one, or let Render Properties > Render be Original."
        )
    instruction = scene.in2n.edits[scene.in2n.active_edit].instruction if edit else ""
    return Chosen(scene, capture, workspace, edit, instruction)


def device(scene) -> str:
    """What pictures are computed on: $IN2N_DEVICE, for render farms, else what the scene says.

    Args:
        scene: Whose settings count.
    """
    return os.environ.get("IN2N_DEVICE") or scene.in2n.device


CLASSES = (In2nRender,)
