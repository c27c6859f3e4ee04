"""The one exception for everything a user can cause."""

import sys

COMMAND = "python3 -m in2n_blender"  # as sentences here have it
WINDOWS_COMMAND = "python -m in2n_blender"  # where python3 is at best a link to a shop


def as_typed(text: str, platform: str = sys.platform) -> str:
    """A text whose commands can be typed as they stand on a system.

    Args:
        text: With `python3 -m in2n_blender` in it, or without.
        platform: As `sys.platform` has it.
    """
    return text.replace(COMMAND, WINDOWS_COMMAND) if platform == "win32" else text


class In2nError(Exception):
    """A mistake the user can mend: a code for programs, one plain sentence, one hint of what to do.

    Anything that is not an In2nError is a bug and keeps its traceback.
    """

    def __init__(self, code: str, message: str, hint: str):
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = as_typed(hint)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}"


def what_is_wrong(error: Exception) -> str:
    """Why data of a stranger could not be taken, as a part of a sentence.

    Args:
        error: What taking it raised; a KeyError is of what it lacks.
    """
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


class Cancelled(Exception):
    """A job was asked to stop and stopped between two steps; what it saved stays valid."""
