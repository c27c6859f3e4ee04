"""A preview of an edit on one original photo, at several guidance scales.

Instruct-NeRF2NeRF's authors tell their users to find the two scales on a single photo with InstructPix2Pix before they
edit a scene. Here the photo itself, as large as the edit sees it, takes the place of the render and the noise level is
1, so that every picture shows what the editor would make of the photo alone. All pictures start from the same noise:
they differ by their guidance only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ...link.requests import PreviewGrid
from ...scene.capture import PinholeCapture, View
from ...scene.errors import In2nError
from ...scene.reporting import Progress, Reporter
from ...workspace.files import atomic_path, write_json
from ...workspace.hashes import hash_of_bytes
from ...workspace.imported import load_capture
from ...workspace.layout import Workspace
from ...workspace.outputs import claim
from ...workspace.outputs import record as record_made
from ...workspace.provenance import PHOTOS, Provenance
from ..device import describe_device, pick_device
from ..diffusion.editor import Editor, noise_generator
from ..diffusion.loading import load_editor
from ..photos import load_images, opaque
from ..pictures import BACKGROUND, GAP, INK, LABEL_HEIGHT, contact_strip, not_finite, provenance_of, save_srgb, to_bytes
from .lineage import editor_revision

RECORD, PHOTO, SHEET = "preview.json", "photo.png", "sheet.png"
NOISE_LEVEL = 1.0
SHEET_CELL = 224

# The scales of a grid as multiples of the editor's own: (text, image).
AROUND_DEFAULT = (2 / 3, 1, 4 / 3), (2 / 3, 13 / 15, 1, 6 / 5)
# For an editor whose defaults are at most NO_GUIDANCE, because it was trained to need none, lower ones make no sense.
FROM_DEFAULT = (1, 1.5, 2.5, 4), (1, 1.25, 1.6)
NO_GUIDANCE = 1.0


@dataclass(frozen=True)
class Cell:
    """One picture of the grid."""

    guidance_text: float | None
    guidance_image: float | None

    @property
    def file(self) -> str:
        return f"{self._named('-', '_') or 'picture'}.png"

    @property
    def label(self) -> str:
        return self._named(" ", " · ") or "the model's own guidance"

    def _named(self, between: str, beside: str) -> str:
        """The scales that the model has, by their names."""
        scales = (("text", self.guidance_text), ("image", self.guidance_image))
        return beside.join(f"{name}{between}{scale:g}" for name, scale in scales if scale is not None)

    def to_json(self) -> dict:
        """The picture's file and its scales, as preview.json lists them."""
        return {"file": self.file, "guidance_text": self.guidance_text, "guidance_image": self.guidance_image}


def preview(request: PreviewGrid, report: Reporter) -> dict:
    """Edit one photo of the workspace's capture at every pair of guidance scales; no reconstruction is needed.

    Leaves in the request's folder a picture for each pair as soon as it is made, photo.png, preview.json (what each was
    made with) and, of a grid, sheet.png with all of them. A picture carries the hash of what it was made from: those
    that are there are used again, others are replaced one by one.

    Args:
        request: The photo, the instruction and the scales.
        report: Told of every denoising step, each picture's artifact, and asked whether the job was cancelled.

    Returns:
        What preview.json holds, with its "folder".

    Raises:
        In2nError: "unknown_view", "not_ours" where a folder of the user's holds a file of another's with one of the
            names, and what loading the capture and the model raises.
        Cancelled: Pictures that are whole are kept.
    """
    request.check()
    workspace, device = Workspace(request.workspace), pick_device(request.device, report.log)
    capture = load_capture(workspace)
    view = find_view(capture, request.view)
    photo = whole_photo(load_images(workspace, capture, (view,))[0])
    editor = load_editor(request.editor, device, report, request.memory_plan)
    for text in request.text_scales or [None]:
        editor.model.check_negative_prompt(request.negative_prompt, text)
        for image in request.image_scales or [None]:
            editor.model.check_scales(text, image)
    editor.prepare(request.instruction, request.negative_prompt)
    cells = choose_cells(request, editor.guidance_text, editor.guidance_image)
    record = {
        "instruction": request.instruction.strip(),
        "editor": editor.name,
        "view": view.name,
        "seed": request.seed,
        "noise_level": NOISE_LEVEL,
        "steps": editor.steps,
        "image_size": list(photo.shape[1::-1]),
    }
    if request.negative_prompt.strip():
        record["negative_prompt"] = request.negative_prompt.strip()
    folder = Path(request.out) if request.out else workspace.root / "previews" / request.folder_name
    files = [RECORD, PHOTO, *([SHEET] if request.grid else []), *(cell.file for cell in cells)]
    if request.out:
        claim(folder, files)
    maker = _Maker(folder, record, editor, photo, capture.views.index(view), report)
    pictures = maker.make(cells, request.restart)
    record = maker.write_record(cells, len(cells))
    if request.grid:
        write_sheet(folder / SHEET, photo, cells, pictures, record)
        report.artifact("report", folder / SHEET)
    if request.out:
        record_made(folder, files)
    report.progress(1, 1, "picture", "Preview is ready", 0.0)
    return {"folder": str(folder), **record}


def choose_cells(request: PreviewGrid, default_text: float | None, default_image: float | None) -> list[Cell]:
    """The pictures in reading order: image guidance grows from row to row, text guidance within a row.

    Args:
        request: The scales, and whether there is a grid; without one there is a single picture.
        default_text: The editor's own s_T, around which scales are taken where the request names none; None: it has
            no such scale, and there is one column.
        default_image: The editor's own s_I, likewise.

    Returns:
        At least one.
    """
    factors = FROM_DEFAULT if default_text is not None and default_text <= NO_GUIDANCE else AROUND_DEFAULT
    if not request.grid:
        factors = (1,), (1,)
    text, image = (
        [None] if default is None else _scales(given, default, of_one)
        for given, default, of_one in zip(
            (request.text_scales, request.image_scales), (default_text, default_image), factors
        )
    )
    if not request.grid:
        text, image = text[:1], image[:1]
    return [Cell(t, i) for i in image for t in text]


def _scales(given: list[float] | None, default: float, factors: Sequence[float]) -> list[float]:
    return sorted({float(scale) for scale in given}) if given else [round(default * factor, 2) for factor in factors]


def find_view(capture: PinholeCapture, name: str | None) -> View:
    """A view by its name.

    Args:
        capture: Whose view it is.
        name: The view's; None: the first one that is trained on.

    Returns:
        One of the capture's views.

    Raises:
        In2nError: "unknown_view".
    """
    if name is None:
        return capture.training_views[0]
    found = next((view for view in capture.views if view.name == name), None)
    if found is None:
        names = ", ".join(view.name for view in capture.views[:3])
        raise In2nError(
            "unknown_view",
            f"The capture has no photo “{name}”.",
            f"Choose one of its {len(capture.views)} photos: {names}, …",
        )
    return found


def whole_photo(image: np.ndarray) -> np.ndarray:
    """A photo over white, as large as the edit sees it: scales that are good at another size would not be there.

    Args:
        image: (height, width, 3 or 4) sRGB in [0, 1], alpha not premultiplied.

    Returns:
        (height, width, 3) float32 sRGB in [0, 1], in steps of 8 bits.
    """
    return to_bytes(opaque(image)).astype(np.float32) / 255


class _Maker:
    """Makes the pictures and keeps preview.json true to what is there."""

    def __init__(self, folder: Path, record: dict, editor: Editor, photo: np.ndarray, index: int, report: Reporter):
        self.folder, self.record, self.editor, self.index, self.report = folder, record, editor, index, report
        self.photo = torch.from_numpy(photo).permute(2, 0, 1)[None]
        self.photo_hash, self.revision = hash_of_bytes([to_bytes(photo).tobytes()]), editor_revision(editor)
        self.original = editor.encode_original(self.photo)
        self.seconds, self.device = 0.0, describe_device(self.original.latent.device)

    def made_from(self, cell: Cell) -> str:
        """The hash of what a picture is made from; the noise is that of the view's place in the capture."""
        names = ("instruction", "negative_prompt", "seed", "noise_level", "steps", "image_size")
        chosen = {key: self.record[key] for key in names if key in self.record}
        scales = {"guidance_text": cell.guidance_text, "guidance_image": cell.guidance_image}
        settings = {**chosen, **scales, "view": self.index}
        return Provenance("preview", settings, {PHOTOS: self.photo_hash}, self.revision).hash

    def make(self, cells: list[Cell], restart: bool) -> list[np.ndarray]:
        """restart: whether pictures that are there already are made again. Returns (height, width, 3) uint8 each."""
        save_srgb(self.folder / PHOTO, self.photo[0].permute(1, 2, 0))
        pictures = []
        for number, cell in enumerate(cells):
            file, made_from = self.folder / cell.file, self.made_from(cell)
            if restart or provenance_of(file) != made_from:
                self.write_record(cells, number)
                started = time.monotonic()
                save_srgb(file, self._edit(cell, number, len(cells)), made_from)
                self.seconds += time.monotonic() - started
            self.write_record(cells, number + 1)
            self.report.artifact("image", file, self.record["view"])
            pictures.append(np.asarray(Image.open(file).convert("RGB")))
        return pictures

    def write_record(self, cells: list[Cell], done: int) -> dict:
        record = {
            **self.record,
            "device": self.device,
            "seconds": round(self.seconds, 2),
            "photo": PHOTO,
            "done": done,
            "text_scales": sorted({cell.guidance_text for cell in cells}),
            "image_scales": sorted({cell.guidance_image for cell in cells}),
            "pictures": [cell.to_json() for cell in cells],
        }
        write_json(self.folder / RECORD, record)
        return record

    def _edit(self, cell: Cell, number: int, count: int) -> torch.Tensor:
        def emit(event):
            if isinstance(event, Progress):
                self.report.progress(
                    number * event.total + event.done,
                    count * event.total,
                    "step",
                    f"Picture {number + 1} of {count}: {cell.label}",
                )

        edited = self.editor.edit(
            self.photo,
            self.original,
            noise_level=NOISE_LEVEL,
            generators=[noise_generator(self.record["seed"], self.index, 0)],
            guidance_text=cell.guidance_text,
            guidance_image=cell.guidance_image,
            report=Reporter(emit, self.report.is_cancelled),
        )
        if not torch.isfinite(edited).all():
            raise not_finite(f"The preview with {cell.label}")
        return edited[0].permute(1, 2, 0).cpu()


def write_sheet(path: Path, photo: np.ndarray, cells: list[Cell], pictures: Sequence[np.ndarray], record: dict) -> None:
    """All pictures in one, each with its scales, the photo at the left.

    Args:
        path: The file; replaced whole.
        photo: (height, width, 3) float sRGB in [0, 1].
        cells: In reading order, as `choose_cells` gives them.
        pictures: As many, (height, width, 3) uint8 each.
        record: Its "instruction" and "view" make the title.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    columns = len({cell.guidance_text for cell in cells})
    strips = [
        contact_strip(pictures[i : i + columns], [cell.label for cell in cells[i : i + columns]], SHEET_CELL)
        for i in range(0, len(cells), columns)
    ]
    left = contact_strip([to_bytes(photo)], ["photo"], SHEET_CELL)
    title = (
        f"“{record['instruction']}” on {record['view']}: more text guidance to the right, more image guidance downwards"
    )
    font = ImageFont.load_default(size=15)
    width = max(left.width + strips[0].width + 3 * GAP, round(font.getlength(title)) + 2 * GAP + 4)
    sheet = Image.new("RGB", (width, LABEL_HEIGHT + sum(strip.height + GAP for strip in strips)), BACKGROUND)
    ImageDraw.Draw(sheet).text((GAP + 2, LABEL_HEIGHT / 2), title, INK, font, anchor="lm")
    sheet.paste(left, (GAP, LABEL_HEIGHT))
    top = LABEL_HEIGHT
    for strip in strips:
        sheet.paste(strip, (left.width + 2 * GAP, top))
        top += strip.height + GAP
    with atomic_path(path) as temporary:
        sheet.save(temporary)
