"""bpy.ops.in2n.install_engine and its kin: the engine's Python environment, its devices and models, and its memory."""

from __future__ import annotations

import bpy

from ... import environment
from ...link.client import without_engine
from ...link.requests import DownloadModel, FindDevices
from ...models import hub
from ...models.catalogue import INSTRUCT_PIX2PIX, ON_THE_HUB
from ...scene.errors import In2nError
from .. import engine, render_worker, settings, storage
from ..request_properties import argument
from .explaining import explain
from .job import JobOperator
from .polls import poll_engine, poll_idle

GROUPS = ("engine",)


def _poll_installed_here(cls) -> bool:
    if engine.other_python() is not None:
        cls.poll_message_set("Another Python is named as the engine's; it is not this add-on's to change")
        return False
    return True


def _poll_online(cls) -> bool:
    if not bpy.app.online_access:
        cls.poll_message_set("Allow online access in Preferences > System first")
        return False
    return True


def _poll_packages(cls) -> bool:
    if not settings.wheelhouse() and not bpy.app.online_access:
        cls.poll_message_set("Allow online access in Preferences > System, or name a folder with wheels")
        return False
    return True


class _Install(JobOperator):
    """What installing and repairing share."""

    make = None  # environment.install or environment.repair

    @classmethod
    def poll(cls, context):
        return poll_idle(cls) and _poll_installed_here(cls) and _poll_packages(cls)

    def invoke(self, context, event):
        if engine.why_no_engine():
            return explain(context, self.bl_label, engine.why_no_engine(), "in2n.open_preferences")
        return context.window_manager.invoke_props_dialog(
            self, width=480, title=self.bl_label, confirm_text=self.bl_label
        )

    def draw(self, context):
        column = self.layout.column(align=True)
        wheelhouse = settings.wheelhouse()
        needed = environment.plan(GROUPS, settings.home_folder()).disk_mb
        column.label(text=f"PyTorch and what the engine needs: about {storage.spoken_mb(needed)} on disk.")
        column.label(text=f"From: {wheelhouse}" if wheelhouse else "Downloaded from the package index.")
        column.label(text=f"To: {settings.environment_folder()}")

    def prepare(self, context):
        home, wheelhouse, make = settings.home_folder(), settings.wheelhouse(), type(self).make

        @without_engine  # which would keep files from being replaced
        def work(report):
            render_worker.stop()
            try:
                make(GROUPS, home, wheelhouse, report)
            finally:
                engine.look_again()

        return [work, FindDevices()], _installed


def _installed(context, scene, capture, result) -> str:
    storage.measure()
    return f"The engine is installed. It computes on: {engine.remember_devices(result)[0]}."


class IN2N_OT_open_preferences(bpy.types.Operator):
    """Show the add-on's preferences: the engine, its Python, the models and where they lie"""

    bl_idname = "in2n.open_preferences"
    bl_label = "Open Preferences"

    def execute(self, context):
        if settings.preferences() is None:
            self.report({"ERROR"}, "The add-on is not enabled in Blender's preferences.")
            return {"CANCELLED"}
        return bpy.ops.preferences.addon_show(module=settings.ADD_ON)


class IN2N_OT_install_engine(_Install, bpy.types.Operator):
    bl_description = (
        "Install the engine (PyTorch and what it needs, several gigabytes) into the home folder. "
        "Interrupted and started again, it goes on"
    )

    bl_idname = "in2n.install_engine"
    bl_label = "Install Engine"
    label = "Install Engine"
    make = staticmethod(environment.install)


class IN2N_OT_repair_engine(_Install, bpy.types.Operator):
    bl_description = (
        "Import every package of the engine and install again what is broken; a folder that cannot be "
        "mended is made anew"
    )

    bl_idname = "in2n.repair_engine"
    bl_label = "Repair"
    label = "Repair Engine"
    make = staticmethod(environment.repair)


class IN2N_OT_verify_engine(JobOperator, bpy.types.Operator):
    """Import every package of the engine for real, and look what it can compute on"""

    bl_idname = "in2n.verify_engine"
    bl_label = "Verify"
    label = "Verify Engine"

    @classmethod
    def poll(cls, context):
        return poll_idle(cls) and poll_engine(cls)

    def prepare(self, context):
        home, python = settings.home_folder(), engine.other_python()

        def work(report):
            failing = environment.verify(GROUPS, home, report, python)
            if failing:
                module, error = next(iter(failing.items()))
                more = f" (and {len(failing) - 1} more)" if len(failing) > 1 else ""
                raise In2nError(
                    "broken_environment",
                    f"{module} does not import: {error}{more}.",
                    "Repair the engine in Preferences > Add-ons > IN2N.",
                )

        def finish(context, scene, capture, result):
            storage.measure()
            devices = engine.remember_devices(result)
            return f"The engine is whole: every package imports. It computes on: {devices[0]}."

        return [work, FindDevices()], finish


class IN2N_OT_remove_engine(JobOperator, bpy.types.Operator):
    bl_description = (
        "Remove the engine's packages from this computer. Captures, edits and models stay; the engine can "
        "be installed again"
    )

    bl_idname = "in2n.remove_engine"
    bl_label = "Remove"
    label = "Remove Engine"

    @classmethod
    def poll(cls, context):
        if not (poll_idle(cls) and _poll_installed_here(cls)):
            return False
        if not settings.environment_folder().exists():
            cls.poll_message_set("The engine is not installed")
            return False
        return True

    def invoke(self, context, event):
        return context.window_manager.invoke_confirm(self, event)

    def prepare(self, context):
        home = settings.home_folder()

        @without_engine
        def work(report):
            render_worker.stop()
            try:
                environment.remove(home, report)
            finally:
                engine.look_again()

        def finish(context, scene, capture, result):
            storage.measure()
            return "The engine is removed."

        return [work], finish


class IN2N_OT_find_devices(JobOperator, bpy.types.Operator):
    """Ask the engine what it can compute on, and measure what is on disk"""

    bl_idname = "in2n.find_devices"
    bl_label = "Find Devices"
    label = "Find Devices"

    @classmethod
    def poll(cls, context):
        return poll_idle(cls) and poll_engine(cls)

    def prepare(self, context):
        def finish(context, scene, capture, result):
            storage.measure()
            return f"The engine computes on: {engine.remember_devices(result)[0]}."

        return [FindDevices()], finish


class IN2N_OT_download_model(JobOperator, bpy.types.Operator):
    """Download an editing model from the Hugging Face hub into its cache on this computer: several gigabytes, once"""

    bl_idname = "in2n.download_model"
    bl_label = "Download Model"
    label = "Download Model"

    name: argument(DownloadModel, "name", default=INSTRUCT_PIX2PIX.id)

    @classmethod
    def poll(cls, context):
        return poll_idle(cls) and poll_engine(cls) and _poll_online(cls)

    def invoke(self, context, event):
        return context.window_manager.invoke_props_dialog(
            self, width=480, title="Download Model", confirm_text="Download"
        )

    def draw(self, context):
        column = self.layout.column(align=True)
        known = next((model for model in ON_THE_HUB if model.id == self.name), None)
        size = f": about {storage.spoken_mb(known.download_mb)}" if known else ""
        column.label(text=f"{self.name} from the Hugging Face hub{size}.")
        if known:
            column.label(text=" · ".join(part for part in (known.licence, known.note) if part), translate=False)
        column.label(text=f"To: {hub.hub_folder(self.name)}")
        column.label(text="The model has a licence of its own; read it on its page before you use its pictures.")

    def prepare(self, context):
        name = self.name

        def finish(context, scene, capture, result):
            storage.measure()
            return f"“{name}” is on this computer."

        return [DownloadModel(name=name)], finish


class IN2N_OT_remove_model(bpy.types.Operator):
    """Remove a downloaded model from this computer's Hugging Face cache, which other programs may use too"""

    bl_idname = "in2n.remove_model"
    bl_label = "Remove Model"

    name: argument(DownloadModel, "name")

    @classmethod
    def poll(cls, context):
        return poll_idle(cls)

    def invoke(self, context, event):
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, context):
        try:
            engine.release()  # it may have the model's files open
            hub.remove_downloaded(self.name)
        except In2nError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        finally:
            storage.measure()
        return {"FINISHED"}


class IN2N_OT_release_engine(bpy.types.Operator):
    """End the engine's process, so that its memory, the GPU's too, is free. The next job starts it again"""

    bl_idname = "in2n.release_engine"
    bl_label = "Release Memory"

    @classmethod
    def poll(cls, context):
        if not poll_idle(cls):
            return False
        if not (engine.is_running() or render_worker.is_running()):
            cls.poll_message_set("The engine does not run")
            return False
        return True

    def execute(self, context):
        engine.release()
        render_worker.stop()
        return {"FINISHED"}


CLASSES = (
    IN2N_OT_open_preferences,
    IN2N_OT_install_engine,
    IN2N_OT_repair_engine,
    IN2N_OT_verify_engine,
    IN2N_OT_remove_engine,
    IN2N_OT_find_devices,
    IN2N_OT_download_model,
    IN2N_OT_remove_model,
    IN2N_OT_release_engine,
)
