"""What agreement is held to: rows of the testbed beside the bars that a method for everyone has to reach.

The single edit of an exact editor is worth 31.2 dB at a spread of 0.12 and 23.5 dB at 0.25. A method that makes views
agree averages their blotches away, and is above that; one that does not is far below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...models.exact import SHAPES, TINTS, ExactSettings, is_exact
from .results import ALL, Row, mean_over_seeds, mean_rows

JUDGED, PUBLISHED, UNEDITED = "agreement", "faithful", "unedited"
ABLATIONS = ("one-time", "per-frame", "score-distillation")
# What it is better than where an edit changes shapes.
SHAPE_RIVALS = (PUBLISHED, "one-time", "per-frame")
# Up to which spread of tints which PSNR to the scene's one answer, in dB.
PSNR_BARS = ((0.12, 32.0), (0.25, 28.0))
ONE_MODE_SHARE = 0.98
EVALUATIONS = 700  # for 40 views
# By how much another method may be ahead on one scene and instruction of a learned editor, in dB.
BEHIND_ONCE = 0.3


@dataclass(frozen=True)
class Bar:
    """A number and what it is held to.

    Attributes:
        name: what is measured, on which scene, with which editor.
        value: what it came to.
        bar: what it is held to.
        holds: whether it is reached.
    """

    name: str
    value: float
    bar: float
    holds: bool


def find_bars(rows: Sequence[Row]) -> list[Bar]:
    """Hold rows to the bars.

    Args:
        rows: any; PSNRs are held as means over the seeds, shares and evaluations in the worst run.

    Returns:
        One for each number that was measured, of exact editors scene by scene and editor by editor, of a learned one
        over all; none for a method that is missing.
    """
    learned = [row for row in rows if not is_exact(row.instruction) and row.scene != ALL]
    rows, found = [row for row in rows if is_exact(row.instruction)], []
    for scene, editor in dict.fromkeys((row.scene, row.instruction) for row in rows):
        here = [row for row in rows if (row.scene, row.instruction) == (scene, editor)]
        means = {row.method: row for row in mean_over_seeds(here)}
        for name, value, bar, holds in [
            *_of_judged(here, means, editor),
            *_of_shapes(means, editor),
            *_papers_order(means),
        ]:
            found.append(Bar(f"{name}, {scene}, {editor}", value, bar, holds))
    return found + [Bar(*measured) for measured in _of_learned(learned)]


def _of_judged(rows: list[Row], means: dict[str, Row], editor: str):
    """(name, value, bar, holds) of the method that is judged."""
    runs = [row for row in rows if row.method == JUDGED]
    if not runs:
        return
    settings, mean = ExactSettings.from_name(editor), means[JUDGED]
    bar = next((bar for up_to, bar in PSNR_BARS if settings.spread <= up_to), None)
    if bar is not None and settings.family == TINTS:
        yield f"PSNR of {JUDGED} (dB) at least", mean.psnr_db, bar, mean.psnr_db >= bar
    shares = [row.one_mode_share for row in runs if row.one_mode_share is not None]
    if shares:
        yield f"pixels of {JUDGED} in one mode at least", min(shares), ONE_MODE_SHARE, min(shares) >= ONE_MODE_SHARE
    most = max(row.unet_evaluations for row in runs)
    yield f"evaluations of {JUDGED} at most", most, EVALUATIONS, most <= EVALUATIONS


def _of_shapes(means: dict[str, Row], editor: str):
    """(name, value, bar, holds) of the method that is judged, where an edit changes shapes."""
    if ExactSettings.from_name(editor).family != SHAPES or JUDGED not in means:
        return
    value = means[JUDGED].psnr_edited_db
    for other in SHAPE_RIVALS:
        bar = means[other].psnr_edited_db if other in means else None
        if None not in (value, bar):
            yield f"PSNR of {JUDGED} in the edit region (dB) above {other}'s", value, bar, value > bar


def _of_learned(rows: list[Row]):
    """(name, value, bar, holds) of the method that is judged, with a learned editor: against the best other one."""
    means = {row.method: row for row in mean_rows(rows)}
    judged, others = means.pop(JUDGED, None), {name: row for name, row in means.items() if name != UNEDITED}
    if judged is None or not others:
        return
    for name, title in (("psnr_db", "mean PSNR of {} (dB)"), ("ssim", "mean SSIM of {}")):
        value, bars = getattr(judged, name), [getattr(row, name) for row in others.values()]
        if None not in (value, *bars):
            yield f"{title.format(JUDGED)} at least the best other's", value, max(bars), value >= max(bars)
    gaps = [gap for gap in map(_ahead, _by_edit(rows)) if gap is not None]
    if gaps:
        name = f"PSNR of {JUDGED} above the best other's, where it is least (dB), at least"
        yield name, min(gaps), -BEHIND_ONCE, min(gaps) >= -BEHIND_ONCE
    still = means[UNEDITED].psnr_db if UNEDITED in means else None
    reach = [row.consistency for row in others.values() if still is None or (row.psnr_db or still) > still]
    bars = [value for value in reach if value is not None]
    if bars and judged.consistency is not None:
        name = f"consistency of {JUDGED} (dB) at least the best of those that reach the edit"
        yield name, judged.consistency, max(bars), judged.consistency >= max(bars)


def _by_edit(rows: list[Row]) -> list[dict[str, Row]]:
    """The rows of each scene and instruction by their methods, as means over seeds."""
    groups: dict[tuple[str, str], dict[str, Row]] = {}
    for row in mean_over_seeds(rows):
        groups.setdefault((row.scene, row.instruction), {})[row.method] = row
    return list(groups.values())


def _ahead(edit: dict[str, Row]) -> float | None:
    """By how many dB the judged method is ahead of the best other one."""
    bars = [row.psnr_db for name, row in edit.items() if name not in (JUDGED, UNEDITED) and row.psnr_db is not None]
    judged = edit[JUDGED].psnr_db if JUDGED in edit else None
    return judged - max(bars) if bars and judged is not None else None


def _papers_order(means: dict[str, Row]):
    """(name, value, bar, holds): the published method above what its paper measures it against."""
    for other in ABLATIONS if PUBLISHED in means else ():
        if other in means:
            value, bar = means[PUBLISHED].psnr_db, means[other].psnr_db
            yield f"PSNR of {PUBLISHED} (dB) above {other}'s", value, bar, value > bar
