"""The one exception for everything a user can cause."""


class In2nError(Exception):
    """A mistake the user can mend: a code for programs, one plain sentence, one hint of what to do.

    Anything that is not an In2nError is a bug and keeps its traceback.
    """

    def __init__(self, code: str, message: str, hint: str):
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

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
