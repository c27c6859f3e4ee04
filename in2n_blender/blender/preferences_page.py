"""The extension's preferences: the engine, where gigabytes go and how they get there, the models, and when memory is
let go."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import BoolProperty, CollectionProperty, IntProperty, StringProperty

from .. import environment
from ..models.catalogue import MINIATURE, ON_THE_HUB
from ..models.hub import hub_cache
from ..models.model import Model
from ..scene.errors import In2nError
from . import engine, jobs, links, live, machines, model_memory, settings, storage
from .panels.job import draw_standing

CONDITIONS = {
    "missing": ("Not installed", "INFO"),
    "incomplete": ("Partly installed: an installation was interrupted", "ERROR"),
    "outdated": ("Made for another version of the add-on: update it", "ERROR"),
    "ready": ("Installed", "CHECKMARK"),
}


def _places_changed(_self, _context) -> None:
    storage.measure()


def _picture_changed(_self, _context) -> None:
    live.follow()


class In2nPreferences(bpy.types.AddonPreferences):
    bl_idname = settings.ADD_ON

    home: StringProperty(
        name="Home Folder",
        description="Where the engine and scratch workspaces go: several gigabytes. Empty: the default place",
        subtype="DIR_PATH",
        update=_places_changed,
    )
    wheelhouse: StringProperty(
        name="Offline Wheels",
        description="A folder with the engine's packages as wheel files, to install without a network",
        subtype="DIR_PATH",
    )
    engine_python: StringProperty(
        name="Engine's Python",
        description="Another Python that already has the engine's packages, instead of the one installed here",
        subtype="FILE_PATH",
    )
    models: StringProperty(
        name="Model Folder",
        description="A folder with an InstructPix2Pix model in the diffusers layout, or with several such folders",
        subtype="DIR_PATH",
        update=_places_changed,
    )
    machines: CollectionProperty(
        type=machines.In2nMachine,
        name="Other Machines",
        description="Machines that are reached by ssh, on which the engine may run",
    )
    live_picture: BoolProperty(
        name="Live Picture",
        description="Show the picture of the job at work in the corner of the 3D Viewport",
        default=True,
        update=_picture_changed,
    )
    idle_minutes: IntProperty(
        name="Keep Engine",
        description=(
            "Minutes without a job after which the engine is ended and its memory, the GPU's too, is free "
            "again. 0: it stays until Blender quits"
        ),
        default=10,
        min=0,
        soft_max=120,
    )

    def draw(self, context):
        storage.measure_once()
        self.layout.use_property_split = True
        self.layout.use_property_decorate = False
        links.draw(self.layout)
        if jobs.running():
            draw_standing(self.layout, context, (jobs.current().label,))
        self._draw_engine(self.layout.box(), storage.known())
        self._draw_machines(self.layout.box())
        self._draw_models(self.layout.box(), storage.known())
        self._draw_memory(self.layout.box())
        self._draw_scratch(self.layout.box(), storage.known())
        self.layout.prop(self, "live_picture")

    def _draw_engine(self, box, stored) -> None:
        box.label(text="Engine", icon="SYSTEM")
        other = engine.other_python()
        if other is not None:
            there = other.exists()
            _row(
                box,
                "Status",
                "Another Python is used" if there else "The Python named below does not exist",
                "CHECKMARK" if there else "ERROR",
            )
            _place(box, other.parent)
        else:
            self._draw_installed(box, stored)
        devices = engine.known_devices()
        row = _row(box, "Device", str(devices[0]) if devices else "Not looked for yet")
        row.operator("in2n.find_devices", text="", icon="FILE_REFRESH")
        for device in devices[1:]:
            _row(box, "", str(device))
        column = box.column()
        column.prop(self, "home", placeholder=str(settings.home_folder()))
        column.prop(self, "wheelhouse")
        column.prop(self, "engine_python")

    def _draw_installed(self, box, stored) -> None:
        condition = _condition()
        if condition not in CONDITIONS:
            _row(box, "Status", condition, "ERROR")
            _row(box, "", "Name another Python below that has the engine's packages.")
            return
        text, icon = CONDITIONS[condition]
        _row(box, "Status", text, icon)
        folder = settings.environment_folder()
        if condition != "missing":
            _row(box, "Size", _megabytes(stored.environment_mb) if stored else "…")
        _place(box, folder)
        row = box.row(align=True)
        if condition == "ready":
            row.operator("in2n.verify_engine", icon="CHECKMARK")
            row.operator("in2n.repair_engine", icon="TOOL_SETTINGS")
        else:
            label = {"missing": "Install Engine", "incomplete": "Continue Installing", "outdated": "Update Engine"}[
                condition
            ]
            row.operator("in2n.install_engine", text=label, icon="IMPORT")
        if condition != "missing":
            row.operator("in2n.remove_engine", icon="TRASH")

    def _draw_models(self, box, stored) -> None:
        box.label(text="Models", icon="BRUSH_DATA")
        _row(box, MINIATURE.label, "Comes with the add-on", "CHECKMARK")
        found = stored.models if stored else ()
        for model in found:
            row = _row(
                box,
                model.name,
                _megabytes(model.megabytes) if model.complete else f"{_megabytes(model.megabytes)}, incomplete",
                "CHECKMARK" if model.complete else "ERROR",
            )
            row.operator("wm.path_open", text="", icon="FILEBROWSER").filepath = str(model.folder)
            if model.downloaded:
                if not model.complete:
                    row.operator("in2n.download_model", text="", icon="IMPORT").name = model.name
                row.operator("in2n.remove_model", text="", icon="TRASH").name = model.name
        for model in ON_THE_HUB if stored else ():
            if not any(there.name == model.id for there in found):
                _draw_offered(box, model)
        _place(box, hub_cache(), "Downloads")
        box.prop(self, "models")

    def _draw_machines(self, box) -> None:
        row = box.row()
        row.label(text="Other Machines", icon="NETWORK_DRIVE")
        row.operator("in2n.add_machine", text="", icon="ADD")
        if not self.machines:
            box.label(text="The engine can run on a machine that you reach by ssh: list it here.")
        for index, machine in enumerate(self.machines):
            inner = box.box().column()
            row = inner.row(align=True)
            row.use_property_split = False
            row.prop(machine, "name", text="")
            row.operator("in2n.check_machine", icon="VIEWZOOM").index = index
            row.operator("in2n.install_on_machine", text="Install Engine", icon="IMPORT").index = index
            row.operator("in2n.remove_machine", text="", icon="TRASH").index = index
            inner.prop(machine, "host", placeholder="user@host")
            inner.prop(machine, "folder")

    def _draw_memory(self, box) -> None:
        box.label(text="Memory", icon="MEMORY")
        box.prop(self, "idle_minutes", text="Keep Engine (Minutes)")
        row = _row(box, "Now", "The engine runs" if engine.is_running() else "No engine runs")
        row.operator("in2n.release_engine", text="Release")

    def _draw_scratch(self, box, stored) -> None:
        box.label(text="Scratch Workspaces", icon="FILE_CACHE")
        _row(box, "Size", _megabytes(stored.scratch_mb) if stored else "…")
        _place(box, settings.home_folder() / "scratch")


def _draw_offered(box, model: Model) -> None:
    """A model of the catalogue that is not here: whether it fits, its licence, and what must be known of it."""
    words, fits = model_memory.fits_in_words(model)
    row = _row(box, model.label, f"{words[:1].upper()}{words[1:]}", "NONE" if fits else "INFO")
    row.operator("in2n.download_model", text=storage.spoken_mb(model.download_mb), icon="IMPORT").name = model.id
    what = model.note.partition(";")[0]  # the rest is said before a download
    _row(box, "", " · ".join(part for part in (model.licence, what) if part)).active = False


def _row(layout, name: str, text: str, icon: str = "NONE"):
    """A line of the page: its name at the left, what there is to say at the right; returns the row for buttons."""
    split = layout.split(factor=0.4)
    left = split.row()
    left.alignment = "RIGHT"
    left.label(text=name)
    row = split.row(align=True)
    row.label(text=text, icon=icon)
    return row


def _place(layout, folder: Path, name: str = "Place") -> None:
    row = _row(layout, name, str(folder))
    if folder.exists():
        row.operator("wm.path_open", text="", icon="FILEBROWSER").filepath = str(folder)


def _megabytes(megabytes: int) -> str:
    return storage.spoken_mb(megabytes)


def _condition() -> str:
    """A key of CONDITIONS, or a sentence when this Blender's Python has no engine at all."""
    try:
        return environment.condition(("engine",), settings.home_folder())
    except In2nError as error:
        return error.message


CLASSES = (In2nPreferences,)
