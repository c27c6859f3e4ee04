"""What the engine can be asked for: one dataclass a method, its fields with help, limits and choices.

A request is the single source of what a job takes: the command line's arguments, the operators' properties and the
checks are made from its fields' `Setting`s. It travels as JSON-RPC 2.0, one object a line; images and other large data
move by file, and only their path is in the message.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from typing import ClassVar

from ..scene.errors import In2nError
from ..scene.presets import PRESETS
from ..workspace.layout import edit_name
from .request_fields import Request, bad_request, required, setting

AUTOMATIC = "auto"
MEMORY_PLANS = (AUTOMATIC, "whole", "offload", "8-bit", "4-bit")
METHODS = ("agreement", "iterative", "faithful")  # of editing, the default first
CARRYING = "agreement"  # the method that carries an edit from view to view
ONCE_THE_ONLY_METHOD = "iterative"  # of edits that do not name theirs
NOISE_SCHEDULES = ("falling", "uniform")
PERCEPTUAL = ("auto", "off", "lpips", "lpips-or-random")
DATASET_FORMATS = ("both", "nerfstudio", "colmap")
MOST_SCALES = 8  # of one kind in a preview
DEVICES = r"auto|cpu|mps|cuda(:\d+)?"
HIGHEST_SEED = 2**31 - 1  # Blender's integers


def _workspace():
    return setting("Workspace", "folder of the reconstruction, its edits and results", metavar="WORKSPACE")


def _preset(default: str = "standard"):
    return setting(
        "Preset", "size of photos and model", default, choices=tuple(PRESETS), code="unknown_preset",
    )  # fmt: skip


def _device():
    return setting(
        "Device",
        "what the engine computes on: auto, cpu, cuda or mps",
        "auto",
        pattern=DEVICES,
        code="unknown_device",
        advice="Choose auto, cpu, cuda or mps.",
    )


def _seed():
    return setting(
        "Seed",
        "the same seed gives the same result on the same processor; on a GPU nearly so, for it adds in any order",
        0, low=0, high=HIGHEST_SEED,
    )  # fmt: skip


def _instruction():
    return setting("Instruction", "what to change, for example “make it snow”", metavar="TEXT")


def _negative_prompt():
    return setting(
        "Negative Prompt",
        "what is not to be seen, for example “blurry”, for models that are also asked without the instruction",
        "",
        metavar="TEXT",
    )


def _editor():
    return setting(
        "Model",
        "miniature (bundled), a name that `models` lists (timbrooks/instruct-pix2pix), a folder in diffusers' format",
        "miniature",
        metavar="NAME",
    )


def _memory_plan():
    return setting(
        "Memory",
        "how a model is kept in a GPU's memory: whole, offload (only the network at work is there), 8-bit or 4-bit "
        "(weights of fewer bits, offloaded), auto (the quickest that fits)",
        AUTOMATIC,
        choices=MEMORY_PLANS,
        code="unknown_memory_plan",
    )


def _guidance(which: str, help: str):
    return setting(
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
    return setting(f"{which} Scales", help, None, low=0.0, high=100.0, metavar="S", code="bad_guidance")


def _edit(what: str):
    return setting("Edit", f"which edit {what} (default: the unedited reconstruction)", None, metavar="NAME")


def _keep(default: str):
    return setting(
        "Keep",
        "file of a closed mesh (PLY), or of a box, an ellipsoid or a mesh (JSON), outside of which nothing is kept, in "
        f"the coordinates of extracted meshes (default: {default})",
        None,
        metavar="FILE",
    )


def _restart(help: str = "start anew instead of from what was saved"):
    return setting("Start Over", help, False)


def _cluster(what: str):
    return setting(
        "Cluster",
        f"let the workers of a Ray cluster {what}: auto (of this machine alone, or the one that RAY_ADDRESS names) or "
        "an address (default: this process)",
        None,
        metavar="ADDRESS",
    )


def _workers():
    return setting(
        "Workers",
        "how many workers of the cluster (default: as many as it has GPUs, without any as many as it has cores)",
        None,
        low=1,
        high=10_000,
    )


def _frames(default: int, help: str):
    return setting("Frames", help, default, low=1, high=100_000)


@dataclass(frozen=True, kw_only=True)
class ImportCapture(Request):
    """Normalise a capture into a workspace: undistort, rotate, scale to the preset, write capture.json and images/."""

    method: ClassVar[str] = "import"
    workspace: str = _workspace()
    source: str = setting(
        "Capture",
        "folder, file or .zip: transforms.json, a COLMAP model, or cameras of another program, beside the photos; or "
        "photos or a video without cameras",
        metavar="CAPTURE",
    )
    preset: str = _preset()
    hold_out_every: int = setting(
        "Hold Out Every",
        "every n-th photo is kept for measuring where the files name none; 0: none",
        8,
        low=0,
        high=10_000,
    )
    video_frames: int = setting("Video Frames", "how many frames of a video are used", 80, low=3, high=5000)
    outside_photos: bool = setting(
        "Photos Outside the Folder",
        "also take photos, masks and depth that the capture's files name elsewhere than in its folder",
        False,
    )


@dataclass(frozen=True, kw_only=True)
class ReportCapture(Request):
    """Measure a capture's photos, and write capture-report.html: what would improve it."""

    method: ClassVar[str] = "report"
    workspace: str = _workspace()


@dataclass(frozen=True, kw_only=True)
class Reconstruct(Request):
    """Train the NeRF on the capture. Continues from its checkpoint unless restart is set."""

    method: ClassVar[str] = "reconstruct"
    workspace: str = _workspace()
    preset: str = _preset()
    device: str = _device()
    seed: int = _seed()
    steps: int | None = setting(
        "Steps", "training steps of the reconstruction (default: the preset's)", None, low=1, high=10_000_000,
    )  # fmt: skip
    restart: bool = _restart()
    appearance: bool = setting(
        "Even Out Exposure",
        "for photos of different exposure or white balance: learn each photo's, render their mean",
        False,
    )
    refine_cameras: bool = setting("Refine Cameras", "correct the cameras' poses a little while training", False)


@dataclass(frozen=True, kw_only=True)
class Edit(Request):
    """Edit the reconstruction by an instruction. Guidance None: the model's own default."""

    method: ClassVar[str] = "edit"
    workspace: str = _workspace()
    name: str = setting("Name", "the edit's name (default: made from the instruction)", metavar="NAME")
    instruction: str = _instruction()
    negative_prompt: str = _negative_prompt()
    editor: str = _editor()
    guidance_text: float | None = _guidance("Text", "how strongly to follow the instruction (default: the model's)")
    guidance_image: float | None = _guidance("Image", "how strongly to keep the photo (default: the model's)")
    seed: int = _seed()
    preset: str = _preset()
    device: str = _device()
    memory_plan: str = _memory_plan()
    rounds: int | None = setting(
        "Rounds",
        "how often every view is updated (default: once by agreement, else the preset's)",
        None,
        low=1,
        high=10_000,
    )
    editing_method: str = setting(
        "Method",
        "agreement (the edit is carried from view to view, then updated: a model that answers differently every "
        "time gives one scene), iterative (dataset updates at falling noise levels), or faithful (the published ones)",
        METHODS[0],
        choices=METHODS,
        code="unknown_method",
    )
    key_view: str | None = setting(
        "Key View",
        "with the method agreement, the picture that says what the edit looks like, of a preview or named as the "
        "photo that it shows (default: the model draws one)",
        None,
        metavar="PICTURE",
    )
    noise_schedule: str | None = setting(
        "Noise Schedule",
        "noise levels of dataset updates that fall round by round, or uniform ones as in the paper (default: the "
        "method's)",
        None,
        choices=NOISE_SCHEDULES,
        code="unknown_noise_schedule",
    )
    perceptual: str = setting(
        "Perceptual Loss",
        "LPIPS beside L1; where its backbone's weights are missing: L1 alone, or a random backbone (auto: on a GPU)",
        PERCEPTUAL[0],
        choices=PERCEPTUAL,
        code="unknown_perceptual",
    )
    region: str | None = setting(
        "Region",
        "file of a closed mesh (PLY), or of a box, an ellipsoid or a mesh (JSON), that limits where the edit acts, in "
        "the coordinates of extracted meshes (default: it acts everywhere)",
        None,
        metavar="FILE",
    )
    soft_edge: float | None = setting(
        "Soft Edge",
        "width of the region's soft edge, inside of it, in the capture's units (default: what the file says)",
        None,
        low=0.0,
        high=1e6,
        metavar="W",
    )
    restart: bool = _restart()
    parent: str | None = setting(
        "Build On", "an edit to build on (default: the unedited reconstruction)", None, metavar="NAME"
    )

    apply_from_here: bool = setting(
        "Apply From Here",
        "go on with the edit of this name, which is not done, with another instruction or guidance from its next "
        "edited view on",
        False,
    )
    views_together: int | None = setting(
        "Views Together",
        "how many views are edited from one state of the scene, before it is trained on: what workers of a cluster can "
        "do at one time, though the result does not depend on them (default: as many as a GPU edits at once)",
        None,
        low=1,
        high=10_000,
    )
    cluster: str | None = _cluster("edit the views")
    workers: int | None = _workers()

    def check(self) -> None:
        _check_instruction(self.instruction)
        super().check()
        for name in (self.name, self.parent):
            if name is not None:
                edit_name(name)
        if self.apply_from_here and self.restart:
            raise In2nError(
                "restart_or_go_on",
                "An edit is either started over or gone on with.",
                "Choose one of both.",
            )
        if self.parent is not None and self.parent == self.name:
            raise In2nError(
                "own_parent", f"The edit “{self.name}” cannot build on itself.", "Give the new edit another name."
            )
        if self.key_view is not None and self.editing_method != CARRYING:
            raise In2nError(
                "no_key_views",
                f"The method “{self.editing_method}” has no key view.",
                f"Choose the method “{CARRYING}”, or leave the picture out.",
            )


@dataclass(frozen=True, kw_only=True)
class PreviewGrid(Request):
    """Edit one original photo at every pair of guidance scales, to find those that an edit wants."""

    method: ClassVar[str] = "preview"
    workspace: str = _workspace()
    instruction: str = _instruction()
    negative_prompt: str = _negative_prompt()
    editor: str = _editor()
    view: str | None = setting(
        "Photo", "the photo's name (default: the first that is trained on)", None, metavar="NAME"
    )
    grid: bool = setting("Grid", "a picture for every pair of scales (default: one picture)", False)
    text_scales: list[float] | None = _scales(
        "Text", "how strongly to follow the instruction (default: around the model's own)"
    )
    image_scales: list[float] | None = _scales(
        "Image", "how strongly to keep the photo (default: around the model's own)"
    )
    seed: int = _seed()
    device: str = _device()
    memory_plan: str = _memory_plan()
    out: str | None = setting(
        "Folder", "folder for the pictures (default: previews/… in the workspace)", None, metavar="DIR"
    )
    restart: bool = _restart("make pictures again that are there already")

    @property
    def folder_name(self) -> str:
        """The instruction's first words and a mark of all else that a picture depends on, but for the scales."""
        words = "-".join(re.findall(r"[a-z0-9]+", self.instruction.lower())[:6])[:40].strip("-") or "preview"
        asked = (self.instruction.strip(), self.editor, self.view, self.seed)
        asked += (self.negative_prompt.strip(),) if self.negative_prompt.strip() else ()
        mark = hashlib.sha256(repr(asked).encode()).hexdigest()
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
    camera_path: str = setting(
        "Camera Path", "camera path file, as Blender exports it (default: a path through the views)", metavar="FILE"
    )
    edit: str | None = _edit("to render")
    device: str = _device()
    cluster: str | None = _cluster("render the frames")
    workers: int | None = _workers()


@dataclass(frozen=True, kw_only=True)
class RenderShot(Request):
    """Render one picture, as Blender's render engine asks for it, to a file of float32. edit None: the reconstruction.

    Result: {"file", "passes": {name: [height, width, channels]}, ...}; the file holds the passes one after another.
    """

    method: ClassVar[str] = "shot"
    locks_workspace: ClassVar[bool] = False  # it only reads: F12 works while an edit is being made
    workspace: str = _workspace()
    edit: str | None = _edit("to render")
    shot: dict = setting("Shot", "the camera, as scene/shot.py writes it", factory=dict)
    to_scene: list[float] = setting(
        "To Scene",
        "16 numbers, row by row: from the capture's coordinates to the scene's",
        factory=list,
        low=-1e9,
        high=1e9,
    )
    samples: int = setting("Samples", "rays a pixel", 1, low=1, high=4096)
    rays_at_once: int | None = setting(
        "Chunk",
        "rays between two looks whether the job was cancelled (default: as many as are fastest)",
        None,
        low=1,
        high=2**24,
    )
    passes: list[str] = setting("Passes", "which of Depth, Normal and Position beside Combined", factory=list)
    transparent: bool = setting("Transparent", "leave out what lies behind the scene", False)
    subject: dict = setting(
        "Subject", "the region outside of which nothing counts, as JSON; {\"type\": \"bounds\"}: the scene's bounds",
        factory=dict,
    )  # fmt: skip
    out: str = setting("File", "the file of float32 numbers", metavar="FILE")
    device: str = _device()


@dataclass(frozen=True, kw_only=True)
class FullPhoto(Request):
    """Undistort a photo at its full size, to full/. Result: {"file", "made"}: a photo that the workspace holds at that
    size already is named as it is."""

    method: ClassVar[str] = "photo"
    locks_workspace: ClassVar[bool] = False  # it is looked at while an edit is being made
    workspace: str = _workspace()
    photo: str = setting("Photo", "the photo's name", metavar="NAME")


@dataclass(frozen=True, kw_only=True)
class ExtractMesh(Request):
    """The surface that the views agree on: with vertex colours to meshes/<edit>.ply, of fewer faces and with a texture
    to .glb. edit None: the reconstruction."""

    method: ClassVar[str] = "mesh"
    workspace: str = _workspace()
    edit: str | None = _edit("to make a mesh of")
    resolution: int = setting("Resolution", "grid cells along the longest side", 192, low=16, high=1024, metavar="N")
    keep: str | None = _keep("a box round what the photos show")
    watertight: bool = setting("Watertight", "close the surface, round what it encloses and where it is cut", False)
    faces: int = setting("Faces", "the most faces of the mesh with vertex colours", 300_000, low=100, high=10_000_000)
    texture: int = setting(
        "Texture", "pixels a side of the texture; 0: vertex colours alone, on all faces", 2048, low=0, high=4096
    )
    textured_faces: int = setting(
        "Textured Faces", "the most faces of the textured mesh", 30_000, low=100, high=200_000
    )
    collision_faces: int = setting(
        "Collision Faces", "the most faces of a closed mesh for collisions, to meshes/collision/<edit>.glb; 0: none",
        0, low=0, high=100_000,
    )  # fmt: skip
    quick: bool = setting("Quick", "only to look at: to meshes/quick/, beside a mesh that was made before", False)
    device: str = _device()


@dataclass(frozen=True, kw_only=True)
class MakeSplats(Request):
    """Gaussian splats that show what the field shows, to splats/<edit>.ply and .spz. edit None: the reconstruction.

    Result: {"ply", "spz", "splats", "psnr_seeded", "psnr_db", "looking", "making", "refining", "writing", "seconds",
    "device", "finished", "offset"}.
    """

    method: ClassVar[str] = "splats"
    workspace: str = _workspace()
    edit: str | None = _edit("to make splats of")
    splats: int = setting("Splats", "how many there are at most", 500_000, low=1000, high=2_000_000, metavar="N")
    keep: str | None = _keep("everything")
    background: bool = setting("Background", "what lies around the scene, too, out to the sky", True)
    steps: int = setting(
        "Refinement Steps", "pictures of the field that the splats are refined to, one a step; 0: none",
        300, low=0, high=100_000, metavar="N",
    )  # fmt: skip
    device: str = _device()


@dataclass(frozen=True, kw_only=True)
class ExportDataset(Request):
    """Write an edit's pictures, or the photos, with their cameras for other trainers. edit None: the reconstruction.

    Result: {"folder", "format", "views", "held_out", "masks", "points", "bytes", "seconds", "finished"}.
    """

    method: ClassVar[str] = "export"
    workspace: str = _workspace()
    edit: str | None = _edit("to export the pictures of")
    format: str = setting(
        "Format",
        "nerfstudio (transforms.json), colmap (a sparse model), or both beside the same pictures",
        DATASET_FORMATS[0],
        choices=DATASET_FORMATS,
        code="unknown_format",
    )
    out: str | None = setting(
        "Folder", "folder for the dataset (default: datasets/… in the workspace)", None, metavar="DIR"
    )


@dataclass(frozen=True, kw_only=True)
class PathThroughViews(Request):
    """Write a smooth camera path through the capture's views to paths/<name>.json. Result: {"camera_path": file}."""

    method: ClassVar[str] = "path"
    workspace: str = _workspace()
    name: str = setting("Name", "the path's name", "through-views")
    frames: int = _frames(48, "frames along the camera path")
    fps: float = setting("Frame Rate", "frames a second", 24.0, low=0.01, high=10_000.0)


@dataclass(frozen=True, kw_only=True)
class Summarise(Request):
    """Gather what a person looks at in the folder `out`: before_after.gif, contact_sheet.png and report.json.

    results: what the earlier jobs returned, by their method ("import", "reconstruct", "edit", "render", "mesh").
    """

    method: ClassVar[str] = "summary"
    workspace: str = _workspace()
    edit: str = setting("Edit", "which edit", metavar="NAME")
    camera_path: str = setting("Camera Path", "the name of a path that was rendered before")
    out: str = setting("Folder", "folder for the results", metavar="DIR")
    device: str = _device()
    results: dict = setting("Results", "what the earlier jobs returned, by method", factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunBatch(Request):
    """Do whole runs on a cluster's workers. Result: {"done", "failed"}, how many; how each went is in batch.json."""

    method: ClassVar[str] = "batch"
    out: str = setting("Folder", "folder of the batch", metavar="DIR")
    plan: dict = setting("Plan", "the runs, as `cli/batch.py` makes them", factory=dict)
    cluster: str | None = _cluster("do the runs")
    workers: int | None = _workers()


@dataclass(frozen=True, kw_only=True)
class Evaluate(Request):
    """Measure an edit on the held-out views and along a path. edit None: the reconstruction, against its photos."""

    method: ClassVar[str] = "evaluate"
    workspace: str = _workspace()
    edit: str | None = setting(
        "Edit", "which edit (default: the unedited reconstruction, against its photos)", None, metavar="NAME"
    )
    truth: str | None = setting(
        "Truth",
        "what the held-out views should look like, a picture <view name>.png each "
        "(default: what the miniature's instruction does to the photo, where it is exact)",
        None,
        metavar="DIR",
    )
    clip: str | None = setting(
        "CLIP",
        "CLIP model or folder for the CLIP scores (default: openai/clip-vit-large-patch14, where captions are given)",
        None,
        metavar="NAME",
    )
    source_caption: str | None = setting(
        "Source Caption", "the unedited scene in words, for the CLIP direction", None, metavar="TEXT"
    )
    target_caption: str | None = setting(
        "Target Caption", "the edited scene in words, for the CLIP direction", None, metavar="TEXT"
    )
    frames: int = _frames(24, "frames of the path on which consistency is measured")
    out: str | None = setting("Folder", "folder for result.json and sheet.png", None, metavar="DIR")
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
    name: str = setting("Model", "the model's name on the hub", metavar="NAME")


@dataclass(frozen=True, kw_only=True)
class FindDevices(Request):
    """What torch can compute on. Result: {"devices": [{"device", "name", "memory_gb"}]}, best first."""

    method: ClassVar[str] = "devices"


@dataclass(frozen=True, kw_only=True)
class Testbed(Request):
    """Measure editing methods on scenes of which the right answer is known. Continues what `out` holds from the same
    settings."""

    method: ClassVar[str] = "testbed"
    out: str = setting("Folder", "folder for result.json, table.md, the sheets and the workspaces", metavar="DIR")
    cache: str = setting(
        "Cache", "folder of the rendered scenes (default: testbed/ beside the environment)", metavar="DIR"
    )
    methods: list[str] = setting(
        "Methods",
        f"unedited, per-frame, one-time, score-distillation, {', '.join(METHODS)}; with an exact editor also"
        " ceiling and own-mode (default: all)",
        factory=list,
        metavar="NAME",
    )
    scenes: list[str] = setting("Scenes", "the scenes' names (default: all)", factory=list, metavar="NAME")
    instructions: list[str] = setting(
        "Instructions",
        "of the miniature's (default: snow, sunset and gold); an exact editor needs none",
        factory=lambda: ["make it look like it snowed", "make it sunset", "make it gold"],
        metavar="TEXT",
    )
    editor: str = _editor()
    guidance_text: float | None = _guidance("Text", "how strongly to follow the instruction (default: the model's)")
    guidance_image: float | None = _guidance("Image", "how strongly to keep the photo (default: the model's)")
    seed: int = _seed()
    seeds: int = setting(
        "Seeds", "how many edits differ in their seed alone, from that one upwards", 1, low=1, high=100,
    )  # fmt: skip
    preset: str = _preset("draft")
    device: str = _device()
    steps: int | None = setting(
        "Steps", "training steps of the reconstruction (default: the preset's)", None, low=1, high=10_000_000,
    )  # fmt: skip
    rounds: int | None = setting(
        "Rounds", "how often every view is edited (default: the preset's)", None, low=1, high=10_000,
    )  # fmt: skip
    clip: str = setting(
        "CLIP",
        "measure by this CLIP too: a folder or a name such as openai/clip-vit-large-patch14",
        "",
        metavar="NAME",
    )
    blender_python: str = setting(
        "Blender's Python",
        "what renders the scenes: `blender`, or a Python with bpy (default: the environment's)",
        "",
        metavar="PROGRAM",
    )
    scene_size: int | None = setting(
        "Scene Size", "pixels a side (default: as the scene wants)", None, low=8, high=8192
    )
    scene_views: int | None = setting(
        "Scene Views", "training views (default: as the scene wants)", None, low=3, high=10_000
    )
    scene_samples: int | None = setting(
        "Scene Samples", "Cycles samples a pixel (default: as the scene wants)", None, low=1, high=100_000,
    )  # fmt: skip


REQUESTS: dict[str, type[Request]] = {
    cls.method: cls
    for cls in (
        ImportCapture, ReportCapture, Reconstruct, Edit, PreviewGrid, RenderPath, RenderShot, FullPhoto, ExtractMesh,
        MakeSplats,
        ExportDataset, PathThroughViews, Summarise, RunBatch, Evaluate, DownloadModel, FindDevices, Testbed,
    )
}  # fmt: skip


def from_params(method: object, params: object) -> Request:
    """The checked request of a message.

    Args:
        method: The message's method.
        params: The message's params, field -> value.

    Raises:
        In2nError: "unknown_method"; "bad_request" for what is no object or has other fields than the request; and what
            `Request.check` raises.
    """
    cls = REQUESTS.get(method) if isinstance(method, str) else None
    if cls is None:
        raise In2nError("unknown_method", f"There is no method {method!r:.80}.", "Use the same version on both sides.")
    if not isinstance(params, dict):
        raise bad_request(cls, "it has no parameters")
    names = {field.name for field in dataclasses.fields(cls)}
    unknown = [name for name in params if name not in names]
    if unknown:
        raise bad_request(cls, f"it has no field {unknown[0]!r:.80}")
    missing = [field.name for field in dataclasses.fields(cls) if required(field) and field.name not in params]
    if missing:
        raise bad_request(cls, f"its {missing[0]} is missing")
    request = cls(**params)
    request.check()
    return request


def _check_instruction(instruction: object) -> None:
    if isinstance(instruction, str) and not instruction.strip():
        raise In2nError(
            "empty_instruction",
            "The instruction is empty.",
            "Say what to change, for example “make it look like autumn”.",
        )
