"""The exact editor's name: an instrument to measure methods with, which draws one of a known set of right answers.

    settings = ExactSettings.from_name("exact:K=8,s=0.25")       # or "exact", or "exact:K=2,pi=3/1"
    settings.name, settings.answers, settings.spread, settings.weights

Its answers are tints of a photo, which it computes, or with "exact:answers=rendered" and "exact:answers=shapes"
pictures that Blender rendered of the edited scene, from a folder that the testbed names.

Standard library only. `engine/diffusion/exact.py` is the editor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from ..scene.errors import In2nError

FAMILY = "exact"
MOST_ANSWERS = 8
TINTS, RENDERED, SHAPES = "tints", "rendered", "shapes"
# The edits that Blender renders as answers: of another light and under snow, and of another shape.
PICTURES = {
    RENDERED: ("snow", "sunset", "night", "winter-night"),
    SHAPES: ("snowdrifts", "dunes", "heather"),
}
FOLDER = "from="
SPREADS = (1e-4, 1.0)


@dataclass(frozen=True)
class ExactSettings:
    """What an exact editor draws from: p(z | view) = sum_k pi_k N(E(T_k), s^2 I).

    Attributes:
        answers: K, how many right answers a view has; 1 makes an editor that never disagrees with itself.
        spread: s, in latents that go from -1 to 1.
        weights: (K,) how often each is drawn, pi, as given; () draws all alike.
        family: What the answers are: TINTS, RENDERED or SHAPES.
        folder: Of a scene's photos and rendered answers, which tints have no use for; "": none was named yet.
    """

    answers: int = 4
    spread: float = 0.12
    weights: tuple[float, ...] = ()
    family: str = TINTS
    folder: str = ""

    @property
    def name(self) -> str:
        """By which the same editor is found again."""
        family = f"answers={self.family}," if self.family != TINTS else ""
        weights = f",pi={'/'.join(f'{weight:g}' for weight in self.weights)}" if self.weights else ""
        folder = f",{FOLDER}{self.folder}" if self.folder else ""
        return f"{FAMILY}:{family}K={self.answers},s={self.spread:g}{weights}{folder}"

    @property
    def pictures(self) -> tuple[str, ...]:
        """The edits whose pictures are its answers, in their order; () for tints."""
        return PICTURES.get(self.family, ())[: self.answers]

    def within(self, folder: Path | str) -> ExactSettings:
        """The same editor with the pictures of a scene.

        Args:
            folder: Of the scene; tints have no use for it.

        Returns:
            Settings whose name holds the whole path; the same ones for tints.
        """
        return replace(self, folder=str(Path(folder).resolve())) if self.pictures else self

    @property
    def shares(self) -> tuple[float, ...]:
        """(K,) the weights, of sum 1."""
        weights = self.weights or (1.0,) * self.answers
        return tuple(weight / math.fsum(weights) for weight in weights)

    @staticmethod
    def from_name(name: str) -> ExactSettings:
        """Read "exact" or "exact:K=8,s=0.25,pi=2/1/1/1/1/1/1/1", each of the three optional, in any order.

        So is answers=rendered or answers=shapes; with these, a folder may stand at the end: from=PATH.

        Raises:
            In2nError: "unknown_editor" where a part is not of this form or out of its range.
        """
        kind, _, text = name.partition(":")
        given, folder = _parts(name, text)
        if kind != FAMILY or set(given) - {"answers", "K", "s", "pi"} or (":" in name and not text):
            raise _unknown(name, "its settings are answers, K, s and pi")
        family = given.get("answers", TINTS)
        if family not in (TINTS, *PICTURES):
            raise _unknown(name, f"its answers are {TINTS}, {' or '.join(PICTURES)}")
        default, most = ExactSettings(), len(PICTURES.get(family, ())) or MOST_ANSWERS
        answers = _number(name, given.get("K", str(min(default.answers, most))))
        spread = _number(name, given.get("s", str(default.spread)))
        weights = tuple(_number(name, weight) for weight in given["pi"].split("/")) if "pi" in given else ()
        if answers not in range(1, most + 1):
            raise _unknown(name, f"K is a whole number from 1 to {most}")
        if not SPREADS[0] <= spread <= SPREADS[1]:
            raise _unknown(name, f"s lies between {SPREADS[0]:g} and {SPREADS[1]:g}")
        if weights and (len(weights) != answers or min(weights) <= 0):
            raise _unknown(name, f"pi has {int(answers)} weights above 0")
        if folder and family == TINTS:
            raise _unknown(name, "tints come from no folder")
        return ExactSettings(int(answers), spread, weights, family, folder)


def is_exact(name: str) -> bool:
    """Whether a name means an exact editor, rightly written or not."""
    return name.partition(":")[0] == FAMILY


def _parts(name: str, text: str) -> tuple[dict[str, str], str]:
    """The settings by their keys, and the folder, which is all that follows "from=": a path may hold a comma."""
    settings, starts, folder = text.partition(FOLDER) if text.startswith(FOLDER) else text.partition(f",{FOLDER}")
    if starts and not folder:
        raise _unknown(name, "its folder has no name")
    given: dict[str, str] = {}
    for part in settings.split(",") if settings else ():
        key, equals, value = part.partition("=")
        if not equals or key.strip() in given:
            raise _unknown(name, f"“{part}” is not one setting")
        given[key.strip()] = value.strip()
    return given, folder


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _unknown(name, f"“{text}” is not a number")
    return number


def _unknown(name: str, why: str) -> In2nError:
    return In2nError(
        "unknown_editor",
        f"There is no exact editor “{name[:80]}”: {why}.",
        f"Write it as “{FAMILY}” or as “{FAMILY}:K=8,s=0.25”.",
    )
