"""The exact editor's name: an instrument to measure methods with, which draws one of a known set of right answers.

    settings = ExactSettings.from_name("exact:K=8,s=0.25")       # or "exact", or "exact:K=2,pi=3/1"
    settings.name, settings.answers, settings.spread, settings.weights

Standard library only. `engine/diffusion/exact.py` is the editor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..scene.errors import In2nError

FAMILY = "exact"
MOST_ANSWERS = 8
SPREADS = (1e-4, 1.0)


@dataclass(frozen=True)
class ExactSettings:
    """What an exact editor draws from: p(z | view) = sum_k pi_k N(E(T_k), s^2 I).

    Attributes:
        answers: K, how many right answers a view has; 1 makes an editor that never disagrees with itself.
        spread: s, in latents that go from -1 to 1.
        weights: (K,) how often each is drawn, pi, as given; () draws all alike.
    """

    answers: int = 4
    spread: float = 0.12
    weights: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """By which the same editor is found again."""
        weights = f",pi={'/'.join(f'{weight:g}' for weight in self.weights)}" if self.weights else ""
        return f"{FAMILY}:K={self.answers},s={self.spread:g}{weights}"

    @property
    def shares(self) -> tuple[float, ...]:
        """(K,) the weights, of sum 1."""
        weights = self.weights or (1.0,) * self.answers
        return tuple(weight / math.fsum(weights) for weight in weights)

    @staticmethod
    def from_name(name: str) -> ExactSettings:
        """Read "exact" or "exact:K=8,s=0.25,pi=2/1/1/1/1/1/1/1", each of the three optional, in any order.

        Raises:
            In2nError: "unknown_editor" where a part is not of this form or out of its range.
        """
        family, _, text = name.partition(":")
        given: dict[str, str] = {}
        for part in text.split(",") if text else ():
            key, equals, value = part.partition("=")
            if not equals or key.strip() in given:
                raise _unknown(name, f"“{part}” is not one setting")
            given[key.strip()] = value.strip()
        if family != FAMILY or set(given) - {"K", "s", "pi"} or (":" in name and not text):
            raise _unknown(name, "its settings are K, s and pi")
        default = ExactSettings()
        answers = _number(name, given.get("K", str(default.answers)))
        spread = _number(name, given.get("s", str(default.spread)))
        weights = tuple(_number(name, weight) for weight in given["pi"].split("/")) if "pi" in given else ()
        if answers not in range(1, MOST_ANSWERS + 1):
            raise _unknown(name, f"K is a whole number from 1 to {MOST_ANSWERS}")
        if not SPREADS[0] <= spread <= SPREADS[1]:
            raise _unknown(name, f"s lies between {SPREADS[0]:g} and {SPREADS[1]:g}")
        if weights and (len(weights) != answers or min(weights) <= 0):
            raise _unknown(name, f"pi has {int(answers)} weights above 0")
        return ExactSettings(int(answers), spread, weights)


def is_exact(name: str) -> bool:
    """Whether a name means an exact editor, rightly written or not."""
    return name.partition(":")[0] == FAMILY


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
