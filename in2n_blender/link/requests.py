"""The messages between Blender (or the command line) and the worker: JSON-RPC 2.0, one object a line.

Requests carry one of the parameter dataclasses below; the worker answers with a result (a dict) or an error
{"code", "message", "data": {"code", "hint", "traceback"}}. While a job runs the worker sends notifications:
`progress` (done, total, unit, message, seconds_left), `artifact` (kind, path) and `log` (text).
Images and other large data move by file; only their path is in the message.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class ImportCapture:
    """Normalise a capture into a workspace: undistort, rotate, scale to the preset, write capture.json and images/."""

    method: ClassVar[str] = "import"
    workspace: str
    source: str
    preset: str = "standard"
    hold_out_every: int = 8  # every n-th view is held out for measuring when the files name none; 0: none


@dataclass(frozen=True)
class Reconstruct:
    """Train the NeRF on the capture. Continues from its checkpoint unless restart is set.

    appearance: for photos of different exposure or white balance; new views then have their mean.
    refine_cameras: correct the training views' poses a little while training.
    """

    method: ClassVar[str] = "reconstruct"
    workspace: str
    preset: str = "standard"
    device: str = "auto"
    seed: int = 0
    steps: int | None = None
    restart: bool = False
    appearance: bool = False
    refine_cameras: bool = False


@dataclass(frozen=True)
class Edit:
    """Edit the reconstruction by an instruction. Guidance None: the editor's own default. parent: the name of an edit
    to build on."""

    method: ClassVar[str] = "edit"
    workspace: str
    name: str
    instruction: str
    editor: str = "miniature"
    guidance_text: float | None = None
    guidance_image: float | None = None
    seed: int = 0
    preset: str = "standard"
    device: str = "auto"
    rounds: int | None = None
    noise_schedule: str = "falling"  # one of NOISE_SCHEDULES; see engine/editing/dataset_update.py
    perceptual: str = "auto"  # one of PERCEPTUAL; see engine/nerf/losses.py
    restart: bool = False
    parent: str | None = None


@dataclass(frozen=True)
class PreviewGrid:
    """Edit one original photo at every pair of guidance scales, to find those that an edit wants.

    view: the photo's name; None: the first one that is trained on. grid: False makes one picture.
    text_scales, image_scales: None for a grid around the editor's own defaults (without a grid: the defaults
    themselves). out: the folder for the pictures; None: previews/<folder_name> in the workspace.
    """

    method: ClassVar[str] = "preview"
    workspace: str
    instruction: str
    editor: str = "miniature"
    view: str | None = None
    grid: bool = True
    text_scales: list[float] | None = None
    image_scales: list[float] | None = None
    seed: int = 0
    device: str = "auto"
    out: str | None = None
    restart: bool = False

    @property
    def folder_name(self) -> str:
        """The instruction's first words and a mark of all else that a picture depends on, but for the scales."""
        words = "-".join(re.findall(r"[a-z0-9]+", self.instruction.lower())[:6])[:40].strip("-") or "preview"
        mark = hashlib.sha256(repr((self.instruction.strip(), self.editor, self.view, self.seed)).encode()).hexdigest()
        return f"{words}-{mark[:6]}"


@dataclass(frozen=True)
class RenderPath:
    """Render a camera path file (CameraPath JSON) to renders/<edit>/<path name>/. edit None: the reconstruction."""

    method: ClassVar[str] = "render"
    workspace: str
    camera_path: str
    edit: str | None = None
    device: str = "auto"


@dataclass(frozen=True)
class ExtractMesh:
    """Marching cubes of the density with vertex colours, to meshes/<edit>.ply and .glb. edit None: the
    reconstruction."""

    method: ClassVar[str] = "mesh"
    workspace: str
    edit: str | None = None
    resolution: int = 192
    device: str = "auto"


@dataclass(frozen=True)
class PathThroughViews:
    """Write a smooth camera path through the capture's views to paths/<name>.json. Result: {"camera_path": file}."""

    method: ClassVar[str] = "path"
    workspace: str
    name: str = "through-views"
    frames: int = 48
    fps: float = 24.0


@dataclass(frozen=True)
class Summarise:
    """Gather what a person looks at in the folder `out`: before_after.gif, contact_sheet.png and report.json.

    camera_path: the name of a path rendered before, as in renders/<edit>/<camera_path>/.
    results: what the earlier jobs returned, by their method ("import", "reconstruct", "edit", "render", "mesh").
    """

    method: ClassVar[str] = "summary"
    workspace: str
    edit: str
    camera_path: str
    out: str
    device: str = "auto"
    results: dict = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Evaluate:
    """Measure an edit on the held-out views and along a path. edit None: the reconstruction, against its photos.

    truth: folder with <view name>.png, what the edit should look like; None: known only for some of the miniature's
    instructions. clip: a CLIP model's name or folder; None: the usual one where there are captions, else no CLIP.
    frames: of the path through the views. out: folder for result.json and sheet.png.
    """

    method: ClassVar[str] = "evaluate"
    workspace: str
    edit: str | None = None
    truth: str | None = None
    clip: str | None = None
    source_caption: str | None = None
    target_caption: str | None = None
    frames: int = 24
    out: str | None = None
    device: str = "auto"


@dataclass(frozen=True)
class DownloadModel:
    """Fetch an editing model of the Hugging Face hub into its local cache. Sent only with the user's leave."""

    method: ClassVar[str] = "download"
    name: str


@dataclass(frozen=True)
class FindDevices:
    """What torch can compute on. Result: {"devices": [{"device", "name", "memory_gb"}]}, best first."""

    method: ClassVar[str] = "devices"


@dataclass(frozen=True)
class Testbed:
    """Measure editing methods on scenes of which the right answer is known. Continues what `out` holds from the same
    settings.

    methods, scenes: empty means all (engine/editing/baselines.py, engine/evaluation/testbed.py). instructions: of the
    miniature. cache: the folder of the rendered scenes. blender_python: a Python that can import bpy, or `blender`;
    empty: the worker's own. clip: a CLIP model's name or folder; empty: CLIP is not measured. steps, rounds None: as
    many as the preset wants.
    """

    method: ClassVar[str] = "testbed"
    out: str
    cache: str
    methods: list = dataclasses.field(default_factory=list)
    scenes: list = dataclasses.field(default_factory=list)
    instructions: list = dataclasses.field(
        default_factory=lambda: ["make it look like it snowed", "make it sunset", "make it gold"]
    )
    editor: str = "miniature"
    guidance_text: float | None = None
    guidance_image: float | None = None
    seed: int = 0
    preset: str = "draft"
    device: str = "auto"
    steps: int | None = None
    rounds: int | None = None
    clip: str = ""
    blender_python: str = ""
    scene_size: int | None = None  # pixels a side; None for all three: as the scenes are meant to be
    scene_views: int | None = None  # training views
    scene_samples: int | None = None  # Cycles samples a pixel


REQUESTS = {
    c.method: c
    for c in (
        ImportCapture,
        Reconstruct,
        Edit,
        PreviewGrid,
        RenderPath,
        ExtractMesh,
        PathThroughViews,
        Summarise,
        Evaluate,
        DownloadModel,
        Testbed,
    )
}

NOISE_SCHEDULES = ("falling", "uniform")
PERCEPTUAL = ("auto", "off", "lpips", "lpips-or-random")
MOST_SCALES = 8  # of one kind in a preview
DEVICES = r"auto|cpu|mps|cuda(:\d+)?"


def check_request(request) -> None:
    """Raises In2nError for what is wrong in a request whatever the workspace holds."""
    from ..scene.errors import In2nError
    from ..scene.presets import PRESETS

    instruction = getattr(request, "instruction", None)
    if instruction is not None and not instruction.strip():
        raise In2nError(
            "empty_instruction",
            "The instruction is empty.",
            "Say what to change, for example “make it look like autumn”.",
        )
    if getattr(request, "parent", None) is not None and request.parent == request.name:
        raise In2nError(
            "own_parent", f"The edit “{request.name}” cannot build on itself.", "Give the new edit another name."
        )
    preset = getattr(request, "preset", None)
    if preset is not None and preset not in PRESETS:
        raise In2nError("unknown_preset", f"There is no preset “{preset}”.", f"Choose one of: {', '.join(PRESETS)}.")
    device = getattr(request, "device", None)
    if device is not None and not re.fullmatch(DEVICES, device):
        raise In2nError("unknown_device", f"There is no device “{device}”.", "Choose auto, cpu, cuda or mps.")
    for field, choices in (("noise_schedule", NOISE_SCHEDULES), ("perceptual", PERCEPTUAL)):
        if getattr(request, field, choices[0]) not in choices:
            raise In2nError(
                f"unknown_{field}",
                f"There is no {field.replace('_', ' ')} “{getattr(request, field)}”.",
                f"Choose one of: {', '.join(choices)}.",
            )
    scales = [
        scale for field in ("guidance_text", "guidance_image") if (scale := getattr(request, field, None)) is not None
    ]
    for field in ("text_scales", "image_scales"):
        several = getattr(request, field, None)
        if several is not None and not 0 < len(several) <= MOST_SCALES:
            raise In2nError(
                "bad_guidance",
                f"A preview takes from 1 to {MOST_SCALES} guidance scales in each direction.",
                "Give fewer numbers, for example 5, 7.5 and 10.",
            )
        scales += several or []
    for scale in scales:
        if not (math.isfinite(scale) and scale >= 0):
            raise In2nError(
                "bad_guidance",
                f"The guidance scale {scale} cannot be used.",
                "Give a number from 0 upwards; 7.5 (text) and 1.5 (image) are usual.",
            )
    if isinstance(request, Evaluate):
        captions = [(caption or "").strip() for caption in (request.source_caption, request.target_caption)]
        if any(captions) and (not all(captions) or captions[0] == captions[1]):
            raise In2nError(
                "bad_captions",
                "The CLIP direction needs two captions that differ.",
                (
                    "Describe the unedited scene in one and the edited scene in the other, for example “a garden” and "
                    "“a garden in snow”."
                ),
            )
        if request.edit is None and (request.clip or request.truth or any(captions)):
            raise In2nError(
                "nothing_edited",
                "The unedited reconstruction is compared with its photos alone.",
                "Name an edit to measure it by CLIP or against a truth.",
            )


def to_params(request) -> dict:
    return dataclasses.asdict(request)


def from_params(method: str, params: dict):
    """The request of a message. Raises KeyError for an unknown method and TypeError for wrong parameter names."""
    return REQUESTS[method](**params)
