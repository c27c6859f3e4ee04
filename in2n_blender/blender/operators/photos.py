"""bpy.ops.in2n.import_photos: photos or a video without cameras, which the engine finds."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import StringProperty
from bpy_extras.io_utils import ImportHelper

from ...link.requests import ImportCapture
from ...scene import bare_photos
from ...scene.capture import PinholeCapture
from ...scene.errors import In2nError
from ...workspace.layout import Workspace
from ..request_properties import argument
from .capture import WORKSPACE, bring_in, summary, workspace_folder
from .job import JobOperator
from .polls import poll_engine, poll_queue

FIND_CAMERAS = "Find Cameras"


class IN2N_OT_import_photos(JobOperator, bpy.types.Operator, ImportHelper):
    bl_description = (
        "Find the cameras of photos that have none, or of a video, and import them. Choose a folder of photos, one of "
        "its photos, or a video. Cameras are seen in the viewport as they are found"
    )

    bl_idname = "in2n.import_photos"
    bl_label = "Import Photos or Video"
    bl_options = {"REGISTER"}
    label = FIND_CAMERAS
    undo_step = True

    filename_ext = ""
    filter_folder = True
    filter_glob: StringProperty(
        default=";".join(f"*{suffix}" for suffix in sorted(bare_photos.PHOTOS | bare_photos.VIDEOS)),
        options={"HIDDEN"},
    )
    filepath: StringProperty(
        name="Path",
        description="A folder of photos, one of its photos, or a video",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    preset: argument(ImportCapture, "preset", left_out="the scene's preset")
    hold_out_every: argument(ImportCapture, "hold_out_every")
    video_frames: argument(ImportCapture, "video_frames")
    workspace: StringProperty(**WORKSPACE)

    @classmethod
    def poll(cls, context):
        return poll_queue(cls) and poll_engine(cls)

    def invoke(self, context, event):
        if self.filepath:  # dropped into the window
            return self.execute(context)
        self.preset = context.scene.in2n.preset
        return ImportHelper.invoke(self, context, event)

    def draw(self, context):
        self.layout.use_property_split = True
        for name in ("preset", "hold_out_every", "video_frames"):
            self.layout.prop(self, name)

    def prepare(self, context):
        bare = bare_photos.find(Path(bpy.path.abspath(self.filepath)).expanduser().resolve())
        if bare is None:
            raise In2nError(
                "no_photos",
                f"There are neither photos nor a video in {self.filepath}.",
                "Choose a folder of photos, one of its photos, or a video.",
            )
        source = bare.video or bare.source
        folder = workspace_folder(self.workspace, source.stem or "capture", source.as_posix())
        request = ImportCapture(
            workspace=str(folder),
            source=str(source),
            hold_out_every=self.hold_out_every,
            video_frames=self.video_frames,
            **self.chosen(context.scene.in2n, "preset"),
        )

        def finish(context, scene, capture, result):
            return _bring_in(context, scene, folder, source, request)

        return [request], finish


def _bring_in(context, scene, folder: Path, source: Path, request: ImportCapture) -> str:
    workspace = Workspace(folder)
    pinhole = PinholeCapture.load(workspace.capture_json)
    photos = {view.name: workspace.photo(view.image) for view in pinhole.views}
    empty = bring_in(context, scene, pinhole, photos, source, folder, request.hold_out_every)
    empty.in2n.video_frames = request.video_frames
    return summary(pinhole)


class IN2N_FH_video(bpy.types.FileHandler):
    """Dropping a video into the 3D Viewport finds its cameras."""

    bl_idname = "IN2N_FH_video"
    bl_label = "Capture from a Video (IN2N)"
    bl_import_operator = "in2n.import_photos"
    bl_file_extensions = ";".join(sorted(bare_photos.VIDEOS))

    @classmethod
    def poll_drop(cls, context):
        return _is_shown(context)


class IN2N_FH_photos(bpy.types.FileHandler):
    """Dropping photos into a 3D Viewport whose sidebar shows IN2N finds their cameras; elsewhere they are pictures."""

    bl_idname = "IN2N_FH_photos"
    bl_label = "Capture from Photos (IN2N)"
    bl_import_operator = "in2n.import_photos"
    bl_file_extensions = ";".join(sorted(bare_photos.PHOTOS))

    @classmethod
    def poll_drop(cls, context):
        return _is_shown(context)


def _is_shown(context) -> bool:
    """Whether this is a 3D Viewport whose sidebar shows the add-on."""
    area = context.area
    if area is None or area.type != "VIEW_3D":
        return False
    sidebar = next((region for region in area.regions if region.type == "UI" and region.width > 1), None)
    return sidebar is not None and getattr(sidebar, "active_panel_category", "") == "IN2N"


def _menu_entry(self, context):
    self.layout.operator(IN2N_OT_import_photos.bl_idname, text="Photos or Video for Editing (IN2N)")


CLASSES = (IN2N_OT_import_photos, IN2N_FH_video, IN2N_FH_photos)


def attach() -> None:
    """Add the import to File > Import."""
    bpy.types.TOPBAR_MT_file_import.append(_menu_entry)


def detach() -> None:
    """Take the import out of File > Import."""
    bpy.types.TOPBAR_MT_file_import.remove(_menu_entry)
