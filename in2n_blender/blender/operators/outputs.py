"""bpy.ops.in2n.show_output, export_output, mark_output and export_dataset: what was made of an edit, seen and handed
on."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import BoolProperty, EnumProperty, StringProperty

from ...link.requests import ExportDataset, ExtractMesh
from ...scene.errors import In2nError
from ...workspace.layout import ORIGINAL
from .. import compare, exporting, outputs, results, splats, workspaces
from ..request_properties import SELECTED, argument
from ..scene_state import children, chosen_edit
from .job import JobOperator, photos_first
from .polls import poll_capture, poll_engine, poll_idle, poll_queue, poll_workspace

SHOWN_AS = (outputs.MESH, outputs.SPLATS)  # of which one hides the other
BRING_IN = {
    outputs.MESH: results.import_mesh,
    outputs.COLLISION: results.import_collision_mesh,
    outputs.SPLATS: splats.import_splats,
}


class _OfOutput:
    """What is done to something that was made before; no engine is needed."""

    kind: EnumProperty(name="Kind", description="What of it", items=outputs.ITEMS, options={"SKIP_SAVE"})
    edit: argument(ExtractMesh, "edit", left_out=SELECTED)

    @classmethod
    def poll(cls, context):
        return poll_idle(cls) and poll_capture(cls, context)

    def found(self, context) -> tuple[object, outputs.Output]:
        """The capture's Empty and the output; raises In2nError where there is none."""
        capture, workspace = workspaces.require(context.scene)
        edit = chosen_edit(context.scene, self.edit)
        output = outputs.find(workspace, edit, self.kind)
        if output is None:
            label = next(label for kind, label, *_ in outputs.ITEMS if kind == self.kind).lower()
            raise In2nError("no_output", f"No {label} of “{edit or ORIGINAL}” was made yet.", "Make it first.")
        return capture, output

    def execute(self, context):
        try:
            self.report({"INFO"}, self.act(context, *self.found(context)))
        except In2nError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class IN2N_OT_show_output(_OfOutput, bpy.types.Operator):
    """Show this in the scene, and the pictures of its edit behind the photos' cameras"""

    bl_idname = "in2n.show_output"
    bl_label = "Show"
    bl_options = {"REGISTER", "UNDO"}

    def act(self, context, capture, output: outputs.Output) -> str:
        if output.kind == outputs.DATASET:
            compare.show_result(context.scene, output.edit)
            if context.area is not None and context.area.type == "VIEW_3D":
                bpy.ops.in2n.look_through(direction="CURRENT")
            return f"{output.parts or 0} pictures of “{output.edit or ORIGINAL}”."
        shown = _in_scene(context, capture, output)
        compare.show_result(context.scene, output.edit, output.kind if output.kind in SHOWN_AS else "")
        return f"{shown.name}: {output.described()}."


class IN2N_OT_export_output(_OfOutput, bpy.types.Operator):
    """Write this to a file for another program, as it lies in the scene and in the scene's units"""

    bl_idname = "in2n.export_output"
    bl_label = "Export"
    bl_options = {"REGISTER"}

    filepath: StringProperty(name="File", description="The file to write", subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default="*.glb;*.obj;*.ply;*.usd;*.usdc;*.usda;*.spz", options={"HIDDEN"})
    check_existing: BoolProperty(
        name="Check Existing", description="Ask before a file is replaced", default=True, options={"HIDDEN"}
    )
    format: EnumProperty(name="Format", description="What other program it is for", items=exporting.FORMATS)
    splats_format: EnumProperty(
        name="Format", description="What the splats are written as", items=exporting.SPLAT_FORMATS
    )

    def invoke(self, context, event):
        if not self.filepath:
            self.filepath = f"{self.edit or ORIGINAL} {self.kind.lower()}{self._suffix()}"
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def check(self, context):
        wanted = str(Path(self.filepath).with_suffix(self._suffix()))
        if not self.filepath or self.filepath.endswith(("/", "\\")) or wanted == self.filepath:
            return False
        self.filepath = wanted
        return True

    def _suffix(self) -> str:
        form = self.splats_format if self.kind == outputs.SPLATS else self.format
        return f".{form.lower()}"

    def draw(self, context):
        self.layout.use_property_split = True
        self.layout.prop(self, "splats_format" if self.kind == outputs.SPLATS else "format")

    def act(self, context, capture, output: outputs.Output) -> str:
        if not self.filepath:
            raise In2nError("no_file", "No file was chosen.", "Choose where it is to be written.")
        path = Path(bpy.path.abspath(self.filepath))
        path = path if path.suffix else path.with_suffix(self._suffix())
        if output.kind == outputs.SPLATS:
            exporting.export_splats(context, capture, output.file, path)
        else:
            form = exporting.format_of(path, self.format)
            exporting.export_mesh(context, _in_scene(context, capture, output), path, form)
        return f"Written: {path}."


class IN2N_OT_mark_output(_OfOutput, bpy.types.Operator):
    """Mark this as an asset, with its picture and the edit's instruction, so that the Asset Browser offers it"""

    bl_idname = "in2n.mark_output"
    bl_label = "Mark as Asset"
    bl_options = {"REGISTER", "UNDO"}

    def act(self, context, capture, output: outputs.Output) -> str:
        if output.kind == outputs.DATASET:
            raise In2nError("no_object", "A dataset is no object, so it is no asset.", "Mark its mesh or its splats.")
        marked = _in_scene(context, capture, output)
        marked.asset_mark()
        edits = context.scene.in2n.edits
        marked.asset_data.description = edits[output.edit].instruction if output.edit else capture.name
        if "IN2N" not in marked.asset_data.tags:
            marked.asset_data.tags.new("IN2N")
        if output.picture is not None:
            with context.temp_override(id=marked):
                bpy.ops.ed.lib_id_load_custom_preview(filepath=str(output.picture))
        elif not bpy.app.background:
            marked.asset_generate_preview()
        return f"“{marked.name}” is an asset of this file."


def _in_scene(context, capture, output: outputs.Output):
    """The output's object, brought in where it is not there, and where the file was made anew since."""
    edit = output.edit or ORIGINAL
    known = (o for o in children(capture, output.kind) if o.in2n.edit == edit and not o.in2n.quick)
    current = next((o for o in known if results.is_as_on_disk(o, output.file)), None)
    return current or BRING_IN[output.kind](context, context.scene, capture, output.file, edit)


class IN2N_OT_export_dataset(JobOperator, bpy.types.Operator):
    bl_description = (
        "Write the pictures of the edit, or the photos, with their cameras, so that any other trainer can go on with "
        "them: nerfstudio, Gaussian splatting, COLMAP"
    )

    bl_idname = "in2n.export_dataset"
    bl_label = "Export Dataset"
    label = "Export Dataset"

    edit: argument(ExportDataset, "edit", left_out=SELECTED)
    format: argument(ExportDataset, "format", left_out="the scene's")
    directory: StringProperty(
        name="Folder",
        description="Where to; left out: beside the other results, in the workspace",
        subtype="DIR_PATH",
        options={"SKIP_SAVE"},
    )
    filter_folder: BoolProperty(
        name="Folders", description="Show folders in the file browser", default=True, options={"HIDDEN"}
    )
    choose_folder: BoolProperty(
        name="Choose Folder", description="Ask for the folder", default=False, options={"SKIP_SAVE", "HIDDEN"}
    )

    @classmethod
    def poll(cls, context):
        return poll_queue(cls) and poll_capture(cls, context) and poll_engine(cls) and poll_workspace(cls, context)

    def invoke(self, context, event):
        if not self.choose_folder or self.directory:
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def prepare(self, context):
        capture, workspace = workspaces.require(context.scene)
        edit = chosen_edit(context.scene, self.edit)
        chosen = self.format if self.properties.is_property_set("format") else context.scene.in2n.dataset_format
        out = bpy.path.abspath(self.directory) if self.directory else None
        request = ExportDataset(workspace=str(workspace.root), edit=edit, format=chosen, out=out)

        def finish(context, scene, capture, result):
            return f"Dataset of “{edit or ORIGINAL}”: {result['views']} pictures in {result['folder']}."

        return [*photos_first(capture, workspace), request], finish


CLASSES = (IN2N_OT_show_output, IN2N_OT_export_output, IN2N_OT_mark_output, IN2N_OT_export_dataset)
