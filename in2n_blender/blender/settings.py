"""The values of the extension's preferences, for all that goes by them; the page on which they are set is
`preferences_page`."""

from __future__ import annotations

from pathlib import Path

import bpy

from .. import environment

ADD_ON = __package__.rpartition(".")[0]  # the name under which Blender knows the extension, wherever it is installed


def preferences():
    """The extension's preferences; None where it runs without being enabled in them."""
    addon = bpy.context.preferences.addons.get(ADD_ON)
    return addon.preferences if addon else None


def _folder(name: str) -> Path | None:
    value = getattr(preferences(), name, "")
    return Path(bpy.path.abspath(value)).expanduser() if value else None


def home_folder() -> Path:
    """Where gigabytes go: the preference, else $IN2N_HOME, else the default place."""
    return environment.home_folder(_folder("home"))


def environment_folder() -> Path:
    """Where the engine's packages go."""
    return environment.environment_folder(home_folder())


def wheelhouse() -> Path | None:
    """The folder of wheels that the engine is installed from without a network, if one is named."""
    return _folder("wheelhouse")


def engine_python() -> Path | None:
    """The Python that is named as the engine's, if one is."""
    return _folder("engine_python")


def online_access() -> bool:
    """Whether Blender's preferences allow the network."""
    return bpy.app.online_access


def model_folders() -> tuple[Path, ...]:
    """Folders in which models are looked for besides the Hugging Face cache.

    They are the preference's and those that scenes name.
    """
    named = {Path(bpy.path.abspath(s.in2n.editor_folder)) for s in bpy.data.scenes if s.in2n.editor_folder}
    preferred = _folder("models")
    return (*((preferred,) if preferred else ()), *sorted(named))


def live_picture() -> bool:
    """Whether the 3D Viewport shows the picture of the job at work."""
    return getattr(preferences(), "live_picture", True)


def idle_minutes() -> int:
    """Minutes without a job after which the engine is ended; 0: never."""
    return getattr(preferences(), "idle_minutes", 10)
