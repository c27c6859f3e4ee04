"""What the testbed measures: scenes, instructions with a right answer, and methods."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ...link.requests import Testbed
from ...models.catalogue import MINIATURE
from ...models.exact import ExactSettings, is_exact
from ...models.model import Instruction
from ...scene.errors import In2nError
from ..editing.baselines import METHODS
from .answers import CEILING, OWN_MODE
from .results import Row

# What the scenes show, for CLIP.
SCENES = {
    "island": "a photo of a house on a small island",
    "courtyard": "a photo of a table in a courtyard",
    "street": "a photo of a street with houses",
}
# "... the same scene after the edit": what an instruction's caption adds to the scene's.
EDITED = {
    "snow": "covered with snow",
    "sunset": "at sunset",
    "night": "at night",
    "gold": "made of gold",
    "autumn": "in autumn",
    "pencil sketch": "as a pencil sketch",
    "black and white": "in black and white",
    "red tint": "tinted red",
    "blue tint": "tinted blue",
    "old photograph": "as an old photograph",
}


@dataclass(frozen=True)
class Case:
    """One row to be: a method on a scene with an instruction.

    Attributes:
        method: one of METHODS, or with an exact editor also `answers.CEILING` or `answers.OWN_MODE`.
        scene: one of SCENES.
        instruction: of an exact editor, which needs none, the editor itself.
        seed: of the edit.
        repeated: whether another seed of the same comes before it.
    """

    method: str
    scene: str
    instruction: Instruction
    seed: int = 0
    repeated: bool = False

    def row_of(self, rows: list[Row]) -> Row | None:
        """This case's row, if it was measured already.

        Args:
            rows: those that there are.

        Returns:
            The first of the same method, scene, instruction and seed; None where there is none.
        """
        key = (self.method, self.scene, self.instruction.text, self.seed)
        return next((row for row in rows if (row.method, row.scene, row.instruction, row.seed) == key), None)

    @property
    def edit_name(self) -> str:
        """Of the edit in the scene's workspace."""
        seed = f" seed {self.seed}" if self.repeated else ""
        return f"{self.instruction.name} {self.method}{seed}".replace(" ", "-")


def choose_cases(request: Testbed) -> list[Case]:
    """The rows that a run is to hold, scene by scene.

    Args:
        request: its methods, scenes (all where it names none), instructions and seeds.

    Returns:
        Scene by scene, in each instruction by instruction, and seed by seed.

    Raises:
        In2nError: "unknown_method", "unknown_scene", "unknown_instruction", "unknown_editor".
    """
    known_methods = (*METHODS, CEILING, OWN_MODE) if is_exact(request.editor) else tuple(METHODS)
    methods, scenes = request.methods or known_methods, request.scenes or list(SCENES)
    for given, known, what in ((methods, known_methods, "method"), (scenes, SCENES, "scene")):
        for name in given:
            if name not in known:
                raise In2nError(
                    f"unknown_{what}", f"There is no {what} “{name}”.", f"Choose one of: {', '.join(known)}."
                )
    return [
        Case(method, scene, instruction, request.seed + number, number > 0)
        for scene in scenes
        for instruction in _instructions(request)
        for number in range(request.seeds)
        for method in methods
    ]


def _instructions(request: Testbed) -> list[Instruction]:
    """Only edits with a right answer are measured here. Raises In2nError("unknown_instruction", "unknown_editor")."""
    if is_exact(request.editor):
        settings = replace(ExactSettings.from_name(request.editor), folder="")  # each scene's own
        return [Instruction(re.sub("[^A-Za-z0-9.]+", " ", settings.name), (settings.name,))]
    return [MINIATURE.find_instruction(text)[0] for text in request.instructions]
