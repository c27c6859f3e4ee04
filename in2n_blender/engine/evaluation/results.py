"""What was measured, as rows: one for a method, a scene and an instruction.

As tables for people and as JSON for programs.
"""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...models.exact import is_exact
from ...workspace.files import write_json

RESULT_FILE = "result.json"
ALL = "all"


@dataclass(frozen=True)
class Row:
    """One edit's quality and cost. None: not measured.

    Attributes:
        method, scene, instruction: what was measured.
        psnr_db: in dB, against the truth on held-out views, as ssim (in [-1, 1]) and lpips (from 0 upwards).
        consistency: of neighbouring frames, warped by depth, in dB (`metrics.sequence_consistency`).
        clip_direction, clip_consistency: cosines, and clip_consistency_printed, a scalar product (`clip_metrics`).
        unet_evaluations, nerf_steps: of the edit alone, without the reconstruction, as all that follow.
        seconds, cpu_seconds: by the clock, and of all processor cores together.
        peak_memory_mb: of the process, or of the GPU where it ran on one.
        seed: of the edit; None in a mean over several.
        seeds: how many a mean is over, where these are several.
        own_mode_psnr_db, one_mode_share: in dB and in [0, 1], with an exact editor (`answers.AnswerScores`); psnr_db,
            ssim and lpips are then those of the one answer that the whole scene is nearest to.
        psnr_edited_db, psnr_kept_db, ssim_edited, ssim_kept, lpips_edited, lpips_kept: against the truth, where it
            differs from the unedited photo and where it does not (`metrics.edit_region`).
        depth_error, depth_within, depth_error_moved, chamfer_percent: against Blender's own geometry
            (`geometry.Geometry`).
        psnr_spread_db: in a mean over several seeds, the standard deviation between their mean PSNRs.
    """

    method: str
    scene: str
    instruction: str
    psnr_db: float | None
    ssim: float | None
    lpips: float | None
    consistency: float | None
    clip_direction: float | None
    clip_consistency: float | None
    clip_consistency_printed: float | None
    unet_evaluations: int
    nerf_steps: int
    seconds: float
    cpu_seconds: float | None = None
    peak_memory_mb: float | None = None
    seed: int | None = None
    own_mode_psnr_db: float | None = None
    one_mode_share: float | None = None
    psnr_spread_db: float | None = None
    psnr_edited_db: float | None = None
    psnr_kept_db: float | None = None
    ssim_edited: float | None = None
    ssim_kept: float | None = None
    lpips_edited: float | None = None
    lpips_kept: float | None = None
    depth_error: float | None = None
    depth_within: float | None = None
    depth_error_moved: float | None = None
    chamfer_percent: float | None = None
    seeds: int | None = None


@dataclass(frozen=True)
class Column:
    """How a table shows one of a row's numbers."""

    title: str
    form: Callable[[object], str] = str


def _fixed(digits: int) -> Callable[[float], str]:
    return lambda value: f"{value:.{digits}f}"


COLUMNS = {
    "method": Column("method"),
    "scene": Column("scene"),
    "instruction": Column("instruction"),
    "seed": Column("seed"),
    "seeds": Column("seeds"),
    "psnr_db": Column("PSNR (dB)", _fixed(2)),
    "psnr_spread_db": Column("spread (dB)", _fixed(2)),
    "own_mode_psnr_db": Column("own mode (dB)", _fixed(2)),
    "one_mode_share": Column("one mode", lambda share: f"{share:.1%}"),
    "ssim": Column("SSIM", _fixed(3)),
    "lpips": Column("LPIPS", _fixed(3)),
    "psnr_edited_db": Column("PSNR edited (dB)", _fixed(2)),
    "psnr_kept_db": Column("PSNR kept (dB)", _fixed(2)),
    "ssim_edited": Column("SSIM edited", _fixed(3)),
    "ssim_kept": Column("SSIM kept", _fixed(3)),
    "lpips_edited": Column("LPIPS edited", _fixed(3)),
    "lpips_kept": Column("LPIPS kept", _fixed(3)),
    "depth_error": Column("depth AbsRel", _fixed(3)),
    "depth_within": Column("depth d < 1.25", lambda share: f"{share:.1%}"),
    "depth_error_moved": Column("AbsRel moved", _fixed(3)),
    "chamfer_percent": Column("Chamfer (%)", _fixed(2)),
    "consistency": Column("consistency (dB)", _fixed(2)),
    "clip_direction": Column("CLIP direction", _fixed(4)),
    "clip_consistency": Column("CLIP consistency", _fixed(4)),
    "clip_consistency_printed": Column("CLIP consistency (printed)", _fixed(4)),
    "unet_evaluations": Column("UNet evaluations"),
    "nerf_steps": Column("NeRF steps"),
    "seconds": Column("seconds", _fixed(1)),
    "cpu_seconds": Column("CPU seconds", _fixed(1)),
    "peak_memory_mb": Column("peak memory (MB)", _fixed(0)),
}
TEXT_COLUMNS = ("method", "scene", "instruction")
# In a table of their own, since one of all columns is too wide to be read.
DETAILS = tuple(name for name in COLUMNS if re.search("_edited|_kept|depth_|chamfer_", name))


def table(rows: Sequence[Row], details: bool = False) -> str:
    """Aligned text for a terminal, numbers to the right.

    Args:
        rows: in their order; columns that no row has a value for are left out.
        details: show the edit region, the rest of the views and the geometry, in place of all else.

    Returns:
        Lines of titles, of dashes, and one for each row; "" without any details.
    """
    names, cells = _cells(rows, details)
    if not names:
        return ""
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    aligned = [
        [
            text.ljust(width) if name in TEXT_COLUMNS else text.rjust(width)
            for name, text, width in zip(names, line, widths)
        ]
        for line in cells
    ]
    aligned.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(line).rstrip() for line in aligned)


def tables(rows: Sequence[Row]) -> list[str]:
    """`table`, and that of the details where there are some.

    Args:
        rows: as for `table`.

    Returns:
        One or two tables.
    """
    return [text for text in (table(rows), table(rows, details=True)) if text]


def markdown_table(rows: Sequence[Row], details: bool = False) -> str:
    """The same table as GitHub's Markdown.

    Args:
        rows: as for `table`.
        details: as for `table`.

    Returns:
        Lines of titles, of alignments, and one for each row; "" without any details.
    """
    names, cells = _cells(rows, details)
    if not names:
        return ""
    cells.insert(1, ["---" if name in TEXT_COLUMNS else "--:" for name in names])
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in cells)


def write_results(rows: Sequence[Row], out: Path | str, bars: Sequence | None = None) -> Path:
    """Write {"rows": [...]} to out/result.json, atomically.

    Args:
        rows: all that the file is to hold.
        bars: `bars.Bar`s, for "bars" in it; None: it has none.
        out: the folder; made where it is missing.

    Returns:
        The file.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    path = Path(out) / RESULT_FILE
    held = {} if bars is None else {"bars": [dataclasses.asdict(bar) for bar in bars]}
    write_json(path, {"rows": [dataclasses.asdict(row) for row in rows], **held})
    return path


def mean_rows(rows: Sequence[Row]) -> list[Row]:
    """One row a method: the mean over its scenes, instructions and seeds; with exact editors one for each of these.

    Args:
        rows: of one or more methods.

    Returns:
        Rows in the order of the methods' first ones. A mean is over the rows that have a value; None where none has.
    """
    return _means(rows, lambda row: (row.method, ALL, row.instruction if is_exact(row.instruction) else ALL))


def mean_over_seeds(rows: Sequence[Row]) -> list[Row]:
    """One row a method, scene and instruction.

    Args:
        rows: of one or more seeds.

    Returns:
        Rows in the order of the first ones of each, as `mean_rows`.
    """
    return _means(rows, lambda row: (row.method, row.scene, row.instruction))


def seeds_of(rows: Sequence[Row]) -> list[int]:
    """The seeds that rows are of, each once."""
    return list(dict.fromkeys(row.seed for row in rows if row.seed is not None))


def _means(rows: Sequence[Row], key: Callable[[Row], tuple[str, str, str]]) -> list[Row]:
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return [_mean_row(names, group) for names, group in groups.items()]


def _mean_row(names: tuple[str, str, str], rows: list[Row]) -> Row:
    values = {name: _mean(rows, name) for name in COLUMNS if name not in (*TEXT_COLUMNS, "seed", "seeds")}
    for name in ("unet_evaluations", "nerf_steps"):
        values[name] = values[name] if values[name] is None else round(values[name])
    seeds = seeds_of(rows)
    by_seed = [_mean([row for row in rows if row.seed == seed], "psnr_db") for seed in seeds]
    spread = statistics.stdev(by_seed) if len(seeds) > 1 and None not in by_seed else None
    several = len(seeds) if len(seeds) > 1 else None
    return Row(*names, **{**values, "seeds": several, "psnr_spread_db": spread})


def _mean(rows: list[Row], name: str) -> float | None:
    values = [value for row in rows if (value := getattr(row, name)) is not None]
    return sum(values) / len(values) if values else None


def _cells(rows: Sequence[Row], details: bool) -> tuple[list[str], list[list[str]]]:
    """The names of the columns to show, and the lines of text, titles first; of no columns without any details."""
    known = [name for name in COLUMNS if any(getattr(row, name) not in (None, "") for row in rows)]
    if details and not set(known) & set(DETAILS):
        return [], []
    of_row = (*TEXT_COLUMNS, "seed", "seeds")
    names = [name for name in known if name in of_row or (name in DETAILS) == details] or list(TEXT_COLUMNS)
    if len(seeds_of(rows)) < 2:
        names = [name for name in names if name != "seed"]

    def shown(name: str, value) -> str:
        return "" if value is None else COLUMNS[name].form(value)

    return names, [
        [COLUMNS[name].title for name in names],
        *([shown(name, getattr(row, name)) for name in names] for row in rows),
    ]
