"""bpy.ops.in2n.reconstruct: train the NeRF on the capture."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface

from ...link.requests import Reconstruct
from ...workspace.layout import Workspace
from .. import captured_objects, compare, full_photos, workspaces
from ..request_properties import argument
from .job import JobOperator, photos_first
from .polls import poll_capture, poll_engine, poll_queue, poll_workspace


class IN2N_OT_reconstruct(JobOperator, bpy.types.Operator):
    bl_description = (
        "Train a NeRF on the capture's photos. The photos are first undistorted and scaled into the "
        "workspace. An interrupted reconstruction goes on from its last checkpoint"
    )

    bl_idname = "in2n.reconstruct"
    bl_label = "Reconstruct"
    label = "Reconstruct"
    undo_step = True  # the cameras show other photos afterwards

    preset: argument(Reconstruct, "preset", left_out="the scene's preset")
    device: argument(Reconstruct, "device", left_out="the scene's device")
    seed: argument(Reconstruct, "seed", left_out="the scene's seed")
    steps: argument(Reconstruct, "steps")
    appearance: argument(Reconstruct, "appearance", left_out="the scene's setting")
    refine_cameras: argument(Reconstruct, "refine_cameras", left_out="the scene's setting")
    restart: argument(Reconstruct, "restart")

    @classmethod
    def poll(cls, context):
        return poll_queue(cls) and poll_capture(cls, context) and poll_engine(cls) and poll_workspace(cls, context)

    def invoke(self, context, event):
        if not self.restart:
            return self.execute(context)
        return context.window_manager.invoke_confirm(
            self,
            event,
            title=iface("Reconstruct again?"),
            message=iface("The reconstruction that is there is replaced. Edits stay as they are."),
            confirm_text=iface("Reconstruct"),
        )

    def prepare(self, context):
        settings = context.scene.in2n
        capture, workspace = workspaces.require(context.scene)
        requests = photos_first(capture, workspace, split=True)
        requests.append(
            Reconstruct(
                workspace=str(workspace.root),
                steps=self.steps or None,
                restart=self.restart,
                **self.chosen(settings, "preset", "device", "seed", "appearance", "refine_cameras"),
            )
        )
        return requests, _finish


def _finish(context, scene, capture, result) -> str:
    if capture is not None:
        workspace = Workspace(workspaces.resolve(capture))
        compare.show_photos(capture, workspace, None)
        captured_objects.note_import(capture, workspace)
        full_photos.ask_for(scene)
    psnr = result.get("psnr_db")
    if psnr is None:
        return "Reconstructed."
    fitted = ", colours fitted" if result.get("color_fit") else ""
    return f"Reconstructed: {psnr:.1f} dB on the held-out photos{fitted}."


CLASSES = (IN2N_OT_reconstruct,)
