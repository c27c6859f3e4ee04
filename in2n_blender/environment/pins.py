"""The one list of versions, `engine_versions.json`."""

from __future__ import annotations

import json
import platform
from pathlib import Path

FILE = Path(__file__).with_name("engine_versions.json")


def read_pins() -> dict:
    """The whole list; its first entry says what the others hold."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def uv_wheels() -> dict[str, dict[str, str]]:
    """The wheels of uv that the extension bundles: Blender's name of the platform -> {"file", "sha256"}."""
    return read_pins().get("uv", {}).get("wheels", {})


def blender_platform() -> str:
    """This machine as Blender's extensions name it: "linux-x64", "macos-arm64", ..."""
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(machine, machine)
    return f"{'macos' if system == 'darwin' else system}-{machine}"
