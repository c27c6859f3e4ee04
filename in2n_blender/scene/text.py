"""The text of a file that may be a stranger's."""

from __future__ import annotations

import errno
from pathlib import Path


def text_of(path: Path | str) -> str:
    """The UTF-8 text of a file; of a pipe or a device, which would be waited for, there is none.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read, or is no file.
        UnicodeDecodeError: It is no text.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "It is no file", str(path))
    return path.read_text(encoding="utf-8")
