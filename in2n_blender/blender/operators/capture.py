"""bpy.ops.in2n.import_capture, and its places in File > Import and in drag and drop."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import BoolProperty, EnumProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from ...link.requests import ImportCapture
from ...scene.capture import PinholeCapture, pinhole_capture
from ...scene.errors import In2nError
from ...scene.lens import EQUIRECTANGULAR, shows_as_pinhole
from ...scene.presets import PRESETS
from ...scene.readers import SUFFIXES
from ...scene.readers import read as read_capture
from ...scene.reporting import Progress, Reporter
from .. import advice, captured_objects, full_photos, paths, photos, views, workspaces
from ..request_properties import argument
from ..scene_state import active_capture, children
from .polls import poll_capture, poll_idle

SHOWN_MISSING = 20  # names in the popup


WORKSPACE = dict(
    name="Workspace",
    description="The folder for the reconstruction and its edits; left out: beside the .blend file",
    subtype="DIR_PATH",
    options={"SKIP_SAVE", "HIDDEN"},
)


def workspace_folder(argument: str, name: str, source: str) -> Path:
    """The workspace of a capture that is imported.

    Args:
        argument: The folder that the operator was given; "": a new one.
        name: The capture's.
        source: What it is imported from.
    """
    return Path(bpy.path.abspath(argument)) if argument else workspaces.new_workspace(name, source)


class IN2N_OT_import_capture(bpy.types.Operator, ImportHelper):
    bl_description = (
        "Import a capture (photos with cameras of nerfstudio, COLMAP, Metashape, RealityScan, Polycam or another "
        "program, or a .zip of these) as cameras under one Empty, with the photos behind them"
    )

    bl_idname = "in2n.import_capture"
    bl_label = "Import Capture"
    bl_options = {"REGISTER", "UNDO", "PRESET"}

    filename_ext = ".json"
    filter_glob: StringProperty(default=";".join(f"*{suffix}" for suffix in SUFFIXES), options={"HIDDEN"})

    filepath: StringProperty(
        name="Path",
        description="A capture's folder, the file that lists its cameras, or a .zip of both",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    preset: argument(ImportCapture, "preset", left_out="the scene's preset")
    hold_out_every: argument(ImportCapture, "hold_out_every")
    outside_photos: argument(ImportCapture, "outside_photos")
    workspace: StringProperty(**WORKSPACE)
    show_photos: BoolProperty(name="Photos", description="Show the photos behind their cameras", default=True)

    @classmethod
    def poll(cls, context):
        return poll_idle(cls)

    def invoke(self, context, event):
        if self.filepath:  # dropped into the window
            return self.execute(context)
        self.preset = context.scene.in2n.preset
        return ImportHelper.invoke(self, context, event)

    def draw(self, context):
        self.layout.use_property_split = True
        self.layout.prop(self, "preset")
        self.layout.prop(self, "hold_out_every")
        self.layout.prop(self, "show_photos")
        self.layout.prop(self, "outside_photos")

    def execute(self, context):
        scene = context.scene
        settings = scene.in2n
        preset = self.preset if self.properties.is_property_set("preset") else settings.preset
        try:
            source = Path(bpy.path.abspath(self.filepath)).expanduser().resolve()
            capture = read_capture(source, _shown_by_the_cursor(context), self.outside_photos)
            pinhole = pinhole_capture(capture, PRESETS[preset].longest_side, self.hold_out_every, preset)
            if not pinhole.views:
                raise In2nError(
                    "no_photos",
                    f"None of the {len(capture.missing)} photos of “{capture.name}” was found.",
                    "Put the photos where the capture's file says.",
                )
        except In2nError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        shown = {f.name: f.photo for f in capture.frames if self.show_photos and f.lens.model != EQUIRECTANGULAR}
        folder = workspace_folder(self.workspace, capture.name, pinhole.source)
        empty = bring_in(context, scene, pinhole, shown, source, folder, self.hold_out_every)
        empty.in2n.outside_photos = self.outside_photos
        _remember_originals(empty, capture)
        settings.tell(summary(pinhole), about="Import")
        self.report({"INFO"}, settings.status)
        for note in pinhole.notes:
            self.report({"WARNING"}, note)
        return {"FINISHED"}


def _shown_by_the_cursor(context) -> Reporter:
    """What is told of a .zip's unpacking, while the window waits for it."""
    manager = context.window_manager

    def tell(event) -> None:
        if not isinstance(event, Progress):
            return
        if event.done >= event.total:
            manager.progress_end()
            return
        manager.progress_begin(0, 100)
        manager.progress_update(100 * event.done // event.total)

    return Reporter(tell)


def bring_in(context, scene, pinhole: PinholeCapture, photos: dict[str, Path], source: Path, folder: Path, every: int):
    """Put a capture in the scene, make it the active one, and turn the artist's view to it.

    Args:
        context: Blender's.
        scene: Where to.
        pinhole: The capture.
        photos: Files shown behind the cameras, by the view's name.
        source: What it was read from.
        folder: Its workspace.
        every: Of how many photos one is held out.

    Returns:
        The capture's Empty.
    """
    settings = scene.in2n
    empty = captured_objects.add_capture(scene, pinhole, photos)
    empty.in2n.source, empty.in2n.preset, empty.in2n.missing = str(source), pinhole.preset, len(pinhole.missing)
    empty.in2n.masks = sum(bool(view.mask) for view in pinhole.views)
    empty.in2n.hold_out_every, empty.in2n.notes = every, "\n".join(pinhole.notes)
    empty.in2n.split_changed = False
    advice.note(empty, pinhole)
    workspaces.remember(empty, folder)
    settings.capture, settings.capture_path, settings.preset = empty, str(source), pinhole.preset
    _show(context, empty, pinhole)
    workspaces.sync_edits(scene)
    return empty


def _remember_originals(empty, capture) -> None:
    """Note on the cameras which photos fit them as they are, at their full size."""
    fitting = {lens: shows_as_pinhole(lens) for lens in {frame.lens for frame in capture.frames}}
    originals = {f.name: f.photo for f in capture.frames if fitting[f.lens] and f.orientation == 1}
    for camera in children(empty, "CAMERA"):
        if camera.in2n.photo in originals:
            camera.in2n.original = paths.stored(originals[camera.in2n.photo])


def _show(context, empty, pinhole) -> None:
    """Turn the artist's view to the capture, in its colours. Of the scene nothing changes: no camera, no resolution."""
    context.view_layer.update()
    views.widen_clipping(captured_objects.extent_of(pinhole))
    views.show_colors(context)
    area = views.main_area(context)
    if area is not None:
        points, positions = captured_objects.places(empty, pinhole)
        views.frame(area, points, positions)


def summary(pinhole) -> str:
    """What was imported, in one line.

    Args:
        pinhole: The imported `PinholeCapture`.
    """
    sizes = {(v.camera.intrinsics.width, v.camera.intrinsics.height) for v in pinhole.views}
    size = "{} x {}".format(*next(iter(sizes))) if len(sizes) == 1 else f"{len(sizes)} different sizes"
    parts = [f"{len(pinhole.views)} photos ({size})"]
    if pinhole.missing:
        parts.append(f"{len(pinhole.missing)} missing")
    masks = sum(bool(view.mask) for view in pinhole.views)
    if masks:
        parts.append(f"{masks} masks")
    if len(pinhole.points):
        parts.append(f"{len(pinhole.points):,} points")
    return f"Imported “{pinhole.name}”: {', '.join(parts)}."


class IN2N_OT_look_through(bpy.types.Operator):
    """Look through a photo's camera in this view. The scene's camera and resolution stay as they are"""

    bl_idname = "in2n.look_through"
    bl_label = "Look Through Photo"
    bl_options = {"REGISTER"}

    direction: EnumProperty(
        name="Direction",
        description="Which photo: the one looked through last, or the one before or after it in the capture",
        items=(
            ("PREVIOUS", "Previous", "The photo before"),
            ("CURRENT", "Current", "The photo looked through last, or the first"),
            ("NEXT", "Next", "The photo after"),
        ),
        default="NEXT",
    )

    @classmethod
    def poll(cls, context):
        return poll_capture(cls, context)

    def execute(self, context):
        scene = context.scene
        capture = active_capture(scene)
        try:
            camera = photos.chosen(scene, capture)
        except In2nError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if scene.in2n.photo == camera.in2n.photo:  # else none was looked through yet: it is the first
            found = children(capture, "CAMERA")
            step = {"PREVIOUS": -1, "CURRENT": 0, "NEXT": 1}[self.direction]
            camera = found[(found.index(camera) + step) % len(found)]
        photos.look_through(views.main_area(context), scene, camera)
        full_photos.ask_for(scene, camera)
        return {"FINISHED"}


class IN2N_OT_back_to_shot(bpy.types.Operator):
    """Look through the scene's own camera again, and render from it"""

    bl_idname = "in2n.back_to_shot"
    bl_label = "Back to Shot Camera"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context):
        photos.look_at_shot(views.main_area(context), context.scene)
        return {"FINISHED"}


class IN2N_OT_show_missing(bpy.types.Operator):
    """List the photos that the capture names and that were not found or cannot be used"""

    bl_idname = "in2n.show_missing"
    bl_label = "Missing Photos"

    @classmethod
    def poll(cls, context):
        if not poll_capture(cls, context):
            return False
        if not active_capture(context.scene).in2n.missing:
            cls.poll_message_set("No photo is missing")
            return False
        return True

    def execute(self, context):
        try:
            of = active_capture(context.scene).in2n
            capture = read_capture(Path(bpy.path.abspath(of.source)), outside_photos=of.outside_photos)
        except In2nError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        missing = [*capture.missing, *(f"{name}: {why}" for name, why in capture.unusable.items())]
        self.report({"WARNING"}, f"{len(missing)} photos are missing: {', '.join(missing)}")

        def draw(popup, context):
            for name in missing[:SHOWN_MISSING]:
                popup.layout.label(text=name, translate=False)
            if len(missing) > SHOWN_MISSING:
                popup.layout.label(text=f"… {len(missing) - SHOWN_MISSING} more", translate=False)

        if not bpy.app.background:
            context.window_manager.popup_menu(draw, title=self.bl_label, icon="ERROR")
        return {"FINISHED"}


class IN2N_FH_capture(bpy.types.FileHandler):
    """Dropping the file that lists a capture's cameras, or a .zip, into the 3D Viewport imports the capture."""

    bl_idname = "IN2N_FH_capture"
    bl_label = "Capture (IN2N)"
    bl_import_operator = "in2n.import_capture"
    bl_file_extensions = ";".join(SUFFIXES)

    @classmethod
    def poll_drop(cls, context):
        return context.area is not None and context.area.type == "VIEW_3D"


def _menu_entry(self, context):
    self.layout.operator(IN2N_OT_import_capture.bl_idname, text="Capture for Editing (IN2N)")


CLASSES = (
    IN2N_OT_import_capture,
    IN2N_OT_look_through,
    IN2N_OT_back_to_shot,
    IN2N_OT_show_missing,
    IN2N_FH_capture,
)


def attach() -> None:
    """Add the import to File > Import."""
    bpy.types.TOPBAR_MT_file_import.append(_menu_entry)


def detach() -> None:
    """Take the import out of File > Import."""
    bpy.types.TOPBAR_MT_file_import.remove(_menu_entry)
