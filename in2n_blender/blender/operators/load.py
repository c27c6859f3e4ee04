"""bpy.ops.in2n.load_frames and load_mesh: bring in what was made of an edit before."""

from __future__ import annotations

import bpy
from bpy.props import EnumProperty, StringProperty

from ...link.requests import ExtractMesh, RenderPath
from ...scene.errors import In2nError
from ...workspace.layout import ORIGINAL
from .. import compare, mesh_files, plates, results, workspaces
from ..request_properties import SELECTED, argument
from ..scene_state import chosen_edit
from .polls import poll_capture, poll_idle

PLATES = (
    ("IMAGES", "Camera Background", "Images behind or before what the scene's camera sees", "CAMERA_DATA", 0),
    ("CLIP", "Movie Clip", "A movie clip behind or before what the scene's camera sees", "TRACKER", 1),
    ("COMPOSITOR", "Compositor", "An Image node; in an empty compositor, behind the render", "NODE_COMPOSITING", 2),
    ("SEQUENCER", "Sequencer", "A strip of images, one for every edit, so that they can be compared", "SEQUENCE", 3),
)


class _Load:
    """Brings in what was made earlier; no engine is needed."""

    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return poll_idle(cls) and poll_capture(cls, context)

    def execute(self, context):
        try:
            capture, workspace = workspaces.require(context.scene)
            self.report({"INFO"}, self.load(context, capture, workspace, chosen_edit(context.scene, self.edit)))
        except In2nError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class IN2N_OT_load_frames(_Load, bpy.types.Operator):
    """Show frames that were rendered before, in step with the timeline"""

    bl_idname = "in2n.load_frames"
    bl_label = "Load Frames"

    edit: argument(RenderPath, "edit", left_out=SELECTED)
    name: StringProperty(
        name="Path Name", description="The camera path's name; left out: the path rendered last", options={"SKIP_SAVE"}
    )
    kind: EnumProperty(name="As", description="As what frames are shown", items=PLATES, options={"SKIP_SAVE"})

    def load(self, context, capture, workspace, edit):
        paths = results.rendered_paths(workspace, edit)
        if not paths or (self.name and self.name not in paths):
            raise In2nError("no_frames", f"No frames of “{edit or ORIGINAL}” were rendered yet.", "Render them first.")
        name = self.name or list(paths)[-1]
        folder = workspace.renders(edit, name)
        said = plates.load(context.scene, self.kind, folder, edit or ORIGINAL, name, paths[name])
        compare.show_result(context.scene, edit)
        return said


class IN2N_OT_load_mesh(_Load, bpy.types.Operator):
    """Bring in the mesh that was made of the edit before, under the capture"""

    bl_idname = "in2n.load_mesh"
    bl_label = "Load Mesh"

    edit: argument(ExtractMesh, "edit", left_out=SELECTED)

    def load(self, context, capture, workspace, edit):
        file = mesh_files.file_of(workspace, edit)
        if not file.is_file():
            raise In2nError("no_mesh", f"No mesh of “{edit or ORIGINAL}” was made yet.", "Extract it first.")
        mesh = results.import_mesh(context, context.scene, capture, file, edit or ORIGINAL)
        compare.show_result(context.scene, edit, "MESH")
        return f"Mesh of “{edit or ORIGINAL}”: {len(mesh.data.vertices):,} vertices."


CLASSES = (IN2N_OT_load_frames, IN2N_OT_load_mesh)
