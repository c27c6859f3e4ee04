"""bpy.ops.in2n.extract_mesh: a mesh of an edit in its colours, brought into the scene."""

from __future__ import annotations

import bpy

from ...link.requests import ExtractMesh
from ...workspace.layout import ORIGINAL
from .. import compare, mesh_files, regions, results, workspaces
from ..request_properties import SELECTED, argument
from ..scene_state import chosen_edit
from .job import JobOperator
from .polls import poll_capture, poll_engine, poll_queue, poll_reconstruction

SETTINGS = (  # of the request, and what the scene calls them
    ("resolution", "mesh_resolution"),
    ("watertight", "mesh_watertight"),
    ("texture", "mesh_texture"),
    ("textured_faces", "mesh_faces"),
    ("collision_faces", "mesh_collision"),
)


class IN2N_OT_extract_mesh(JobOperator, bpy.types.Operator):
    bl_description = (
        "Make a mesh with a texture of the edited scene and bring it in under the capture. A mesh of the same edit is "
        "replaced"
    )

    bl_idname = "in2n.extract_mesh"
    bl_label = "Extract Mesh"
    label = "Extract Mesh"
    undo_step = True

    edit: argument(ExtractMesh, "edit", left_out=SELECTED)
    resolution: argument(ExtractMesh, "resolution", left_out="the scene's")
    watertight: argument(ExtractMesh, "watertight", left_out="the scene's")
    texture: argument(ExtractMesh, "texture", left_out="the scene's")
    textured_faces: argument(ExtractMesh, "textured_faces", left_out="the scene's")
    collision_faces: argument(ExtractMesh, "collision_faces", left_out="the scene's")
    device: argument(ExtractMesh, "device", left_out="the scene's device")

    @classmethod
    def poll(cls, context):
        return poll_queue(cls) and poll_capture(cls, context) and poll_engine(cls) and poll_reconstruction(cls, context)

    def prepare(self, context):
        settings, given = context.scene.in2n, self.properties.is_property_set
        capture, workspace = workspaces.require(context.scene)
        edit = chosen_edit(context.scene, self.edit)
        keep = regions.kept_region(context.scene, capture, workspace)
        chosen = {name: getattr(self, name) if given(name) else getattr(settings, ours) for name, ours in SETTINGS}
        request = ExtractMesh(
            workspace=str(workspace.root),
            edit=edit,
            keep=str(keep) if keep else None,
            **chosen,
            **self.chosen(settings, "device"),
        )
        collision = workspace.collision_mesh(edit) if request.collision_faces else None

        def finish(context, scene, capture, result):
            file = mesh_files.file_of(workspace, edit)
            mesh = results.import_mesh(context, scene, capture, file, edit or ORIGINAL)
            if collision is not None:
                results.import_collision_mesh(context, scene, capture, collision, edit or ORIGINAL)
            compare.show_result(scene, edit, "MESH")
            return (
                f"Mesh of “{edit or ORIGINAL}”: {len(mesh.data.vertices):,} vertices, "
                f"{len(mesh.data.polygons):,} faces."
            )

        return [request], finish


class IN2N_OT_show_colors(bpy.types.Operator):
    """Show the colours of meshes in this viewport as they were captured, without shading"""

    bl_idname = "in2n.show_colors"
    bl_label = "Show Mesh Colors"

    @classmethod
    def poll(cls, context):
        if context.area is None or context.area.type != "VIEW_3D":
            cls.poll_message_set("Works in a 3D Viewport")
            return False
        return True

    def execute(self, context):
        shading = context.space_data.shading
        shading.type, shading.color_type, shading.light = "SOLID", "VERTEX", "FLAT"
        return {"FINISHED"}


CLASSES = (IN2N_OT_extract_mesh, IN2N_OT_show_colors)
