"""The testbed's results for people: tables, pictures and sheets of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...models.model import Instruction
from ...scene.reporting import Reporter
from ...workspace.imported import load_capture
from ...workspace.layout import Workspace
from ..output.sheets import contact_sheet
from ..photos import load_images, opaque
from ..pictures import read_srgb
from .cases import Case
from .results import Row, markdown_table, mean_over_seeds, mean_rows, seeds_of

SHEET_CELL = 160
SHEET_VIEWS = 6


def picture(out: Path, case: Case, view: str) -> Path:
    """Where a held-out view of a case is kept.

    Args:
        out: the testbed's folder.
        case: what it shows.
        view: the view's name.

    Returns:
        The file, there or not.
    """
    return out / "pictures" / case.scene / case.edit_name / f"{Path(view).stem}.png"


def truth_picture(out: Path, scene: str, instruction: Instruction, view: str) -> Path:
    """Where the truth of a held-out view is kept.

    Args:
        out: the testbed's folder.
        scene: the scene's name.
        instruction: whose truth it is.
        view: the view's name.

    Returns:
        The file, there or not.
    """
    return out / "pictures" / scene / f"{instruction.name} truth".replace(" ", "-") / f"{Path(view).stem}.png"


def write_tables(rows: list[Row], out: Path) -> None:
    """Write out/table.md: each method's mean, where there are several seeds the means over these, and all rows.

    Each in two tables where there are details.

    Args:
        rows: what was measured.
        out: the testbed's folder.
    """
    parts = [mean_rows(rows), *([mean_over_seeds(rows)] if len(seeds_of(rows)) > 1 else []), rows]
    texts = [markdown_table(part, details) for part in parts for details in (False, True)]
    (out / "table.md").write_text("\n\n".join(filter(None, texts)) + "\n", encoding="utf-8")


def write_sheet(scene: str, cases: list[Case], out: Path, report: Reporter) -> None:
    """One held-out view: photo, truth and every method's, a row for each instruction; out/<scene>.png.

    Args:
        scene: its name.
        cases: of the scene.
        out: the testbed's folder, with their pictures.
        report: told of the sheet.
    """
    workspace = Workspace(out / "workspaces" / scene)
    capture = load_capture(workspace)
    view = capture.held_out_views[0]
    photo = load_images(workspace, capture, [view])[0]
    rows = []
    for instruction in dict.fromkeys(case.instruction for case in cases):
        edits = [case for case in cases if case.instruction == instruction]
        truth = read_srgb(truth_picture(out, scene, instruction, view.name))
        label = f"{instruction.text}: photo, truth, {', '.join(case.method for case in edits)}"
        rows.append((label, [photo, truth, *(read_srgb(picture(out, case, view.name)) for case in edits)]))
    path = out / f"{scene}.png"
    contact_sheet(rows, SHEET_CELL).save(path)
    report.artifact("image", path)


def write_agreement_sheet(
    scene: str, cases: list[Case], out: Path, report: Reporter, truth: Path | None = None, edits: Sequence[str] = ()
) -> None:
    """Some held-out views beside each other, a row for each method: whether they agree; out/<scene>-<editor>.png.

    Args:
        scene: its name.
        cases: of the scene, with one instruction.
        out: the testbed's folder, with their pictures.
        report: told of the sheet.
        truth: the folder of the right answers' pictures, where they are pictures.
        edits: those that are right answers; each has a row, too.
    """
    workspace = Workspace(out / "workspaces" / scene)
    capture = load_capture(workspace)
    held_out = capture.held_out_views
    shown = min(SHEET_VIEWS, len(held_out))
    views = [held_out[i * len(held_out) // shown] for i in range(shown)]
    rows = [("photo", [opaque(photo) for photo in load_images(workspace, capture, views)])]
    for edit in edits:
        rows.append((f"answer: {edit}", [read_srgb(truth / edit / f"{Path(view.name).stem}.png") for view in views]))
    rows += [(case.method, [read_srgb(picture(out, case, view.name)) for view in views]) for case in cases]
    path = out / f"{scene}-{cases[0].instruction.name}.png".replace(" ", "-")
    contact_sheet(rows, SHEET_CELL).save(path)
    report.artifact("image", path)
