"""Measuring one edit of a workspace: held-out views against their truth, frames against each other, and its cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ...link.requests import Evaluate
from ...models.catalogue import MINIATURE
from ...scene.camera import Camera
from ...scene.camera_path import through_views
from ...scene.capture import View
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ...workspace.files import atomic_path, read_json
from ...workspace.layout import Workspace
from ..diffusion.miniature.operations import OPERATIONS
from ..nerf.scene import RenderedView, Scene, load_scene
from ..output.sheets import contact_sheet, spread
from ..photos import UnreadablePhoto, decode, load_images, opaque
from .clip_metrics import DEFAULT_CLIP, load_clip
from .results import Row, tables, write_results
from .scoring import Scores, score_views

UNEDITED = "reconstruction"
SHEET_FILE, SHEET_VIEWS = "sheet.png", 8
# Consistency is measured on the first frames of a path of so many times as many: each sees nearly what the next one
# sees.
PATH_LENGTH = 4


def evaluate(request: Evaluate, report: Reporter) -> dict:
    """Score an edit, or the unedited reconstruction against its photos.

    With request.out the rows are in result.json there, and photo, edit and truth of held-out views in sheet.png.

    Args:
        request: which edit, what its views should look like, and whether CLIP is asked.
        report: told of every view and frame, and asked whether the job was cancelled.

    Returns:
        {"rows": [one `results.Row` as a dict], "table": text, "notes": what was not measured and why}.

    Raises:
        In2nError: "not_trained", "no_held_out_views", "missing_truth", "bad_truth", and those of `load_clip`.
        Cancelled.
    """
    request.check()
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        report.log(text)

    workspace = Workspace(request.workspace)
    scene = load_scene(workspace, request.edit, request.device)
    views, state = _held_out_views(scene), _state(workspace, request.edit)
    if not state["done"]:
        note("This is measured on its last save: it has not been computed to the end.")
    photos = [opaque(image) for image in load_images(workspace, scene.capture, views)]
    if any(view.mask for view in views):
        note("Held-out photos have masks; here what they cover is measured too.")
    truths = photos if request.edit is None else find_truths(request.truth, state["instruction"], views, photos, note)
    wants_clip = request.clip is not None or request.target_caption is not None
    clip = load_clip(request.clip or DEFAULT_CLIP, request.device, report, note) if wants_clip else None

    cameras = [view.camera for view in views]
    edited = render_all(scene, cameras, "Rendering held-out views", report)
    path = [
        frame.camera for frame in through_views(scene.capture, PATH_LENGTH * request.frames).frames[: request.frames]
    ]
    frames = render_all(scene, path, "Rendering frames of a path", report)
    unedited = None
    if clip is not None:
        original = load_scene(workspace, None, request.device)
        unedited = [frame.rgb_srgb for frame in render_all(original, path, "Rendering the unedited frames", report)]
    report.progress(0, 1, "edit", "Measuring")
    scores = score_views(
        edited,
        cameras,
        truths,
        originals=photos,
        sequence=(frames, path),
        sequence_originals=unedited,
        clip=clip,
        captions=(request.source_caption, request.target_caption) if request.target_caption else None,
        note=note,
        report=report,
    )
    row = _row(request, scene.capture.name, state, scores)
    report.progress(1, 1, "edit", "Measured")
    if request.out:
        report.artifact("report", write_results([row], request.out))
        pictures = [view.rgb_srgb.numpy() for view in edited]
        report.artifact(
            "image", write_sheet(Path(request.out), row.instruction, photos, pictures, truths if request.edit else None)
        )
    return {"rows": [dataclasses.asdict(row)], "table": "\n\n".join(tables([row])), "notes": notes}


def _held_out_views(scene: Scene) -> tuple[View, ...]:
    if not scene.capture.held_out_views:
        raise In2nError(
            "no_held_out_views",
            "This capture has no held-out views to measure on.",
            "Import it again with every eighth view held out, which is the default.",
        )
    return scene.capture.held_out_views


def _state(workspace: Workspace, edit: str | None) -> dict:
    return read_json((workspace.edit(edit) if edit else workspace.reconstruction) / "state.json")


def _row(request: Evaluate, scene: str, state: dict, scores: Scores) -> Row:
    return Row(
        state.get("method", "iterative") if request.edit else UNEDITED,
        scene,
        state.get("instruction", ""),
        **dataclasses.asdict(scores),
        unet_evaluations=state.get("unet_evaluations", 0),
        nerf_steps=state["step"],
        seconds=state["seconds"],
        cpu_seconds=state.get("cpu_seconds"),
        peak_memory_mb=state.get("peak_memory_mb"),
    )


def find_truths(
    folder: str | None,
    instruction: str,
    views: tuple[View, ...],
    photos: list[np.ndarray],
    note: Callable[[str], None] = lambda text: None,
) -> list[np.ndarray | None] | None:
    """What the edited views should look like.

    Args:
        folder: holds <view name>.png. Without one, the truth is the photos changed by the miniature's own operation,
            where the instruction is one of those.
        instruction: of the edit.
        views, photos: the held-out ones; photos (height, width, 3) sRGB in [0, 1] each.
        note: receives a sentence where there is none.

    Returns:
        A picture (height, width, 3) sRGB a view, None for a view without; None where nobody knows.

    Raises:
        In2nError: "missing_truth", "bad_truth".
    """
    if folder is not None:
        return _read_truths(Path(folder), views, note)
    operation = picture_operation(instruction)
    if operation is not None:
        return [
            operation(torch.from_numpy(photo).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy() for photo in photos
        ]
    note(
        f"PSNR, SSIM and LPIPS are not measured: nobody knows how “{instruction}” should look here; pictures of it "
        "can be given with --truth DIR."
    )
    return None


def picture_operation(instruction: str) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The exact function of pictures that an instruction stands for.

    Args:
        instruction: in any wording that the miniature knows.

    Returns:
        From pictures (batch, 3, height, width) sRGB in [0, 1] to pictures; None where it stands for none.
    """
    try:
        known, _ = MINIATURE.find_instruction(instruction)
    except In2nError:
        return None
    return None if known.rendered else OPERATIONS[known.name]


def render_all(scene: Scene, cameras: list[Camera], message: str, report: Reporter) -> list[RenderedView]:
    """Render every camera, one step of progress each.

    Args:
        scene: a Scene, or anything else with its `render(camera, report)`.
        cameras: in capture units.
        message: what the progress says.
        report: told of every view, and asked whether the job was cancelled.

    Returns:
        A view a camera, in their order.

    Raises:
        Cancelled.
    """
    rendered = []
    for index, camera in enumerate(cameras):
        report.progress(index, len(cameras), "view", message)
        rendered.append(scene.render(camera, report))
    return rendered


def write_sheet(
    out: Path,
    instruction: str,
    photos: list[np.ndarray],
    edited: list[np.ndarray],
    truths: list[np.ndarray | None] | None,
) -> Path:
    """Write out/sheet.png: rows of photos, edits and truths of some held-out views.

    Args:
        out: the folder; made where it is missing.
        instruction: of the edit; "" for the reconstruction.
        photos: (height, width, 3) sRGB in [0, 1] a view.
        edited: what the scene shows of the same views, likewise.
        truths: what it should show, likewise; None, as a whole or for a view, where nobody knows.

    Returns:
        The file.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    chosen = spread(len(photos), SHEET_VIEWS)
    rows = [("photo (held-out views)", photos), (f"edit: “{instruction}”" if instruction else UNEDITED, edited)]
    if truths and any(truth is not None for truth in truths):
        rows.append(
            ("truth", [np.zeros_like(photo) if truth is None else truth for photo, truth in zip(photos, truths)])
        )
    sheet = contact_sheet([(label, [images[i] for i in chosen]) for label, images in rows])
    path = out / SHEET_FILE
    with atomic_path(path) as temporary:
        sheet.save(temporary)
    return path


def _read_truths(folder: Path, views: tuple[View, ...], note: Callable[[str], None]) -> list[np.ndarray | None]:
    files = [folder / f"{view.name}.png" for view in views]
    missing = [file.name for file in files if not file.is_file()]
    if len(missing) == len(files):
        raise In2nError(
            "missing_truth",
            f"{folder} holds no truth of a held-out view.",
            f"Name the pictures as the views, for example {missing[0]}.",
        )
    if missing:
        note(
            f"{len(missing)} of {len(files)} held-out views have no truth in {folder} and are not compared: "
            f"{', '.join(missing)}."
        )
    return [_read_truth(file, view) if file.is_file() else None for file, view in zip(files, views)]


def _read_truth(file: Path, view: View) -> np.ndarray:
    k = view.camera.intrinsics
    try:
        image = opaque(decode(file, size=(k.width, k.height)).astype(np.float32) / 255)
    except UnreadablePhoto as error:
        raise In2nError(
            "bad_truth", f"{file} cannot be read as a picture ({error}).", "Write it again, as PNG."
        ) from None
    if image.shape[:2] != (k.height, k.width):
        raise In2nError(
            "bad_truth",
            f"{file} has {image.shape[1]} x {image.shape[0]} pixels, its view {k.width} x {k.height}.",
            "Give the truth at the size of the workspace's own images.",
        )
    return image
