"""Image files as pictures in panels: the job's newest picture, and the grid of previews.

Pictures are looked up again whenever their file has changed. Nothing here is part of a .blend.
"""

from __future__ import annotations

import json
from pathlib import Path

import bpy.utils.previews

MOST_ICONS = 200  # kept at a time; each takes 256 KB

_icons = None
_json: dict[Path, tuple[int, dict]] = {}


def icon(file: Path | str | None) -> int:
    """The icon of an image file as it is on disk now, for `layout.template_icon`.

    Args:
        file: The image, there or not.

    Returns:
        The icon's id; 0 where there is none.
    """
    stamp = _stamp(file)
    if _icons is None or stamp is None:
        return 0
    key = f"{file}|{stamp}"
    if key not in _icons:
        if len(_icons) >= MOST_ICONS:
            _icons.clear()
        _icons.load(key, str(file), "IMAGE")
    return _icons[key].icon_id


def read(file: Path) -> dict:
    """A JSON file, read again only when it has changed.

    Args:
        file: The file, there or not.

    Returns:
        The object in it; empty where there is none or it is damaged.
    """
    stamp = _stamp(file)
    if stamp is None:
        return {}
    if file not in _json or _json[file][0] != stamp:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        _json[file] = stamp, found if isinstance(found, dict) else {}
    return _json[file][1]


def newest(folder: Path) -> Path | None:
    """The image in the folder that was written last."""
    found = [(stamp, path) for path in folder.glob("[!.]*.png") if (stamp := _stamp(path)) is not None]
    return max(found)[1] if found else None


def _stamp(file: Path | str | None) -> int | None:
    try:
        return Path(file).stat().st_mtime_ns if file else None
    except OSError:
        return None


def attach() -> None:
    """Make room for the icons of pictures."""
    global _icons
    _icons = bpy.utils.previews.new()


def detach() -> None:
    """Forget all icons and files that were read."""
    global _icons
    bpy.utils.previews.remove(_icons)
    _icons = None
    _json.clear()
