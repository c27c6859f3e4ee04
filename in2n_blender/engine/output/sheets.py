"""What a person looks at: a contact sheet, a before-and-after animation, and a report of the whole job."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ... import __version__
from ...link.requests import ExtractMesh, Summarise
from ...scene.camera import Camera
from ...scene.camera_path import CameraPath
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ...workspace.files import atomic_path, read_json, write_json
from ...workspace.hashes import scene_hash
from ...workspace.imported import load_capture
from ...workspace.layout import Workspace
from ...workspace.outputs import FRAMES, SPLATS, SUMMARY, claim, frame_names, made_by_us, record, remove_made
from ...workspace.provenance import result_folder
from ..nerf.scene import load_scene
from ..photos import load_images, opaque
from ..pictures import BACKGROUND, BROKEN, GAP, INK, LABEL_HEIGHT, Picture, contact_strip, fitted, opened
from .frames import PATH_COPY, RECORD, frame_provenance, is_rendered
from .mesh import extract_mesh, is_of_scene

SHEET_VIEWS = 4
SHEET_CELL = 256
ANIMATION_FRAMES = 24
ANIMATION_SIDE = 320
# "Before" pictures that are rendered for the animation alone: no larger than this many pixels.
ANIMATION_PIXELS = 128 * 128
PACKAGES = ("torch", "torchvision", "diffusers", "transformers", "nerfacc", "warp-lang", "lpips", "numpy")


def contact_sheet(rows: Sequence[tuple[str, Sequence[np.ndarray]]], cell: int = SHEET_CELL) -> Image.Image:
    """Rows of pictures, each row under its label.

    Args:
        rows: (label, images (height, width, 3) sRGB, float in [0, 1] or uint8) each.
        cell: Pixels of a picture's longer side; smaller pictures are enlarged, larger ones reduced.

    Returns:
        An RGB image; every column is as wide as its widest picture.
    """
    rows = [(label, [fitted(image, cell) for image in images]) for label, images in rows]
    columns = max(len(images) for _, images in rows)
    widths = [max((images[c].width for _, images in rows if c < len(images)), default=0) for c in range(columns)]
    heights = [max(image.height for image in images) for _, images in rows]
    size = (sum(widths) + GAP * (columns + 1), sum(heights) + (LABEL_HEIGHT + GAP) * len(rows))
    sheet = Image.new("RGB", size, BACKGROUND)
    draw, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(size=15), 0
    for (label, images), height in zip(rows, heights):
        draw.text((GAP + 2, top + LABEL_HEIGHT / 2), label, INK, font, anchor="lm")
        left = GAP
        for image, width in zip(images, widths):
            sheet.paste(image, (left, top + LABEL_HEIGHT))
            left += width + GAP
        top += LABEL_HEIGHT + height + GAP
    return sheet


def before_after_gif(
    path: Path, before: Sequence[np.ndarray], after: Sequence[np.ndarray], fps: float, labels=("before", "after")
) -> None:
    """An endless GIF of both sequences side by side.

    All frames share one palette, so that still surfaces do not flicker.

    Args:
        path: The file; replaced whole.
        before: (height, width, 3) sRGB images, float in [0, 1] or uint8.
        after: As many.
        fps: Frames a second; a GIF shows at most 50.
        labels: Of the two sequences.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    frames = [contact_strip([a, b], labels, ANIMATION_SIDE) for a, b in zip(before, after)]
    palette = _shared_palette(frames)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
    with atomic_path(path) as temporary:
        frames[0].save(
            temporary, save_all=True, append_images=frames[1:], duration=max(20, round(1000 / fps)), loop=0, disposal=1
        )


def summarise(request: Summarise, report: Reporter) -> dict:
    """Gather the results of an edit in a folder of the user's.

    Args:
        request: Which edit and camera path, and the folder `out`.
        report: Told of every view and frame, and asked whether the job was cancelled.

    Returns:
        What report.json holds. Beside it lie frames/edited/, before_after.gif, mesh.glb, contact_sheet.png and, where
        the edit has splats, splats.ply. Frames of an earlier path that are ours and unchanged are taken away again
        (see `workspace.outputs`).

    Raises:
        In2nError: "missing_result" where the reconstruction, the edit or the frames are not there, "not_ours" where
            a file that we did not make has one of the names; nothing is written then.
        Cancelled: What is written is whole.
    """
    workspace, out = Workspace(request.workspace), Path(request.out)
    for edit in (None, request.edit):
        checkpoint = result_folder(workspace, edit) / "checkpoint.safetensors"
        _require(checkpoint, "reconstruction" if edit is None else f"edit “{edit}”")
    frames = workspace.renders(request.edit, request.camera_path)
    _require(frames / RECORD, f"frames of “{request.camera_path}”")
    path = CameraPath.load(frames / PATH_COPY)
    copies = frame_names(frame.number for frame in path.frames)
    splats = workspace.splats(request.edit, ".ply")
    made = [*SUMMARY, *copies, *([SPLATS] if splats.is_file() else [])]
    claim(out, made)

    scenes = {edit: load_scene(workspace, edit, request.device) for edit in (None, request.edit)}
    _write_contact_sheet(workspace, scenes, request.edit, out / "contact_sheet.png", report)
    _write_animation(workspace, scenes[None], path, frames, out / "before_after.gif", report)
    for index, name in enumerate(copies):
        report.progress(index, len(copies), "file", "Copying frames")
        _copy(frames / Path(name).name, out / name)
    _copy_mesh(workspace, request, out / "mesh.glb", report)
    if SPLATS in made:
        _copy(splats, out / SPLATS)
    summary = gather_report(workspace, request)
    write_json(out / "report.json", summary)
    remove_made(out, [name for name in made_by_us(out) if name.startswith(f"{FRAMES}/") and name not in copies])
    record(out, made)
    for name in ("contact_sheet.png", "before_after.gif", "report.json"):
        report.artifact("report", out / name)
    return summary


def gather_report(workspace: Workspace, request: Summarise) -> dict:
    """What report.json says.

    Args:
        workspace: The files that the jobs left there are read.
        request: Its `results` say what a job did not leave there.

    Returns:
        As JSON knows it; None for what nobody tells.
    """

    def chosen(path: Path, job: str, *names: str) -> dict:
        found = {**request.results.get(job, {}), **(read_json(path) if path.is_file() else {})}
        return {name: found.get(name) for name in names}

    reconstruction = workspace.reconstruction / "state.json"
    edit = workspace.edit(request.edit) / "state.json"
    frames = workspace.renders(request.edit, request.camera_path) / RECORD
    made = chosen(edit, "edit", "instruction", "editor", "rounds", "unet_evaluations", "seconds")
    return {
        "reconstruction": chosen(reconstruction, "reconstruct", "psnr_db", "seconds", "device"),
        "edit": {"name": request.edit, **made},
        "frames": chosen(frames, "render", "count", "seconds"),
        "mesh": chosen(workspace.mesh(request.edit, ".json"), "mesh", "vertices", "faces", "seconds"),
        "device": chosen(edit, "edit", "device")["device"],
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of this package, Python and the engine's packages."""
    found = {"in2n_blender": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def spread(count: int, wanted: int) -> list[int]:
    """Evenly spaced indices, the first and, where there is more than one, the last among them.

    Args:
        count: The indices are below it.
        wanted: At most so many.

    Returns:
        Ascending; empty for a count of 0.
    """
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, wanted))}) if count else []


def _write_contact_sheet(workspace: Workspace, scenes: dict, edit: str, path: Path, report: Reporter) -> None:
    capture = load_capture(workspace)
    views = capture.held_out_views or capture.training_views
    views = [views[i] for i in spread(len(views), SHEET_VIEWS)]
    rows = {"photo": [], "reconstruction": [], "edit": []}
    for index, view in enumerate(views):
        report.progress(index, len(views), "view", "Contact sheet")
        rows["photo"].append(opaque(load_images(workspace, capture, (view,))[0]))
        for label, scene in zip(("reconstruction", "edit"), (scenes[None], scenes[edit])):
            rows[label].append(Picture.of(scene.render(view.camera, report=report), scene.has_alpha).over())
    instruction = read_json(workspace.edit(edit) / "edit.json").get("instruction", edit)
    kind = "held-out views" if capture.held_out_views else "training views"
    labels = {"photo": f"photo ({kind})", "reconstruction": "reconstruction", "edit": f"edit: “{instruction}”"}
    sheet = contact_sheet([(labels[row], images) for row, images in rows.items()])
    with atomic_path(path) as temporary:
        sheet.save(temporary)


def _write_animation(workspace: Workspace, scene, path: CameraPath, edited: Path, gif: Path, report: Reporter) -> None:
    """Frames before the edit are those of the unedited scene where they are there, else rendered small from `scene`.

    edited: the folder of the edited frames.
    """
    unedited, weights = workspace.renders(None, path.name), scene_hash(workspace.reconstruction)
    chosen = [path.frames[i] for i in spread(len(path.frames), ANIMATION_FRAMES)]
    before, after = [], []
    for index, frame in enumerate(chosen):
        report.progress(index, len(chosen), "frame", "Before and after")
        name = f"{frame.number:04d}.png"
        after.append(_frame(edited / name))
        if is_rendered(unedited, frame.number, frame_provenance(path, frame, weights).hash):
            before.append(_frame(unedited / name))
        else:
            rendered = scene.render(_small_camera(frame.camera), report=report)
            before.append(Picture.of(rendered, scene.has_alpha).over())
            after[-1] = _resized(after[-1], before[-1].shape)
    before_after_gif(gif, before, after, path.fps * len(chosen) / len(path.frames))


def _resized(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.LANCZOS))


def _small_camera(camera: Camera) -> Camera:
    k = camera.intrinsics
    scale = min(1.0, (ANIMATION_PIXELS / (k.width * k.height)) ** 0.5)
    return camera.scaled_to(max(1, round(k.width * scale)), max(1, round(k.height * scale)))


def _copy_mesh(workspace: Workspace, request: Summarise, out: Path, report: Reporter) -> None:
    mesh = ExtractMesh(workspace=request.workspace, edit=request.edit, device=request.device)
    if not is_of_scene(workspace, request.edit):
        extract_mesh(mesh, report)
    _copy(workspace.mesh(request.edit, ".glb"), out)


def _copy(source: Path, target: Path) -> None:
    _require(source, source.name)
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _require(path: Path, what: str) -> None:
    if not path.is_file():
        raise In2nError(
            "missing_result",
            f"There is no {what} in this workspace yet ({path} is missing).",
            "Run the earlier steps first.",
        )


def _frame(path: Path) -> np.ndarray:
    """(height, width, 3) sRGB over white, of a frame that was rendered. Raises In2nError("bad_image")."""
    try:
        with opened(path) as picture:
            return _over_white(picture)
    except BROKEN as error:
        raise In2nError("bad_image", f"{path} cannot be read ({error}).", "Render the frames again.") from None


def _over_white(image: Image.Image) -> np.ndarray:
    """(height, width, 3) uint8."""
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, image).convert("RGB"))


def _shared_palette(frames: Sequence[Image.Image]) -> Image.Image:
    chosen = [frames[i] for i in spread(len(frames), 6)]
    montage = Image.new("RGB", (chosen[0].width, sum(frame.height for frame in chosen)))
    top = 0
    for frame in chosen:
        montage.paste(frame, (0, top))
        top += frame.height
    return montage.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
