"""Results: frames along the scene's camera, a mesh, splats and a dataset, of the edit that is shown or of the unedited
capture."""

from __future__ import annotations

import functools

import bpy
from bpy.app.translations import pgettext_iface as iface

from ...workspace.layout import ORIGINAL, Workspace
from ...workspace.provenance import is_done
from .. import compositing, plates, results, workspaces
from ..scene_state import active_edit
from .base import Panel, is_reconstructed
from .drawing import draw_colour_note, fields, wrapped
from .job import RESULT_JOBS, draw_standing
from .outputs import draw_outputs


class IN2N_PT_results(Panel, bpy.types.Panel):
    bl_idname = "IN2N_PT_results"
    bl_label = "Results"

    def draw(self, context):
        layout, scene = self.layout, context.scene
        settings = scene.in2n
        if self.draw_needs(context, reconstruction=True) and not is_reconstructed(scene):
            return
        edit = active_edit(scene) if settings.shown == "AFTER" else None
        row = layout.row()
        row.label(
            text=iface("Of “{name}”").format(name=edit) if edit else iface("Of the unedited capture"),
            icon="BRUSH_DATA" if edit else "CAMERA_DATA",
            translate=False,
        )
        if edit and not is_done(Workspace(workspaces.workspace_of(scene)), edit):
            wrapped(layout, iface("This edit is not finished: results show how far it is."), context, "INFO")
        draw_colour_note(layout, context)
        self._draw_frames(context, edit)
        self._draw_mesh(context, edit)
        self._draw_splats(context, edit)
        self._draw_dataset(context, edit)
        draw_outputs(layout, context, Workspace(workspaces.workspace_of(scene)), edit)
        self._draw_composite(context)
        draw_standing(layout, context, RESULT_JOBS)

    def _draw_frames(self, context, edit: str | None) -> None:
        scene, workspace = context.scene, Workspace(workspaces.workspace_of(context.scene))
        box = self.layout.box()
        box.label(
            text=iface("Frames {first}–{last}, {camera}").format(
                first=scene.frame_start,
                last=scene.frame_end,
                camera=scene.camera.name if scene.camera else iface("no camera"),
            ),
            icon="RENDER_ANIMATION",
            translate=False,
        )
        row = box.row(align=True)
        row.operator("in2n.render_path", text="Render Frames", icon="RENDER_ANIMATION").edit = edit or ORIGINAL
        for name, numbers in results.rendered_paths(workspace, edit).items():
            loaded = box.row(align=True)
            loaded.label(text=f"{name} · {len(numbers)}", icon="FILE_MOVIE", translate=False)
            for load in (
                loaded.operator("in2n.load_frames", text="Load"),
                loaded.operator_menu_enum("in2n.load_frames", "kind", text="", icon="DOWNARROW_HLT"),
            ):
                load.edit, load.name = edit or ORIGINAL, name
            loaded.operator("wm.path_open", text="", icon="FILEBROWSER").filepath = str(workspace.renders(edit, name))
            if results.are_frames_outdated(workspace, edit, name):
                wrapped(box, iface("Made from an earlier state of the scene."), context, "ERROR")
        if scene.camera is not None and scene.camera.type == "CAMERA":
            shown = plates.backgrounds(scene.camera.data)
            for background in shown:
                name = plates.source_of(background).name
                box.prop(background, "show_background_image", text=name, translate=False)
            if shown:
                box.row().prop(scene.in2n, "frames_depth", expand=True)

    def _draw_splats(self, context, edit: str | None) -> None:
        box = self.layout.box()
        settings = fields(box)
        settings.prop(context.scene.in2n, "most_splats")
        settings.prop(context.scene.in2n, "splats_background")
        box.operator("in2n.make_splats", icon="POINTCLOUD_DATA").edit = edit or ORIGINAL

    def _draw_dataset(self, context, edit: str | None) -> None:
        box = self.layout.box()
        fields(box).prop(context.scene.in2n, "dataset_format", text="Dataset")
        box.operator("in2n.export_dataset", icon="IMAGE_DATA").edit = edit or ORIGINAL

    def _draw_composite(self, context) -> None:
        row = self.layout.row(align=True)
        if compositing.field_of(context.scene) is None:
            row.operator("in2n.composite", icon="NODE_COMPOSITING")
        else:
            row.operator("in2n.remove_composite", icon="X")

    def _draw_mesh(self, context, edit: str | None) -> None:
        box = self.layout.box()
        settings = fields(box)
        row = settings.row(align=True)
        row.prop(context.scene.in2n, "kept", icon="MESH_CUBE")
        row.operator("in2n.add_kept_box", text="", icon="ADD")
        settings.prop(context.scene.in2n, "mesh_resolution", text="Mesh Grid")
        header, body = box.panel("IN2N_PT_mesh_options", default_closed=True)
        header.label(text="Mesh Options")
        if body is not None:
            options = fields(body)
            for name in ("mesh_texture", "mesh_faces", "mesh_collision", "mesh_watertight"):
                options.prop(context.scene.in2n, name)
        if _has_mesh(context.scene.session_uid, len(bpy.data.objects), quick=True):
            box.prop(context.scene.in2n, "show_quick_mesh")
        box.operator("in2n.extract_mesh", text="Extract Mesh", icon="MESH_DATA").edit = edit or ORIGINAL
        shading = context.space_data.shading
        if (
            shading.type == "SOLID"
            and (shading.color_type, shading.light) != ("VERTEX", "FLAT")
            and _has_mesh(context.scene.session_uid, len(bpy.data.objects))
        ):
            box.operator("in2n.show_colors", icon="COLOR")


@functools.lru_cache(maxsize=8)
def _has_mesh(scene_uid: int, _objects: int, quick: bool = False) -> bool:
    objects = (o for s in bpy.data.scenes if s.session_uid == scene_uid for o in s.objects)
    return any(o.in2n.role == "MESH" and (o.in2n.quick or not quick) for o in objects)
