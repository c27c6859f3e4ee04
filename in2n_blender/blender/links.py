"""Where the documentation is and where problems are told: made from the `website` of the extension's manifest.

Without one, the documentation is the README that comes with the extension, and there is no place to tell a problem; a
report of it can be copied in any case.
"""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

import bpy

PACKAGE = Path(__file__).resolve().parents[1]
MANIFEST, README = "blender_manifest.toml", "README.md"
REPORTING = "Reporting a problem"  # the heading in the README
# What the interface shows -> the part of the documentation about it; the first that fits counts.
PARTS = (
    ("bpy.ops.in2n.import*", "any-capture"),
    ("bpy.ops.in2n.install*", "requirements"),
    ("bpy.ops.in2n.download*", "the-miniature"),
    ("bpy.ops.in2n.*composite", "f12-viewport-and-compositing"),
    ("bpy.types.in2nrender.*", "f12-viewport-and-compositing"),
    ("bpy.ops.in2n.*", "in-blender"),
    ("bpy.types.in2n*", "in-blender"),
    ("bpy.types.scene.in2n*", "in-blender"),
)


@functools.cache
def website() -> str:
    """The project's address, without a slash at its end; "" where the manifest names none."""
    file = _beside(MANIFEST)
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8")).get("website", "") if file else ""
    except (OSError, ValueError):
        return ""
    return str(found).rstrip("/")


def _beside(name: str) -> Path | None:
    """A file of the project: inside an installed extension, beside the package in a checkout."""
    return next((folder / name for folder in (PACKAGE, PACKAGE.parent) if (folder / name).is_file()), None)


def readme() -> Path | None:
    """The documentation that comes with the extension; None where it is gone."""
    return _beside(README)


def documentation() -> str:
    """Where the documentation is; "" where there is none."""
    file = readme()
    return f"{website()}#readme" if website() else file.as_uri() if file else ""


def issues() -> str:
    """Where problems are told; "" where nobody says."""
    return f"{website()}/issues" if website() else ""


def manual_map() -> tuple[str, tuple[tuple[str, str], ...]]:
    """Where Blender's “Online Manual” in a button's menu leads, as `bpy.utils.register_manual_map` wants it."""
    base = documentation().partition("#")[0]
    return base, tuple((pattern, f"#{part}") for pattern, part in PARTS) if base else ()


def draw(layout) -> None:
    """Draw buttons that open them.

    Args:
        layout: Where to.
    """
    row = layout.row(align=True)
    if website():
        row.operator("wm.url_open", text="Documentation", icon="HELP").url = documentation()
        row.operator("wm.url_open", text="Report a Problem", icon="URL").url = issues()
    elif readme():
        row.operator("in2n.show_documentation", icon="HELP")
    row.operator("in2n.copy_report", icon="COPYDOWN")


def attach() -> None:
    """Let Blender's own “Online Manual” lead there."""
    bpy.utils.register_manual_map(manual_map)


def detach() -> None:
    """Let it lead there no more."""
    bpy.utils.unregister_manual_map(manual_map)
