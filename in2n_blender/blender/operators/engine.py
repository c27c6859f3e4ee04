"""bpy.ops.in2n.install_engine: make the engine's Python environment."""

from __future__ import annotations

import bpy
from bpy.props import BoolProperty

from ...jobs import environment
from ...jobs.protocol import Reporter
from .. import preferences, worker
from .job import JobOperator, poll_idle


class IN2N_OT_install_engine(JobOperator, bpy.types.Operator):
    """Install the engine (PyTorch and what it needs, several gigabytes) into the home folder. Interrupted and started again, it goes on"""

    bl_idname = "in2n.install_engine"
    bl_label = "Install Engine"
    label = "Install engine"

    repair: BoolProperty(name="Repair", description="Import every package and install again what is broken", default=False, options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context):
        if not poll_idle(cls):
            return False
        if not preferences.wheelhouse() and not getattr(bpy.app, "online_access", True):
            cls.poll_message_set("Allow online access in Preferences > System, or name a folder with wheels")
            return False
        return True

    def prepare(self, context):
        home, wheelhouse = preferences.home_folder(), preferences.wheelhouse()
        worker.stop()  # a running worker would keep files from being replaced
        make = environment.repair if self.repair else environment.install
        return lambda emit, cancelled: make(("engine",), home, wheelhouse, Reporter(emit, cancelled)), _finish


def _finish(context, scene, capture, result) -> str:
    return "The engine is installed."


CLASSES = (IN2N_OT_install_engine,)
