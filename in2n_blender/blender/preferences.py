"""The extension's preferences: where gigabytes go and how the engine gets there."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import StringProperty

from .. import __package__ as base_package


class In2nPreferences(bpy.types.AddonPreferences):
    bl_idname = base_package

    home: StringProperty(name="Home folder", description="Where the engine, its models and scratch workspaces go: several gigabytes. Empty: the default place", subtype="DIR_PATH")
    wheelhouse: StringProperty(name="Offline wheels", description="A folder with the engine's packages as wheel files, to install without a network", subtype="DIR_PATH")
    engine_python: StringProperty(name="Engine's Python", description="Another Python that already has the engine's packages, instead of the one installed here", subtype="FILE_PATH")

    def draw(self, context):
        from . import worker
        from .panels import draw_job

        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(self, "home", placeholder=str(home_folder()))
        layout.prop(self, "wheelhouse")
        layout.prop(self, "engine_python")
        python = worker.engine_python()
        row = layout.row()
        row.label(text=f"Engine: {python}" if python else "The engine is not installed.", icon="CHECKMARK" if python else "INFO")
        row.operator("in2n.install_engine", text="Repair" if python else "Install Engine", icon="IMPORT").repair = python is not None
        draw_job(layout)


def _preferences():
    addon = bpy.context.preferences.addons.get(base_package)
    return addon.preferences if addon else None


def _folder(name: str) -> Path | None:
    value = getattr(_preferences(), name, "")
    return Path(bpy.path.abspath(value)).expanduser() if value else None


def home_folder() -> Path:
    """Where gigabytes go: the preference, else $IN2N_HOME, else the default place."""
    from ..jobs import environment

    return environment.home_folder(_folder("home"))


def wheelhouse() -> Path | None:
    return _folder("wheelhouse")


def engine_python() -> Path | None:
    return _folder("engine_python")


CLASSES = (In2nPreferences,)
