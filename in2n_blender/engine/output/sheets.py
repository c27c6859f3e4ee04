"""What a person looks at: a contact sheet, a before-and-after animation, and a report of the whole job."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...link.requests import ExtractMesh, Summarise
from ...scene.camera import Camera
from ...scene.camera_path import CameraPath
from ...scene.capture import PinholeCapture
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ...workspace.files import atomic_path, read_json, write_json
from ...workspace.layout import Workspace
from ..pictures import BACKGROUND, GAP, INK, LABEL_HEIGHT, Picture, contact_strip, fitted
from .frames import PATH_COPY, RECORD, checkpoint_file, load_camera_path

SHEET_VIEWS = 4
SHEET_CELL = 256
ANIMATION_FRAMES = 24
ANIMATION_SIDE = 320
# "Before" pictures that are rendered for the animation alone: no larger than this many pixels.
ANIMATION_PIXELS = 128 * 128
PACKAGES = ("torch", "torchvision", "diffusers", "transformers", "nerfacc", "warp-lang", "lpips", "numpy")


def contact_sheet(rows: Sequence[tuple[str, Sequence[np.ndarray]]], cell: int = SHEET_CELL) -> Image.Image:
    """Rows of pictures, each under its label.

    rows: (label, images (height, width, 3) sRGB, float in [0, 1] or uint8). cell: pixels on the longer side of a
    picture; smaller pictures are enlarged, larger ones reduced.
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
    """An endless GIF of both sequences side by side. All frames share one palette, so that still surfaces do not
    flicker.

    before, after: as many (height, width, 3) sRGB images each. Raises In2nError when it cannot be written.
    """
    frames = [contact_strip([a, b], labels, ANIMATION_SIDE) for a, b in zip(before, after)]
    palette = _shared_palette(frames)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
    with atomic_path(path) as temporary:
        frames[0].save(
            temporary, save_all=True, append_images=frames[1:], duration=max(20, round(1000 / fps)), loop=0, disposal=1
        )


def summarise(request: Summarise, report: Reporter) -> dict:
    """Gather the results of an edit in the folder request.out.

    Writes frames/edited/, before_after.gif, mesh.glb, contact_sheet.png and report.json, and returns what report.json
    holds. Raises In2nError where the reconstruction, the edit or the frames are not there; Cancelled.
    """
    from ..nerf.scene import load_scene

    workspace, out = Workspace(request.workspace), Path(request.out)
    for edit in (None, request.edit):
        _require(checkpoint_file(workspace, edit), "reconstruction" if edit is None else f"edit “{edit}”")
    frames = workspace.renders(request.edit, request.camera_path)
    _require(frames / RECORD, f"frames of “{request.camera_path}”")
    path = load_camera_path(frames / PATH_COPY)

    scenes = {edit: load_scene(workspace, edit, request.device) for edit in (None, request.edit)}
    _write_contact_sheet(workspace, scenes, request.edit, out / "contact_sheet.png", report)
    _write_animation(scenes[None], path, workspace.renders(None, path.name), frames, out / "before_after.gif", report)
    _copy_frames(frames, path, out / "frames" / "edited", report)
    _copy_mesh(workspace, request, out / "mesh.glb", report)
    facts = gather_report(workspace, request)
    write_json(out / "report.json", facts)
    for name in ("contact_sheet.png", "before_after.gif", "report.json"):
        report.artifact("report", out / name)
    return facts


def gather_report(workspace: Workspace, request: Summarise) -> dict:
    """report.json from the files that the jobs left in the workspace; what a job did not leave is taken from
    request.results."""

    def facts(path: Path, job: str, names: dict[str, str]) -> dict:
        found = {**request.results.get(job, {}), **(read_json(path) if path.is_file() else {})}
        return {name: found.get(key) for name, key in names.items()}

    same = lambda *names: {name: name for name in names}  # noqa: E731
    edit = workspace.edit(request.edit)
    device = facts(edit / "state.json", "edit", same("device"))["device"]
    return {
        "reconstruction": facts(
            workspace.reconstruction / "state.json", "reconstruct", same("psnr_db", "seconds", "device")
        ),
        "edit": {
            "name": request.edit,
            **facts(
                edit / "state.json", "edit", same("instruction", "editor", "rounds", "unet_evaluations", "seconds")
            ),
        },
        "frames": facts(
            workspace.renders(request.edit, request.camera_path) / RECORD, "render", same("count", "seconds")
        ),
        "mesh": facts(workspace.mesh(request.edit, ".json"), "mesh", same("vertices", "faces", "seconds")),
        "device": device,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of this package, Python and the engine's packages."""
    from ... import __version__

    found = {"in2n_blender": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` indices below `count`, evenly spaced, first and last among them where there is more than one."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, wanted))}) if count else []


def _write_contact_sheet(workspace: Workspace, scenes: dict, edit: str, path: Path, report: Reporter) -> None:
    capture = PinholeCapture.from_json(read_json(workspace.capture_json))
    views = capture.held_out_views or capture.training_views
    views = [views[i] for i in spread(len(views), SHEET_VIEWS)]
    rows = {"photo": [], "reconstruction": [], "edit": []}
    for index, view in enumerate(views):
        report.progress(index, len(views), "view", "Contact sheet")
        rows["photo"].append(_over_white(Image.open(workspace.root / view.image)))
        for label, scene in zip(("reconstruction", "edit"), (scenes[None], scenes[edit])):
            rows[label].append(Picture.of(scene.render(view.camera, report=report), scene.has_alpha).over())
    instruction = read_json(workspace.edit(edit) / "edit.json").get("instruction", edit)
    kind = "held-out views" if capture.held_out_views else "training views"
    labels = {"photo": f"photo ({kind})", "reconstruction": "reconstruction", "edit": f"edit: “{instruction}”"}
    sheet = contact_sheet([(labels[row], images) for row, images in rows.items()])
    with atomic_path(path) as temporary:
        sheet.save(temporary)


def _write_animation(scene, path: CameraPath, unedited: Path, edited: Path, gif: Path, report: Reporter) -> None:
    """unedited, edited: folders of full frames. Frames before the edit that are not there are rendered small from
    `scene`."""
    chosen = [path.frames[i] for i in spread(len(path.frames), ANIMATION_FRAMES)]
    at_hand = (unedited / PATH_COPY).is_file() and read_json(unedited / PATH_COPY) == read_json(edited / PATH_COPY)
    before, after = [], []
    for index, frame in enumerate(chosen):
        report.progress(index, len(chosen), "frame", "Before and after")
        name = f"{frame.number:04d}.png"
        after.append(_over_white(Image.open(edited / name)))
        if at_hand and (unedited / name).is_file():
            before.append(_over_white(Image.open(unedited / name)))
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
    size = (max(1, round(k.width * scale)), max(1, round(k.height * scale)))
    return Camera(k.scaled_to(*size), camera.camera_to_world)


def _copy_frames(folder: Path, path: CameraPath, out: Path, report: Reporter) -> None:
    for index, frame in enumerate(path.frames):
        report.progress(index, len(path.frames), "frame", "Copying frames")
        for kind in ("png", "exr"):
            _copy(folder / f"{frame.number:04d}.{kind}", out / f"{frame.number:04d}.{kind}")


def _copy_mesh(workspace: Workspace, request: Summarise, out: Path, report: Reporter) -> None:
    if not workspace.mesh(request.edit, ".glb").is_file():
        from .mesh import extract_mesh

        extract_mesh(ExtractMesh(workspace=request.workspace, edit=request.edit, device=request.device), report)
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
