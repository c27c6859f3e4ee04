"""bpy.ops.in2n.preview and in2n.use_guidance: find the guidance scales on one photo before the scene is edited."""

from __future__ import annotations

import re

import bpy
from bpy.app.translations import pgettext_tip as tip
from bpy.props import StringProperty

from ...link.requests import CARRYING, Edit, PreviewGrid
from ...models.catalogue import INSTRUCT_PIX2PIX
from ...scene.errors import In2nError
from .. import instructions, photos, workspaces
from ..request_properties import argument, from_request
from .job import JobOperator, photos_first
from .polls import poll_capture, poll_engine, poll_queue, poll_workspace


class IN2N_OT_preview(JobOperator, bpy.types.Operator):
    bl_description = (
        "Edit one photo at several guidance scales, or at the scales that are set, and show the pictures "
        "in the sidebar. Needs no reconstruction"
    )

    bl_idname = "in2n.preview"
    bl_label = "Preview"
    label = "Preview"

    instruction: argument(PreviewGrid, "instruction", left_out="the scene's instruction")
    negative_prompt: argument(PreviewGrid, "negative_prompt", left_out="the scene's, where the model takes one")
    view: argument(PreviewGrid, "view", left_out="the one looked through, or the first")
    grid: argument(PreviewGrid, "grid", left_out="on", default=True)
    text_scales: argument(
        PreviewGrid, "text_scales", left_out="around the model's own, or with one picture the scene's; “5 7.5 10”"
    )
    image_scales: argument(
        PreviewGrid, "image_scales", left_out="around the model's own, or with one picture the scene's; “1 1.3 1.6”"
    )
    editor: argument(PreviewGrid, "editor", left_out="the scene's model", default="")
    seed: argument(PreviewGrid, "seed", left_out="the scene's seed")
    device: argument(PreviewGrid, "device", left_out="the scene's device")
    memory_plan: argument(PreviewGrid, "memory_plan", left_out="the scene's")
    restart: argument(PreviewGrid, "restart")

    @classmethod
    def poll(cls, context):
        return poll_queue(cls) and poll_capture(cls, context) and poll_engine(cls) and poll_workspace(cls, context)

    def prepare(self, context):
        settings = context.scene.in2n
        capture, workspace = workspaces.require(context.scene)
        instruction = self.chosen_instruction(settings)
        editor = self.editor or settings.editor_id()
        text, image = (None, None) if self.grid else instructions.set_guidance(settings, editor)

        request = PreviewGrid(
            workspace=str(workspace.root),
            instruction=instruction,
            negative_prompt=self.negative_prompt or instructions.negative_prompt(settings, editor),
            editor=editor,
            view=self.view or photos.chosen(context.scene, capture).in2n.photo,
            grid=self.grid,
            text_scales=_numbers(self.text_scales) or (None if text is None else [round(text, 4)]),
            image_scales=_numbers(self.image_scales) or (None if image is None else [round(image, 4)]),
            restart=self.restart,
            **self.chosen(settings, "seed", "device", "memory_plan"),
        )
        settings.preview = request.folder_name
        instructions.remember(instruction)
        return [*photos_first(capture, workspace), request], _finish


def _finish(context, scene, capture, result) -> str:
    count = len(result.get("pictures", ()))
    if count == 1:
        return "The preview is ready."
    return f"{count} previews are ready: click the one that you like."


def _numbers(text: str) -> list[float]:
    """The numbers of a text such as "5 7.5 10".

    Raises:
        In2nError: "bad_guidance".
    """
    try:
        return [float(part) for part in re.split(r"[\s,;]+", text.strip()) if part]
    except ValueError:
        raise In2nError(
            "bad_guidance", f"“{text}” is not a list of numbers.", "Write for example “5 7.5 10”."
        ) from None


class IN2N_OT_use_guidance(bpy.types.Operator):
    """Take the guidance scales of this picture over for the edit"""

    bl_idname = "in2n.use_guidance"
    bl_label = "Use This Guidance"
    bl_options = {"REGISTER", "UNDO"}

    guidance_text: from_request(Edit, "guidance_text", default=INSTRUCT_PIX2PIX.guidance_text)
    guidance_image: from_request(Edit, "guidance_image", default=INSTRUCT_PIX2PIX.guidance_image)

    @classmethod
    def description(cls, context, properties):
        names = ("guidance_text", "guidance_image")
        scales = [getattr(properties, name) if properties.is_property_set(name) else None for name in names]
        words = instructions.guidance_in_words(*scales)
        return tip("Edit as in this picture. {guidance}").format(guidance=words)

    def execute(self, context):
        settings = context.scene.in2n
        settings.use_default_guidance = False
        for name in ("guidance_text", "guidance_image"):
            if self.properties.is_property_set(name):  # the others the model has not
                setattr(settings, name, getattr(self, name))
        return {"FINISHED"}


class IN2N_OT_use_picture(bpy.types.Operator):
    """Edit the scene so that it looks like this picture: the edit begins with it and carries it to the other photos"""

    bl_idname = "in2n.use_picture"
    bl_label = "Use This Picture"
    bl_options = {"REGISTER", "UNDO"}

    file: StringProperty(
        name="File", description="The picture, in the folder of the previews shown; left out: none", default=""
    )
    guidance_text: from_request(Edit, "guidance_text", default=INSTRUCT_PIX2PIX.guidance_text)
    guidance_image: from_request(Edit, "guidance_image", default=INSTRUCT_PIX2PIX.guidance_image)

    def execute(self, context):
        settings = context.scene.in2n
        settings.key_view = f"{settings.preview}/{self.file}" if self.file else ""
        if not self.file:
            return {"FINISHED"}
        settings.editing_method = CARRYING
        names = ("guidance_text", "guidance_image")
        scales = {name: getattr(self, name) for name in names if self.properties.is_property_set(name)}
        return bpy.ops.in2n.use_guidance(**scales)


CLASSES = (IN2N_OT_preview, IN2N_OT_use_guidance, IN2N_OT_use_picture)
