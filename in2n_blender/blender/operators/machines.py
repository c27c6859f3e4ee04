"""bpy.ops.in2n.add_machine and its kin: the machines of the preferences, and the engine on them."""

from __future__ import annotations

import bpy
from bpy.props import IntProperty

from ...link.client import without_engine
from ...remote import installing
from ...remote.machines import Machine
from ...scene.errors import In2nError
from .. import machines, settings
from .job import JobOperator
from .polls import poll_idle


class IN2N_OT_add_machine(bpy.types.Operator):
    """List another machine that the engine may run on; it is reached by ssh, with your own keys"""

    bl_idname = "in2n.add_machine"
    bl_label = "Add Machine"

    @classmethod
    def poll(cls, context):
        return settings.preferences() is not None

    def execute(self, context):
        entry = settings.preferences().machines.add()
        entry.name = f"Machine {len(settings.preferences().machines)}"
        return {"FINISHED"}


class _OfMachine:
    """What the operators of one machine share."""

    index: IntProperty(name="Machine", description="Which of the machines that the preferences list", min=0)

    @classmethod
    def poll(cls, context):
        return settings.preferences() is not None and poll_idle(cls)

    def machine(self) -> Machine:
        """The machine. Raises In2nError("bad_machine"), "offline"."""
        found = settings.preferences().machines
        if self.index >= len(found) or not found[self.index].host:
            raise In2nError("bad_machine", "The machine has no host yet.", "Write it as for ssh, such as user@host.")
        entry = found[self.index]
        machine = Machine(entry.name or entry.host, entry.host, entry.folder)
        machine.check()
        machines.require_leave()
        return machine


class IN2N_OT_remove_machine(_OfMachine, bpy.types.Operator):
    """List this machine no more; what lies on it stays there"""

    bl_idname = "in2n.remove_machine"
    bl_label = "Remove Machine"

    def execute(self, context):
        settings.preferences().machines.remove(self.index)
        return {"FINISHED"}


class IN2N_OT_check_machine(_OfMachine, JobOperator, bpy.types.Operator):
    """Reach this machine, and look whether the engine is installed on it"""

    bl_idname = "in2n.check_machine"
    bl_label = "Check"
    label = "Check Machine"

    def prepare(self, context):
        machine = self.machine()

        def finish(context, scene, capture, found):
            return installing.spoken_condition(machine, found)

        return [lambda report: installing.condition(machine, report)], finish


class IN2N_OT_install_on_machine(_OfMachine, JobOperator, bpy.types.Operator):
    """Install the engine (PyTorch and what it needs, several gigabytes) into this machine's folder. Interrupted and
    started again, it goes on"""

    bl_idname = "in2n.install_on_machine"
    bl_label = "Install Engine There"
    label = "Install Engine There"

    def invoke(self, context, event):
        return context.window_manager.invoke_confirm(self, event)

    def prepare(self, context):
        machine = self.machine()

        @without_engine  # a worker there would have the files open
        def work(report):
            installing.install(machine, report)
            return installing.condition(machine, report)

        def finish(context, scene, capture, found):
            return installing.spoken_condition(machine, found)

        return [work], finish


CLASSES = (IN2N_OT_add_machine, IN2N_OT_remove_machine, IN2N_OT_check_machine, IN2N_OT_install_on_machine)
