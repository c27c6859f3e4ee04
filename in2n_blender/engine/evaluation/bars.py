"""What agreement is held to: rows of exact editors beside the bars that a method for everyone has to reach.

The single edit of an exact editor is worth 31.2 dB at a spread of 0.12 and 23.5 dB at 0.25. A method that makes views
agree averages their blotches away, and is above that; one that does not is far below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...models.exact import ExactSettings, is_exact
from .results import Row, mean_over_seeds

JUDGED, PUBLISHED = "agreement", "faithful"
ABLATIONS = ("one-time", "per-frame", "score-distillation")
# Up to which spread which PSNR to the scene's one answer, in dB.
PSNR_BARS = ((0.12, 32.0), (0.25, 28.0))
ONE_MODE_SHARE = 0.98
EVALUATIONS = 700  # for 40 views
SHARE_OF_PUBLISHED = 0.1


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
    """Hold the rows of exact editors to the bars.

    Args:
        rows: any; PSNRs are held as means over the seeds, shares and evaluations in the worst run.

    Returns:
        One for each number that was measured, scene by scene and editor by editor; none for other editors, and none for
        a method that is missing.
    """
    rows = [row for row in rows if is_exact(row.instruction)]
    found = []
    for scene, editor in dict.fromkeys((row.scene, row.instruction) for row in rows):
        here = [row for row in rows if (row.scene, row.instruction) == (scene, editor)]
        means = {row.method: row for row in mean_over_seeds(here)}
        for name, value, bar, holds in [*_of_judged(here, means, editor), *_papers_order(means)]:
            found.append(Bar(f"{name}, {scene}, {editor}", value, bar, holds))
    return found


def _of_judged(rows: list[Row], means: dict[str, Row], editor: str):
    """(name, value, bar, holds) of the method that is judged."""
    runs = [row for row in rows if row.method == JUDGED]
    if not runs:
        return
    spread, mean = ExactSettings.from_name(editor).spread, means[JUDGED]
    bar = next((bar for up_to, bar in PSNR_BARS if spread <= up_to), None)
    if bar is not None:
        yield f"PSNR of {JUDGED} (dB) at least", mean.psnr_db, bar, mean.psnr_db >= bar
    shares = [row.one_mode_share for row in runs if row.one_mode_share is not None]
    if shares:
        yield f"pixels of {JUDGED} in one mode at least", min(shares), ONE_MODE_SHARE, min(shares) >= ONE_MODE_SHARE
    most = max(row.unet_evaluations for row in runs)
    yield f"evaluations of {JUDGED} at most", most, EVALUATIONS, most <= EVALUATIONS
    if PUBLISHED in means:
        bar = means[PUBLISHED].unet_evaluations * SHARE_OF_PUBLISHED
        yield f"evaluations of {JUDGED} at most a tenth of {PUBLISHED}'s", most, bar, most <= bar


def _papers_order(means: dict[str, Row]):
    """(name, value, bar, holds): the published method above what its paper measures it against."""
    for other in ABLATIONS if PUBLISHED in means else ():
        if other in means:
            value, bar = means[PUBLISHED].psnr_db, means[other].psnr_db
            yield f"PSNR of {PUBLISHED} (dB) above {other}'s", value, bar, value > bar
