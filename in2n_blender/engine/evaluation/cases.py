"""What the testbed measures: scenes, instructions with a right answer, and methods."""

from __future__ import annotations

from dataclasses import dataclass

from ...link.requests import Testbed
from ...models.catalogue import MINIATURE, Instruction
from ...scene.errors import In2nError
from ..editing.baselines import METHODS
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
    """One row to be: a method on a scene with an instruction."""

    method: str
    scene: str
    instruction: Instruction

    def row_of(self, rows: list[Row]) -> Row | None:
        """This case's row, if it was measured already.

        Args:
            rows: those that there are.

        Returns:
            The first of the same method, scene and instruction; None where there is none.
        """
        key = (self.method, self.scene, self.instruction.text)
        return next((row for row in rows if (row.method, row.scene, row.instruction) == key), None)

    @property
    def edit_name(self) -> str:
        """Of the edit in the scene's workspace."""
        return f"{self.instruction.name} {self.method}".replace(" ", "-")


def choose_cases(request: Testbed) -> list[Case]:
    """The rows that a run is to hold, scene by scene.

    Args:
        request: its methods, scenes (all where it names none) and instructions.

    Returns:
        Scene by scene, and in each instruction by instruction.

    Raises:
        In2nError: "unknown_method", "unknown_scene", "unknown_instruction".
    """
    methods, scenes = request.methods or list(METHODS), request.scenes or list(SCENES)
    for given, known, what in ((methods, METHODS, "method"), (scenes, SCENES, "scene")):
        for name in given:
            if name not in known:
                raise In2nError(
                    f"unknown_{what}", f"There is no {what} “{name}”.", f"Choose one of: {', '.join(known)}."
                )
    instructions = [_instruction(text) for text in request.instructions]
    return [Case(method, scene, instruction) for scene in scenes for instruction in instructions for method in methods]


def _instruction(text: str) -> Instruction:
    """Only edits with a right answer are measured here. Raises In2nError("unknown_instruction")."""
    return MINIATURE.find_instruction(text)[0]
