"""What the engine can be asked for: one dataclass a method, its fields with help, limits and choices.

A request is the single source of what a job takes: the command line's arguments, the operators' properties and the
checks are made from its fields' `Setting`s. It travels as JSON-RPC 2.0, one object a line; images and other large data
move by file, and only their path is in the message.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import re
import types
import typing
from dataclasses import dataclass
from typing import ClassVar

from ..scene.errors import In2nError
from ..scene.presets import PRESETS

NOISE_SCHEDULES = ("falling", "uniform")
PERCEPTUAL = ("auto", "off", "lpips", "lpips-or-random")
MOST_SCALES = 8  # of one kind in a preview
DEVICES = r"auto|cpu|mps|cuda(:\d+)?"
HIGHEST_SEED = 2**31 - 1  # Blender's integers


@dataclass(frozen=True)
class Setting:
    """What a person needs to know of a request's field.

    Attributes:
        label: Its name in the interface, in title case.
        help: One sentence without a full stop, as a tooltip and the command line's help show it.
        low: The least allowed number, for each number of a list.
        high: The largest allowed number.
        choices: The allowed texts; empty: any.
        pattern: A regular expression that a text has to match as a whole; empty: any.
        metavar: What stands for the value in the command line's help.
        advice: The hint of an error about this field.
        code: The code of that error.
    """

    label: str
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    metavar: str = ""
    advice: str = ""
    code: str = "bad_setting"


def _setting(label: str, help: str, default=dataclasses.MISSING, factory=dataclasses.MISSING, **more):
    """A field with its `Setting`."""
    return dataclasses.field(
        default=default, default_factory=factory, metadata={"setting": Setting(label, help, **more)}
    )


def _workspace():
    return _setting("Workspace", "folder of the reconstruction, its edits and results", metavar="WORKSPACE")


def _preset(default: str = "standard"):
    return _setting(
        "Preset", "size of photos and model", default, choices=tuple(PRESETS), code="unknown_preset",
    )  # fmt: skip


def _device():
    return _setting(
        "Device",
        "what the engine computes on: auto, cpu, cuda or mps",
        "auto",
        pattern=DEVICES,
        code="unknown_device",
        advice="Choose auto, cpu, cuda or mps.",
    )


def _seed():
    return _setting(
        "Seed", "the same seed gives the same result on the same device", 0, low=0, high=HIGHEST_SEED,
    )  # fmt: skip


def _instruction():
    return _setting("Instruction", "what to change, for example “make it snow”", metavar="TEXT")


def _editor():
    return _setting(
        "Model",
        "miniature (bundled), timbrooks/instruct-pix2pix, or a folder in diffusers' format",
        "miniature",
        metavar="NAME",
    )


def _guidance(which: str, help: str):
    return _setting(
        f"{which} Guidance",
        help,
        None,
        low=0.0,
        high=100.0,
        metavar="S",
        code="bad_guidance",
        advice="Give a number from 0 upwards; 7.5 (text) and 1.5 (image) are usual.",
    )


def _scales(which: str, help: str):
    return _setting(f"{which} Scales", help, None, low=0.0, high=100.0, metavar="S", code="bad_guidance")


def _edit(what: str):
    return _setting("Edit", f"which edit {what} (default: the unedited reconstruction)", None, metavar="NAME")


def _restart(help: str = "start anew instead of from what was saved"):
    return _setting("Start Over", help, False)


def _frames(default: int, help: str):
    return _setting("Frames", help, default, low=1, high=100_000)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What all requests share. method: the name in the message."""

    method: ClassVar[str]

    def check(self) -> None:
        """Raise In2nError for what is wrong whatever the workspace holds: types, limits, choices, contradictions."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            _check_value(field, setting_of(type(self), field.name), value, _types(type(self)))
            if _required(field) and isinstance(value, str) and not value.strip():
                raise _bad_request(type(self), f"its {field.name} is empty")

    def to_params(self) -> dict:
        """The fields as JSON knows them; the inverse of `from_params`."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class ImportCapture(Request):
    """Normalise a capture into a workspace: undistort, rotate, scale to the preset, write capture.json and images/."""

    method: ClassVar[str] = "import"
    workspace: str = _workspace()
    source: str = _setting(
        "Capture", "folder or file: transforms.json, or a COLMAP model beside its images", metavar="CAPTURE"
    )
    preset: str = _preset()
    hold_out_every: int = _setting(
        "Hold Out Every",
        "every n-th photo is kept for measuring where the files name none; 0: none",
        8,
        low=0,
        high=10_000,
    )


@dataclass(frozen=True, kw_only=True)
class Reconstruct(Request):
    """Train the NeRF on the capture. Continues from its checkpoint unless restart is set."""

    method: ClassVar[str] = "reconstruct"
    workspace: str = _workspace()
    preset: str = _preset()
    device: str = _device()
    seed: int = _seed()
    steps: int | None = _setting(
        "Steps", "training steps of the reconstruction (default: the preset's)", None, low=1, high=10_000_000,
    )  # fmt: skip
    restart: bool = _restart()
    appearance: bool = _setting(
        "Even Out Exposure",
        "for photos of different exposure or white balance: learn each photo's, render their mean",
        False,
    )
    refine_cameras: bool = _setting("Refine Cameras", "correct the cameras' poses a little while training", False)


@dataclass(frozen=True, kw_only=True)
class Edit(Request):
    """Edit the reconstruction by an instruction. Guidance None: the model's own default."""

    method: ClassVar[str] = "edit"
    workspace: str = _workspace()
    name: str = _setting("Name", "the edit's name (default: made from the instruction)", metavar="NAME")
    instruction: str = _instruction()
    editor: str = _editor()
    guidance_text: float | None = _guidance("Text", "how strongly to follow the instruction (default: the model's)")
    guidance_image: float | None = _guidance("Image", "how strongly to keep the photo (default: the model's)")
    seed: int = _seed()
    preset: str = _preset()
    device: str = _device()
    rounds: int | None = _setting(
        "Rounds", "how often every view is edited (default: the preset's)", None, low=1, high=10_000,
    )  # fmt: skip
    noise_schedule: str = _setting(
        "Noise Schedule",
        "noise levels that fall round by round, or uniform ones as in the paper",
        NOISE_SCHEDULES[0],
        choices=NOISE_SCHEDULES,
        code="unknown_noise_schedule",
    )
    perceptual: str = _setting(
        "Perceptual Loss",
        "LPIPS beside L1; where its backbone's weights are missing: L1 alone, or a random backbone (auto: on a GPU)",
        PERCEPTUAL[0],
        choices=PERCEPTUAL,
        code="unknown_perceptual",
    )
    restart: bool = _restart()
    parent: str | None = _setting(
        "Build On", "an edit to build on (default: the unedited reconstruction)", None, metavar="NAME"
    )

    def check(self) -> None:
        _check_instruction(self.instruction)
        super().check()
        if self.parent is not None and self.parent == self.name:
            raise In2nError(
                "own_parent", f"The edit “{self.name}” cannot build on itself.", "Give the new edit another name."
            )


@dataclass(frozen=True, kw_only=True)
class PreviewGrid(Request):
    """Edit one original photo at every pair of guidance scales, to find those that an edit wants."""

    method: ClassVar[str] = "preview"
    workspace: str = _workspace()
    instruction: str = _instruction()
    editor: str = _editor()
    view: str | None = _setting(
        "Photo", "the photo's name (default: the first that is trained on)", None, metavar="NAME"
    )
    grid: bool = _setting("Grid", "a picture for every pair of scales (default: one picture)", False)
    text_scales: list[float] | None = _scales(
        "Text", "how strongly to follow the instruction (default: around the model's own)"
    )
    image_scales: list[float] | None = _scales(
        "Image", "how strongly to keep the photo (default: around the model's own)"
    )
    seed: int = _seed()
    device: str = _device()
    out: str | None = _setting(
        "Folder", "folder for the pictures (default: previews/… in the workspace)", None, metavar="DIR"
    )
    restart: bool = _restart("make pictures again that are there already")

    @property
    def folder_name(self) -> str:
        """The instruction's first words and a mark of all else that a picture depends on, but for the scales."""
        words = "-".join(re.findall(r"[a-z0-9]+", self.instruction.lower())[:6])[:40].strip("-") or "preview"
        mark = hashlib.sha256(repr((self.instruction.strip(), self.editor, self.view, self.seed)).encode()).hexdigest()
        return f"{words}-{mark[:6]}"

    def check(self) -> None:
        _check_instruction(self.instruction)
        super().check()
        for scales in (self.text_scales, self.image_scales):
            if scales is not None and not 0 < len(scales) <= MOST_SCALES:
                raise In2nError(
                    "bad_guidance",
                    f"A preview takes from 1 to {MOST_SCALES} guidance scales in each direction.",
                    "Give fewer numbers, for example 5, 7.5 and 10.",
                )


@dataclass(frozen=True, kw_only=True)
class RenderPath(Request):
    """Render a camera path file (CameraPath JSON) to renders/<edit>/<path name>/. edit None: the reconstruction."""

    method: ClassVar[str] = "render"
    workspace: str = _workspace()
    camera_path: str = _setting(
        "Camera Path", "camera path file, as Blender exports it (default: a path through the views)", metavar="FILE"
    )
    edit: str | None = _edit("to render")
    device: str = _device()


@dataclass(frozen=True, kw_only=True)
class ExtractMesh(Request):
    """Marching cubes of the density with vertex colours, to meshes/<edit>.ply and .glb. edit None: the
    reconstruction."""

    method: ClassVar[str] = "mesh"
    workspace: str = _workspace()
    edit: str | None = _edit("to make a mesh of")
    resolution: int = _setting("Resolution", "grid cells along the longest side", 192, low=16, high=1024, metavar="N")
    device: str = _device()


@dataclass(frozen=True, kw_only=True)
class PathThroughViews(Request):
    """Write a smooth camera path through the capture's views to paths/<name>.json. Result: {"camera_path": file}."""

    method: ClassVar[str] = "path"
    workspace: str = _workspace()
    name: str = _setting("Name", "the path's name", "through-views")
    frames: int = _frames(48, "frames along the camera path")
    fps: float = _setting("Frame Rate", "frames a second", 24.0, low=0.01, high=10_000.0)


@dataclass(frozen=True, kw_only=True)
class Summarise(Request):
    """Gather what a person looks at in the folder `out`: before_after.gif, contact_sheet.png and report.json.

    results: what the earlier jobs returned, by their method ("import", "reconstruct", "edit", "render", "mesh").
    """

    method: ClassVar[str] = "summary"
    workspace: str = _workspace()
    edit: str = _setting("Edit", "which edit", metavar="NAME")
    camera_path: str = _setting("Camera Path", "the name of a path that was rendered before")
    out: str = _setting("Folder", "folder for the results", metavar="DIR")
    device: str = _device()
    results: dict = _setting("Results", "what the earlier jobs returned, by method", factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evaluate(Request):
    """Measure an edit on the held-out views and along a path. edit None: the reconstruction, against its photos."""

    method: ClassVar[str] = "evaluate"
    workspace: str = _workspace()
    edit: str | None = _setting(
        "Edit", "which edit (default: the unedited reconstruction, against its photos)", None, metavar="NAME"
    )
    truth: str | None = _setting(
        "Truth",
        "what the held-out views should look like, a picture <view name>.png each "
        "(default: what the miniature's instruction does to the photo, where it is exact)",
        None,
        metavar="DIR",
    )
    clip: str | None = _setting(
        "CLIP",
        "CLIP model or folder for the CLIP scores (default: openai/clip-vit-large-patch14, where captions are given)",
        None,
        metavar="NAME",
    )
    source_caption: str | None = _setting(
        "Source Caption", "the unedited scene in words, for the CLIP direction", None, metavar="TEXT"
    )
    target_caption: str | None = _setting(
        "Target Caption", "the edited scene in words, for the CLIP direction", None, metavar="TEXT"
    )
    frames: int = _frames(24, "frames of the path on which consistency is measured")
    out: str | None = _setting("Folder", "folder for result.json and sheet.png", None, metavar="DIR")
    device: str = _device()

    def check(self) -> None:
        super().check()
        captions = [(caption or "").strip() for caption in (self.source_caption, self.target_caption)]
        if any(captions) and (not all(captions) or captions[0] == captions[1]):
            raise In2nError(
                "bad_captions",
                "The CLIP direction needs two captions that differ.",
                "Describe the unedited scene in one and the edited scene in the other, for example “a garden” and "
                "“a garden in snow”.",
            )
        if self.edit is None and (self.clip or self.truth or any(captions)):
            raise In2nError(
                "nothing_edited",
                "The unedited reconstruction is compared with its photos alone.",
                "Name an edit to measure it by CLIP or against a truth.",
            )


@dataclass(frozen=True, kw_only=True)
class DownloadModel(Request):
    """Fetch an editing model of the Hugging Face hub into its local cache. Sent only with the user's leave."""

    method: ClassVar[str] = "download"
    name: str = _setting("Model", "the model's name on the hub", metavar="NAME")


@dataclass(frozen=True, kw_only=True)
class FindDevices(Request):
    """What torch can compute on. Result: {"devices": [{"device", "name", "memory_gb"}]}, best first."""

    method: ClassVar[str] = "devices"


@dataclass(frozen=True, kw_only=True)
class Testbed(Request):
    """Measure editing methods on scenes of which the right answer is known. Continues what `out` holds from the same
    settings."""

    method: ClassVar[str] = "testbed"
    out: str = _setting("Folder", "folder for result.json, table.md, the sheets and the workspaces", metavar="DIR")
    cache: str = _setting(
        "Cache", "folder of the rendered scenes (default: testbed/ beside the environment)", metavar="DIR"
    )
    methods: list[str] = _setting(
        "Methods",
        "unedited, per-frame, one-time, score-distillation or iterative (default: all)",
        factory=list,
        metavar="NAME",
    )
    scenes: list[str] = _setting("Scenes", "the scenes' names (default: all)", factory=list, metavar="NAME")
    instructions: list[str] = _setting(
        "Instructions",
        "of the miniature's (default: snow, sunset and gold)",
        factory=lambda: ["make it look like it snowed", "make it sunset", "make it gold"],
        metavar="TEXT",
    )
    editor: str = _editor()
    guidance_text: float | None = _guidance("Text", "how strongly to follow the instruction (default: the model's)")
    guidance_image: float | None = _guidance("Image", "how strongly to keep the photo (default: the model's)")
    seed: int = _seed()
    preset: str = _preset("draft")
    device: str = _device()
    steps: int | None = _setting(
        "Steps", "training steps of the reconstruction (default: the preset's)", None, low=1, high=10_000_000,
    )  # fmt: skip
    rounds: int | None = _setting(
        "Rounds", "how often every view is edited (default: the preset's)", None, low=1, high=10_000,
    )  # fmt: skip
    clip: str = _setting(
        "CLIP",
        "measure by this CLIP too: a folder or a name such as openai/clip-vit-large-patch14",
        "",
        metavar="NAME",
    )
    blender_python: str = _setting(
        "Blender's Python",
        "what renders the scenes: `blender`, or a Python with bpy (default: the environment's)",
        "",
        metavar="PROGRAM",
    )
    scene_size: int | None = _setting(
        "Scene Size", "pixels a side (default: as the scene wants)", None, low=8, high=8192
    )
    scene_views: int | None = _setting(
        "Scene Views", "training views (default: as the scene wants)", None, low=3, high=10_000
    )
    scene_samples: int | None = _setting(
        "Scene Samples", "Cycles samples a pixel (default: as the scene wants)", None, low=1, high=100_000,
    )  # fmt: skip


REQUESTS: dict[str, type[Request]] = {
    cls.method: cls
    for cls in (
        ImportCapture, Reconstruct, Edit, PreviewGrid, RenderPath, ExtractMesh, PathThroughViews, Summarise, Evaluate,
        DownloadModel, FindDevices, Testbed,
    )
}  # fmt: skip


def setting_of(request: type[Request], name: str) -> Setting:
    """The `Setting` of a request's field. Raises KeyError where it has no such field."""
    return request.__dataclass_fields__[name].metadata["setting"]


def from_params(method: object, params: object) -> Request:
    """The checked request of a message.

    Raises:
        In2nError: "unknown_method"; "bad_request" for what is no object or has other fields than the request; and what
            `Request.check` raises.
    """
    cls = REQUESTS.get(method) if isinstance(method, str) else None
    if cls is None:
        raise In2nError("unknown_method", f"There is no method {method!r:.80}.", "Use the same version on both sides.")
    if not isinstance(params, dict):
        raise _bad_request(cls, "it has no parameters")
    names = {field.name for field in dataclasses.fields(cls)}
    unknown = [name for name in params if name not in names]
    if unknown:
        raise _bad_request(cls, f"it has no field {unknown[0]!r:.80}")
    missing = [field.name for field in dataclasses.fields(cls) if _required(field) and field.name not in params]
    if missing:
        raise _bad_request(cls, f"its {missing[0]} is missing")
    request = cls(**params)
    request.check()
    return request


def _bad_request(cls: type[Request], reason: str) -> In2nError:
    return In2nError(
        "bad_request", f"The request “{cls.method}” is not valid: {reason}.", "Use the same version on both sides."
    )


def _required(field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


@functools.cache
def _types(cls: type[Request]) -> dict[str, tuple[type, type | None, bool]]:
    """Field -> (its type, the type of a list's items, whether it may be None)."""
    found = {}
    for name, hint in typing.get_type_hints(cls).items():
        parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        optional = type(None) in parts
        (hint,) = (part for part in parts if part is not type(None))
        items = typing.get_args(hint)
        found[name] = (typing.get_origin(hint) or hint, items[0] if items else None, optional)
    return found


def field_type(cls: type[Request], name: str) -> type:
    """str, int, float, bool, list or dict, whether or not it may be None."""
    return _types(cls)[name][0]


def item_type(cls: type[Request], name: str) -> type | None:
    """What a list of the field holds; None where it is no list."""
    return _types(cls)[name][1] if field_type(cls, name) is list else None


def _check_value(field, setting: Setting, value: object, kinds: dict) -> None:
    kind, item, optional = kinds[field.name]
    if value is None and optional:
        return
    if not _is(value, kind) or (item is not None and not all(_is(part, item) for part in value)):
        raise In2nError(
            "bad_request",
            f"{setting.label} is not what it should be ({value!r:.80}).",
            setting.advice or "Leave it out.",
        )
    for part in value if isinstance(value, list) else [value]:
        check_limits(field.name, setting, part)


def _is(value: object, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def check_limits(name: str, setting: Setting, value: object) -> None:
    """Raise In2nError, with the setting's own code, for a value (of a list: one item) beyond limits or choices."""
    if setting.choices and value not in setting.choices:
        raise In2nError(
            setting.code,
            f"There is no {name.replace('_', ' ')} “{_shown(value)}”.",
            f"Choose one of: {', '.join(setting.choices)}.",
        )
    if setting.pattern and not re.fullmatch(setting.pattern, value):
        raise In2nError(setting.code, f"There is no {name.replace('_', ' ')} “{_shown(value)}”.", setting.advice)
    if isinstance(value, str) and "\0" in value:
        raise In2nError("bad_request", f"{setting.label} has a character that no text has.", "Type it again.")
    if setting.low is None and setting.high is None:
        return
    low = -math.inf if setting.low is None else setting.low
    high = math.inf if setting.high is None else setting.high
    if not low <= value <= high:  # a NaN is not either
        if setting.code == "bad_guidance":
            raise In2nError(
                setting.code,
                f"The guidance scale {_shown(value)} cannot be used.",
                "Give a number from 0 upwards; 7.5 (text) and 1.5 (image) are usual.",
            )
        raise In2nError(
            setting.code,
            f"{setting.label} is {_shown(value)}, which cannot be used.",
            f"Give a number from {low:g} to {high:g}.",
        )


def _shown(value: object) -> str:
    """A value within a sentence: on one line, and not without end."""
    text = repr(value)[1:-1] if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _check_instruction(instruction: object) -> None:
    if isinstance(instruction, str) and not instruction.strip():
        raise In2nError(
            "empty_instruction",
            "The instruction is empty.",
            "Say what to change, for example “make it look like autumn”.",
        )
