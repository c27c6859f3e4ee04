"""The miniature's bars: its edits of scenes it never saw against their true edits."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps

from ...engine.diffusion.editor import noise_generator
from ...engine.diffusion.loading import load_editor
from ...models.model import Instruction
from ...scene.errors import In2nError
from .instructions import INSTRUCTIONS
from .pairs import RenderedPairs, true_edit

SHEET_VIEWS = 4
PHOTO_SUFFIXES = (".png", ".jpg", ".jpeg")


def psnr_db(images: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of each image: -10 log10(mean squared error).

    Args:
        images: (batch, 3, h, w) float, sRGB in [0, 1].
        truth: The same shape.

    Returns:
        (batch,) in dB, 100 at most.
    """
    return -10 * torch.log10(((images - truth) ** 2).mean(dim=(1, 2, 3)).clamp(min=1e-10))


def nearest_truth(edits: torch.Tensor, truths: torch.Tensor) -> torch.Tensor:
    """Which instruction's truth each edit is nearest to by squared error.

    Args:
        edits: (batch, 3, h, w) float, sRGB in [0, 1].
        truths: (instructions, batch, 3, h, w), what each instruction makes of the same views.

    Returns:
        (batch,) int64, the instruction's number.
    """
    return ((truths - edits[None]) ** 2).mean(dim=(2, 3, 4)).argmin(dim=0)


def evaluate(
    weights: Path,
    rendered: RenderedPairs,
    device: torch.device,
    views: int = 24,
    steps: int | None = None,
    batch: int = 4,
) -> tuple[dict, torch.Tensor]:
    """Edit held-out views from pure noise by every instruction, each view by another of its paraphrases.

    Args:
        weights: The editor's folder, in the diffusers layout.
        rendered: The held-out views and their rendered edits.
        device: Where the editor runs.
        views: How many views are edited, at most.
        steps: Of denoising; None: the editor's own number.
        batch: Views edited at once.

    Returns:
        The result (per instruction psnr_db, right_instruction_share, and the same for paraphrases only; the means), and
        the edits, (instructions, views, 3, h, w) float32, sRGB in [0, 1].

    Raises:
        ValueError: Without held-out views.
    """
    chosen = spread(len(rendered.views), views)
    if not chosen:
        raise ValueError("the cache holds no held-out scene")
    originals = torch.stack([rendered.views[view][0] for view in chosen]).float() / 255
    truths = torch.stack(
        [torch.stack([true_edit(rendered, view, instruction) for view in chosen]) for instruction in INSTRUCTIONS]
    )
    editor = load_editor(str(weights), device)
    rows, edits = [], []
    for number, instruction in enumerate(INSTRUCTIONS):
        edited = _edit_views(editor, instruction, originals, steps, batch)
        edits.append(edited)
        rows.append(_row(instruction, edited, truths, number))
        print(json.dumps(rows[-1]), flush=True)
    result = {
        "views": len(chosen),
        "size": originals.shape[-1],
        "denoising_steps": steps or editor.steps,
        "guidance_text": editor.guidance_text,
        "guidance_image": editor.guidance_image,
        "instructions": rows,
        "mean_psnr_db": round(float(np.mean([row["psnr_db"] for row in rows])), 2),
        "lowest_psnr_db": min(row["psnr_db"] for row in rows),
        "right_instruction_share": round(float(np.mean([row["right_instruction_share"] for row in rows])), 4),
    }
    return result, torch.stack(edits)


def _edit_views(
    editor, instruction: Instruction, originals: torch.Tensor, steps: int | None, batch: int
) -> torch.Tensor:
    """View i is edited by paraphrase i (cycled)."""
    edited = torch.empty_like(originals)
    for phrase_number, phrase in enumerate(instruction.phrases):
        mine = list(range(phrase_number, len(originals), len(instruction.phrases)))
        if not mine:
            continue
        editor.prepare(phrase)
        for start in range(0, len(mine), batch):
            views = mine[start : start + batch]
            edited[views] = editor.edit(
                originals[views],
                originals[views],
                noise_level=1.0,
                steps=steps,
                generators=[noise_generator(0, view, 0) for view in views],
            ).cpu()
    return edited


def _row(instruction: Instruction, edited: torch.Tensor, truths: torch.Tensor, number: int) -> dict:
    psnr = psnr_db(edited, truths[number])
    right = nearest_truth(edited, truths) == number
    paraphrased = torch.arange(len(edited)) % len(instruction.phrases) != 0
    row = {
        "instruction": instruction.text,
        "psnr_db": round(float(psnr.mean()), 2),
        "worst_view_psnr_db": round(float(psnr.min()), 2),
        "right_instruction_share": round(float(right.float().mean()), 4),
    }
    if paraphrased.any():
        row["paraphrases_psnr_db"] = round(float(psnr[paraphrased].mean()), 2)
        row["paraphrases_right_share"] = round(float(right[paraphrased].float().mean()), 4)
    return row


def evaluate_to_folder(weights: Path, cache: Path, out: Path, device: torch.device, views: int = 24) -> dict:
    """`evaluate` on a cache's held-out scenes, written as result.json and sheet.png.

    Args:
        weights: The editor's folder, in the diffusers layout.
        cache: The folder of the rendered pairs.
        out: Where the two files go; made where it is missing.
        device: Where the editor runs.
        views: How many views are edited, at most.

    Returns:
        The result, as `evaluate`.

    Raises:
        ValueError: Without held-out views.
    """
    rendered = RenderedPairs(cache, held_out=True)
    result, edits = evaluate(weights, rendered, device, views)
    out.mkdir(parents=True, exist_ok=True)
    (out / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    chosen = spread(len(rendered.views), views)[:SHEET_VIEWS]
    originals = torch.stack([rendered.views[view][0] for view in chosen]).float() / 255
    truths = torch.stack([torch.stack([true_edit(rendered, view, i) for view in chosen]) for i in INSTRUCTIONS])
    draw_sheet(originals, edits[:, : len(chosen)], [i.text for i in INSTRUCTIONS], truths).save(out / "sheet.png")
    print(json.dumps({key: value for key, value in result.items() if key != "instructions"}), flush=True)
    return result


def evaluate_capture(weights: Path, folder: Path, device: torch.device) -> list[dict]:
    """Edit a capture's held-out photos one by one, as an editing method does first, and compare them with the truth.

    Args:
        weights: The editor's folder, in the diffusers layout.
        folder: As `testbed.scenes.testbed` renders it: images/NAME.png, and truth/EDIT/NAME.png for some of them.
        device: Where the editor runs.

    Returns:
        For each rendered edit that has truths: instruction, views, psnr_db, and unedited_psnr_db, of the photos
        themselves.

    Raises:
        In2nError: "no_truth" where there is none.
    """
    truths = {each: sorted((folder / "truth" / each.name).glob("test_*[0-9].png")) for each in INSTRUCTIONS}
    truths = {each: paths for each, paths in truths.items() if paths}
    if not truths:
        raise In2nError("no_truth", f"There is no edit's truth in {folder}.", "Render it: `testbed --truth held-out`.")
    editor, rows = load_editor(str(weights), device), []
    for instruction, paths in truths.items():
        originals = torch.stack([_read(folder / "images" / path.name) for path in paths])
        truth = torch.stack([_read(path) for path in paths])
        editor.prepare(instruction.text)
        edited = editor.edit(
            originals,
            originals,
            noise_level=1.0,
            generators=[noise_generator(0, view, 0) for view in range(len(originals))],
        ).cpu()
        scores = {"psnr_db": psnr_db(edited, truth), "unedited_psnr_db": psnr_db(originals, truth)}
        means = {name: round(float(values.mean()), 2) for name, values in scores.items()}
        rows.append({"instruction": instruction.text, "views": len(paths), **means})
    return rows


def _read(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).float() / 255


def photo_sheet(
    weights: Path, folder: Path, device: torch.device, count: int = SHEET_VIEWS, side: int = 160
) -> Image.Image:
    """How the editor does on photographs, of which nobody knows the truth: each edited by every instruction.

    Args:
        weights: The editor's folder, in the diffusers layout.
        folder: PNG and JPEG files, of which some are taken, evenly spread.
        device: Where the editor runs.
        count: How many are taken, at most.
        side: Pixels a side, to which they are cropped and scaled.

    Returns:
        The sheet, a row for each photograph.

    Raises:
        In2nError: "no_photos" where the folder holds none.
    """
    paths = (
        sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES) if folder.is_dir() else []
    )
    if not paths:
        raise In2nError("no_photos", f"There are no photos in {folder}.", "Name a folder of PNG or JPEG files.")
    pictures = [
        ImageOps.fit(Image.open(paths[index]).convert("RGB"), (side, side), Image.LANCZOS)
        for index in spread(len(paths), count)
    ]
    originals = torch.stack(
        [torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255 for picture in pictures]
    )
    editor = load_editor(str(weights), device)
    edits = torch.stack([_edit_views(editor, instruction, originals, None, 4) for instruction in INSTRUCTIONS])
    return draw_sheet(originals, edits, [instruction.name for instruction in INSTRUCTIONS])


def spread(count: int, most: int) -> list[int]:
    """Indices spread evenly over range(count).

    Args:
        count: How many there are to choose from.
        most: How many are chosen, at most.
    """
    return sorted({int(index) for index in np.linspace(0, count - 1, min(count, most))}) if count else []


def draw_sheet(
    originals: torch.Tensor, edits: torch.Tensor, titles: list[str], truths: torch.Tensor | None = None
) -> Image.Image:
    """A row for each view: the original, then for each instruction the edit, with its truth in the row below.

    Args:
        originals: (views, 3, h, w) float, sRGB in [0, 1].
        edits: (instructions, views, 3, h, w), the same.
        titles: The instructions' names, over their columns.
        truths: As `edits`; None: no truths are shown.
    """
    views, _, height, width = originals.shape
    rows = 2 if truths is not None else 1
    sheet = Image.new("RGB", (width * (1 + len(titles)), 14 + height * rows * views), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(["original", *titles]):
        pen.text((column * width + 2, 1), title[: width // 6], fill="black")
    for view in range(views):
        top = 14 + view * rows * height
        sheet.paste(_picture(originals[view]), (0, top))
        for column in range(len(titles)):
            sheet.paste(_picture(edits[column, view]), ((column + 1) * width, top))
            if truths is not None:
                sheet.paste(_picture(truths[column, view]), ((column + 1) * width, top + height))
    return sheet


def _picture(image: torch.Tensor) -> Image.Image:
    return Image.fromarray((image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
