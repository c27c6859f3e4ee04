"""What a .blend remembers: settings of a scene, its edits, and the markers on objects that belong to a capture."""

from __future__ import annotations

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    IntVectorProperty,
    PointerProperty,
    StringProperty,
)

from ..link.requests import Edit, ExportDataset, ExtractMesh, ImportCapture, MakeSplats, Reconstruct
from ..models.catalogue import INSTRUCT_PIX2PIX
from ..scene.errors import In2nError
from . import compare, edit_list, instructions, jobs, machines, plates, render_settings, workspaces
from .jobs import busy
from .request_properties import MODEL_ITEMS, from_request

MOST_TOLD = 24  # sentences about jobs that a scene keeps
SHOWN_ITEMS = (
    ("BEFORE", "Before", "The capture as it was photographed"),
    ("AFTER", "After", "The edit that is selected in the list"),
)
DEPTH_ITEMS = (
    ("BACK", "Back", "Behind the scene's objects, as a plate"),
    ("FRONT", "Front", "Before the scene's objects, which they hide"),
)
ROLE_ITEMS = (
    ("NONE", "None", "Not part of a capture"),
    ("CAPTURE", "Capture", "The Empty that places a capture in the scene"),
    ("CAMERA", "Camera", "A photo's camera"),
    ("POINTS", "Points", "The capture's sparse points"),
    ("MESH", "Mesh", "A mesh extracted from the reconstruction or an edit"),
    ("COLLISION", "Collision Mesh", "A closed mesh of few faces, made beside a mesh"),
    ("SPLATS", "Splats", "Gaussian splats made of the reconstruction or an edit"),
)


def _is_capture(_self, candidate) -> bool:
    return candidate.in2n.role == "CAPTURE"


def _may_be_region(scene_settings, candidate) -> bool:
    scene = scene_settings.id_data
    return candidate.type == "MESH" and candidate.in2n.role == "NONE" and scene.objects.get(candidate.name) == candidate


def _split_changed(marker, _context) -> None:
    marker.split_changed = True


class In2nObject(bpy.types.PropertyGroup):
    """The marker on an object that belongs to a capture; which fields are used depends on the role."""

    role: EnumProperty(
        name="Role", description="What the object is in a capture", items=ROLE_ITEMS, default="NONE", options={"HIDDEN"}
    )
    # CAPTURE
    source: StringProperty(
        name="Source",
        description="The folder or file that the capture was imported from",
        subtype="FILE_PATH",
        options={"HIDDEN"},
    )
    preset: StringProperty(
        name="Preset", description="The preset that the cameras' resolution was chosen by", options={"HIDDEN"}
    )
    workspace: StringProperty(
        name="Workspace",
        description="The folder of the reconstruction and its edits, relative to the .blend file where it can be",
        options={"HIDDEN"},
    )
    workspace_absolute: StringProperty(
        name="Workspace (Absolute)",
        description="Where the workspace was when it was chosen; used when it is not found beside the .blend file",
        options={"HIDDEN"},
    )
    workspace_made: BoolProperty(
        name="Workspace Made",
        description="Whether the workspace has been on disk; where it is not any more, it is missing",
        options={"HIDDEN"},
    )
    missing: IntProperty(
        name="Missing Photos", description="How many photos the capture lists that are not there", options={"HIDDEN"}
    )
    points_shown: BoolProperty(
        name="Points Shown", description="The capture's sparse points became an object once", options={"HIDDEN"}
    )
    masks: IntProperty(
        name="Masks", description="How many photos come with a mask of what is to be left alone", options={"HIDDEN"}
    )
    advice: StringProperty(
        name="What Would Improve It",
        description="As told from the cameras alone, a line each, before the photos themselves are measured",
        options={"HIDDEN"},
    )
    notes: StringProperty(
        name="Notes", description="What the import found in the capture, a line each", options={"HIDDEN"}
    )
    hold_out_every: from_request(ImportCapture, "hold_out_every", options={"HIDDEN"}, update=_split_changed)
    split_changed: BoolProperty(
        name="Split Changed",
        description="Other photos are to be held out than those in the workspace are",
        options={"HIDDEN"},
    )
    video_frames: from_request(ImportCapture, "video_frames", options={"HIDDEN"})
    outside_photos: from_request(ImportCapture, "outside_photos", options={"HIDDEN"})
    # CAMERA
    original: StringProperty(
        name="Original",
        description="The photo's file where it fits the camera as it is, undistorted; empty: it does not",
        options={"HIDDEN"},
    )
    full: StringProperty(
        name="Full Size",
        description="The photo undistorted at its full size, where that was made; empty: it was not",
        options={"HIDDEN"},
    )
    photo: StringProperty(name="Photo", description="The photo's name in the capture", options={"HIDDEN"})
    held_out: BoolProperty(
        name="Held Out", description="This photo is not trained on; it is kept for measuring", options={"HIDDEN"}
    )
    image_size: IntVectorProperty(
        name="Image Size",
        description="Width and height of the capture's undistorted photo in pixels",
        size=2,
        options={"HIDDEN"},
    )
    intrinsics: FloatVectorProperty(
        name="Intrinsics",
        description="fx, fy, cx, cy of the capture in pixels of the undistorted photo",
        size=4,
        precision=4,
        options={"HIDDEN"},
    )
    # MESH
    edit: StringProperty(name="Edit", description="The edit that this was made of", options={"HIDDEN"})
    quick: BoolProperty(
        name="Quick", description="This mesh was made unasked, only to look at: it never renders", options={"HIDDEN"}
    )


def _title(edit) -> str:
    return edit.name


def _set_title(edit, title: str) -> None:
    """Renaming in the list. A setter cannot report, so the panel's status says why a name was refused."""
    scene = edit.id_data
    try:
        if busy():
            raise In2nError(
                "busy", "An edit cannot be renamed while a job is running.", "Wait for it to end or cancel it."
            )
        edit_list.rename(scene, edit.name, title.strip())
        scene.in2n.tell("", "Rename Edit")
    except In2nError as error:
        scene.in2n.tell(str(error), "Rename Edit", failed=True)


class In2nEdit(bpy.types.PropertyGroup):
    """One edit of the active capture's workspace, as its edit.json tells."""

    title: StringProperty(
        name="Name",
        description="The edit's name; double-click to rename it",
        get=_title,
        set=_set_title,
        options={"SKIP_SAVE"},
    )
    name: StringProperty(name="Name", description="The edit's name and its folder in the workspace", options={"HIDDEN"})
    instruction: StringProperty(
        name="Instruction", description="The instruction that this edit follows", options={"HIDDEN"}
    )


def _workspace(scene_settings) -> str:
    folder = workspaces.workspace_of(scene_settings.id_data)
    return str(folder) if folder else ""


def _suggest_instructions(scene_settings, _context, typed: str) -> list[str]:
    found = dict.fromkeys([*instructions.history(), *instructions.suggestions(scene_settings.editor_id())])
    return [text for text in found if typed.casefold() in text.casefold()]


def _show_chosen(scene_settings, _context) -> None:
    compare.show_chosen(scene_settings.id_data)


def _show_again(scene_settings, _context) -> None:
    compare.show_chosen(scene_settings.id_data, force=True)


def _set_depth(scene_settings, _context) -> None:
    plates.set_depth(scene_settings.id_data)


def _remember_whose_status(scene_settings, _context) -> None:
    scene_settings.status_of = jobs.current().label if jobs.current() else ""


class In2nTold(bpy.types.PropertyGroup):
    """How a job ended, in a sentence that stays in its step of the sidebar."""

    about: StringProperty(name="About", description="The job's label", options={"HIDDEN"})
    sentence: StringProperty(name="Sentence", description="How the job ended", options={"HIDDEN"})
    failed: BoolProperty(name="Failed", description="Whether it ended by an error", options={"HIDDEN"})
    unread: BoolProperty(name="Unread", description="Whether it ended after the artist's last look", options={"HIDDEN"})


class In2nScene(bpy.types.PropertyGroup):
    """The settings of a scene (`scene.in2n`)."""

    capture: PointerProperty(
        name="Capture",
        description="The capture that the buttons below work on",
        type=bpy.types.Object,
        poll=_is_capture,
    )
    workspace: StringProperty(
        name="Workspace",
        description="The folder of the active capture's reconstruction, edits and results",
        get=_workspace,
    )

    capture_path: StringProperty(
        name="Path", description="A capture's folder, or the file that lists its cameras", subtype="FILE_PATH"
    )
    preset: from_request(Reconstruct, "preset")
    computer: EnumProperty(
        name="Computer", description="Where the engine runs: the preferences list other machines", items=machines.items
    )
    device: from_request(Reconstruct, "device")
    seed: from_request(Edit, "seed")
    editing_method: from_request(Edit, "editing_method")
    appearance: from_request(Reconstruct, "appearance")
    refine_cameras: from_request(Reconstruct, "refine_cameras")

    instruction: from_request(Edit, "instruction", search=_suggest_instructions, search_options={"SUGGESTION"})
    negative_prompt: from_request(Edit, "negative_prompt")
    editor: from_request(Edit, "editor", items=MODEL_ITEMS)
    memory_plan: from_request(Edit, "memory_plan")
    editor_folder: StringProperty(
        name="Model Folder",
        description="A folder with a model in the diffusers layout",
        subtype="DIR_PATH",
    )
    use_default_guidance: BoolProperty(
        name="Model Defaults", description="Use the guidance scales that the model was made for", default=True
    )
    guidance_text: from_request(
        Edit, "guidance_text", default=INSTRUCT_PIX2PIX.guidance_text, soft_min=1.0, soft_max=15.0
    )
    guidance_image: from_request(Edit, "guidance_image", default=INSTRUCT_PIX2PIX.guidance_image, soft_max=3.0)

    region: PointerProperty(
        name="Region",
        description="The object within which edits act: a box or any closed mesh; none: they act everywhere",
        type=bpy.types.Object,
        poll=_may_be_region,
    )
    kept: PointerProperty(
        name="Keep",
        description="The object within which the mesh and the splats lie: a box or any closed mesh; none: the engine "
        "finds what the photos are of",
        type=bpy.types.Object,
        poll=_may_be_region,
    )
    soft_edge: FloatProperty(
        name="Soft Edge",
        description="Width of the region's soft edge, inside of it; 0: a hard edge",
        default=0.0,
        min=0.0,
        soft_max=1.0,
        subtype="DISTANCE",
    )

    edits: CollectionProperty(name="Edits", description="The edits of the active capture's workspace", type=In2nEdit)
    active_edit: IntProperty(
        name="Active Edit",
        description="The edit that is shown and that results are made of",
        default=0,
        min=0,
        update=_show_chosen,
    )
    shown: EnumProperty(
        name="Shown",
        description="Whether photos, meshes and frames show the capture or the selected edit",
        items=SHOWN_ITEMS,
        default="BEFORE",
        update=_show_chosen,
    )
    shown_edit: StringProperty(
        name="Shown Edit", description="The edit that is shown now; empty: the unedited capture", options={"HIDDEN"}
    )
    shown_as: EnumProperty(
        name="Shown As",
        description="Whether the mesh or the splats are shown of an edit that has both",
        items=(
            ("MESH", "Mesh", "The extracted mesh is shown, the splats are hidden"),
            ("SPLATS", "Splats", "The splats are shown, the mesh is hidden"),
        ),
        default="MESH",
        options={"HIDDEN"},
    )
    photo: StringProperty(name="Photo", description="The photo that was looked through last", options={"HIDDEN"})
    frames_depth: EnumProperty(
        name="Frames",
        description="Whether rendered frames are behind or before what the cameras see",
        items=DEPTH_ITEMS,
        default="BACK",
        update=_set_depth,
    )
    preview: StringProperty(
        name="Preview",
        description="The folder of the guidance previews that the sidebar shows, in the workspace's previews",
        options={"HIDDEN"},
    )
    key_view: StringProperty(
        name="Key View",
        description="The picture of a preview that the edit begins with, in the workspace's previews",
        options={"HIDDEN"},
    )
    show_when_done: BoolProperty(
        name="Show When Done",
        description="When a reconstruction or an edit is done, show it in the 3D views as a mesh of moderate size, "
        "which never renders",
        default=True,
    )
    show_quick_mesh: BoolProperty(
        name="Quick Mesh",
        description="Show the mesh that was made unasked. It steps back for frames, which it would hide",
        default=True,
        update=_show_again,
    )
    mesh_resolution: from_request(ExtractMesh, "resolution")
    mesh_watertight: from_request(ExtractMesh, "watertight")
    mesh_texture: from_request(ExtractMesh, "texture")
    mesh_faces: from_request(ExtractMesh, "textured_faces")
    mesh_collision: from_request(ExtractMesh, "collision_faces", soft_max=5000)
    most_splats: from_request(MakeSplats, "splats", soft_min=20_000)
    splats_background: from_request(MakeSplats, "background")
    dataset_format: from_request(ExportDataset, "format")
    render: PointerProperty(name="Render", description="How the engine IN2N renders", type=render_settings.In2nRender)
    status: StringProperty(
        name="Status", description="How the last job ended", options={"HIDDEN"}, update=_remember_whose_status
    )
    status_of: StringProperty(
        name="Status Of", description="The job that the status is about; empty: none", options={"HIDDEN"}
    )

    told: CollectionProperty(name="Told", description="How each step's last jobs ended", type=In2nTold)

    def tell(self, sentence: str, about: str = "", failed: bool = False) -> None:
        """Set the status to something, and keep it in the step that it is about.

        What was told of the same job before and has been read is replaced; what is unread stays beside it.

        Args:
            sentence: What to say; "": nothing any more.
            about: The label of the job that it is about; "": of none.
            failed: Whether it says what went wrong.
        """
        self.status, self.status_of = sentence, about
        if not about:
            return
        for index in reversed(range(len(self.told))):
            if self.told[index].about == about and (not sentence or not self.told[index].unread):
                self.told.remove(index)
        if sentence:
            entry = self.told.add()
            entry.about, entry.sentence, entry.failed, entry.unread = about, sentence, failed, True
        while len(self.told) > MOST_TOLD:
            self.told.remove(0)

    def told_of(self, labels: tuple[str, ...]) -> list[In2nTold]:
        """What there is to say of a step: all that is unread, else the last.

        Args:
            labels: Of the step's jobs.

        Returns:
            In the order of their ends.
        """
        found = [entry for entry in self.told if entry.about in labels]
        return [entry for entry in found if entry.unread] or found[-1:]

    def note_read(self) -> None:
        """The artist has seen what was told: what is told next takes its place."""
        for entry in self.told:
            if entry.unread:
                entry.unread = False

    def set_editor(self, name: str) -> None:
        """Choose a model.

        Args:
            name: The model's name or folder, as the engine takes it.
        """
        if name in (item[0] for item in MODEL_ITEMS if item[0] != "folder"):
            self.editor = name
        else:
            self.editor, self.editor_folder = "folder", name

    def editor_id(self) -> str:
        """What the engine calls the chosen model: a name or a folder."""
        return bpy.path.abspath(self.editor_folder) if self.editor == "folder" else self.editor


CLASSES = (*render_settings.CLASSES, In2nObject, In2nEdit, In2nTold, In2nScene)


def attach() -> None:
    """Give objects and scenes the add-on's properties."""
    bpy.types.Object.in2n = PointerProperty(type=In2nObject)
    bpy.types.Scene.in2n = PointerProperty(type=In2nScene)


def detach() -> None:
    """Take the add-on's properties from objects and scenes."""
    del bpy.types.Scene.in2n
    del bpy.types.Object.in2n
