"""Other machines that the engine may run on: those that the preferences list, and the one that a scene's jobs go to."""

from __future__ import annotations

import os
import zlib

import bpy
from bpy.props import StringProperty

from ..remote.machines import FOLDER, Machine
from ..scene.errors import In2nError
from . import settings

HERE = "HERE"  # this computer, as the property has it
_items: list[tuple] = []  # Blender keeps no texts of its own of an enumeration that is made when it is asked for


class In2nMachine(bpy.types.PropertyGroup):
    """A machine of the preferences. Its name is the inherited one."""

    host: StringProperty(
        name="Host", description="As for ssh: host, user@host, or a name of your ssh configuration. It asks for no "
        "password: set up a key",
    )  # fmt: skip
    folder: StringProperty(
        name="Folder", description="On that machine, for the engine, models and copies of workspaces", default=FOLDER
    )


def listed() -> list[Machine]:
    """The machines of the preferences that have a host, in their order."""
    found = getattr(settings.preferences(), "machines", ())
    return [Machine(entry.name or entry.host, entry.host, entry.folder or FOLDER) for entry in found if entry.host]


def items(_scene=None, _context=None) -> list[tuple]:
    """This computer and the machines, for a property. A machine's number is made from its name, so that a scene keeps
    its machine when others come and go."""
    global _items
    _items = [(HERE, "This Computer", "The engine runs on this computer", "SYSTEM", 0)]
    for machine in listed():
        number = zlib.crc32(machine.name.encode()) & 0x3FFFFFFF or 1
        told = f"The engine runs on {machine.host}, which is reached by ssh; the workspace stays here"
        _items.append((machine.name, machine.name, told, "NETWORK_DRIVE", number))
    return _items


def chosen(scene) -> Machine | None:
    """The machine that a scene's jobs go to; None: this computer, also where the machine is listed no more.

    Args:
        scene: Whose settings count.
    """
    return next((machine for machine in listed() if machine.name == scene.in2n.computer), None)


def require_leave() -> None:
    """See that Blender may use the network at all.

    Raises:
        In2nError: "offline".
    """
    if not settings.online_access() and not os.environ.get("IN2N_SSH"):
        raise In2nError(
            "offline",
            "Blender's online access is off, and the machine is reached over the network.",
            "Allow it in Preferences > System, or let the engine run on this computer.",
        )


CLASSES = (In2nMachine,)
