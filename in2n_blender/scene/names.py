"""Plain file names: what photos are called, and which names exist on every platform."""

from __future__ import annotations

import re

_PHOTO_EXTENSION = re.compile(r"\.(png|jpe?g|tiff?|webp|bmp|gif|exr|hei[cf])$", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.\- ]{0,78}[A-Za-z0-9_\-])?")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d) *(\..*)?", re.IGNORECASE)


def is_plain(name: object) -> bool:
    """Whether something is one plain file name on every platform: no path, no hidden file, no device of Windows'."""
    return isinstance(name, str) and bool(_PLAIN.fullmatch(name)) and not _DEVICE.fullmatch(name)


def unique_names(labels: list[str]) -> list[str]:
    """A plain file name for each photo's path as a capture lists it.

    Args:
        labels: The photos' paths, with "/" or "\\\\" between folders.

    Returns:
        Names of letters, digits, "_", "-" and ".", at most 69 long, unique without regard to case, as Windows and macOS
        need. The photos' own names without extension where that is enough, else all with their folder before it
        (train_r_0, test_r_0), and a number behind it where even that is not enough.
    """
    paths = [_PHOTO_EXTENSION.sub("", label.replace("\\", "/").lstrip("./")) for label in labels]
    plain = [_plain(path.rsplit("/", 1)[-1]) for path in paths]
    if len({name.lower() for name in plain}) < len(plain):
        plain = [_plain("_".join(path.split("/")[-2:])) for path in paths]
    names, taken = [], set()
    numbers: dict[str, int] = {}  # the last one that each beginning of a name got: those below it are taken
    for name in plain:
        beginning, candidate = name[:58], name
        while candidate.lower() in taken:
            number = numbers[beginning.lower()] = numbers.get(beginning.lower(), 1) + 1
            candidate = f"{beginning}_{number}"
        taken.add(candidate.lower())
        names.append(candidate)
    return names


def _plain(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.\-]", "_", text)[-64:].strip(".-")
    return f"view_{name}" if not name or _DEVICE.fullmatch(name) else name
