"""Plain, unique file names for photos, from their paths as a capture lists them."""

from __future__ import annotations

import re


def unique_names(labels: list[str]) -> list[str]:
    """A plain file name for each photo's path as the files list it: letters, digits, "_", "-" and ".", at most 64 long.

    The photos' own names without extension where that is enough, else all with their folder before it (train_r_0,
    test_r_0), and a number behind it where even that is not enough. Unique without regard to case, as Windows and macOS
    need.
    """
    paths = [label.replace("\\", "/").lstrip("./") for label in labels]
    paths = [re.sub(r"\.(png|jpe?g|tiff?|webp|bmp|exr)$", "", path, flags=re.IGNORECASE) for path in paths]
    plain = [_plain(path.rsplit("/", 1)[-1]) for path in paths]
    if len({name.lower() for name in plain}) < len(plain):
        plain = [_plain("_".join(path.split("/")[-2:])) for path in paths]
    names, taken = [], set()
    for name in plain:
        number, candidate = 1, name
        while candidate.lower() in taken:
            number += 1
            candidate = f"{name[:58]}_{number}"
        taken.add(candidate.lower())
        names.append(candidate)
    return names


def _plain(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.\-]", "_", text)[-64:].strip(".-")
    # names that Windows keeps for devices
    return (
        f"view_{name}"
        if not name or re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name, re.IGNORECASE)
        else name
    )
