"""Operators and the scene's settings take label, help, limits, choices and default from the requests, and read as
Blender's own do."""

import re

import bpy
import pytest

from in2n_blender.blender import registration
from in2n_blender.blender.request_properties import DEVICE_ITEMS, tooltip
from in2n_blender.link.request_fields import setting_of
from in2n_blender.link.requests import (
    DEVICES,
    Edit,
    ExportDataset,
    ExtractMesh,
    ImportCapture,
    MakeSplats,
    PreviewGrid,
    Reconstruct,
    RenderPath,
)

OPERATORS = {
    "edit": Edit,
    "preview": PreviewGrid,
    "reconstruct": Reconstruct,
    "render_path": RenderPath,
    "extract_mesh": ExtractMesh,
    "export_dataset": ExportDataset,
    "make_splats": MakeSplats,
    "import_capture": ImportCapture,
}
SCENE = {
    "preset": (Reconstruct, "preset"),
    "device": (Reconstruct, "device"),
    "seed": (Edit, "seed"),
    "appearance": (Reconstruct, "appearance"),
    "refine_cameras": (Reconstruct, "refine_cameras"),
    "instruction": (Edit, "instruction"),
    "editor": (Edit, "editor"),
    "guidance_text": (Edit, "guidance_text"),
    "guidance_image": (Edit, "guidance_image"),
    "mesh_resolution": (ExtractMesh, "resolution"),
    "mesh_watertight": (ExtractMesh, "watertight"),
    "mesh_texture": (ExtractMesh, "texture"),
    "mesh_faces": (ExtractMesh, "textured_faces"),
    "mesh_collision": (ExtractMesh, "collision_faces"),
    "dataset_format": (ExportDataset, "format"),
    "most_splats": (MakeSplats, "splats"),
    "splats_background": (MakeSplats, "background"),
}
SMALL = {"a", "an", "and", "as", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"}


def own_properties():
    """(class, property) of all that the extension registers, without what Blender adds."""
    for cls in registration.CLASSES:
        operator = issubclass(cls, bpy.types.Operator)
        if operator or issubclass(cls, (bpy.types.PropertyGroup, bpy.types.AddonPreferences)):
            rna = getattr(bpy.ops.in2n, cls.bl_idname.split(".")[1]).get_rna_type() if operator else cls.bl_rna
            for name in set(cls.__annotations__) - {"filter_glob"}:
                yield cls, rna.properties[name]


def check_limits(shown, request, field):
    setting = setting_of(request, field)
    assert shown.name == setting.label
    assert shown.description.lower().startswith(setting.help.partition(" (default")[0].lower())
    if shown.type in ("INT", "FLOAT"):
        assert shown.hard_max == setting.high
        assert shown.hard_min in (setting.low, 0)
    if setting.choices:
        assert tuple(shown.enum_items.keys()) == setting.choices


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operators_argument_is_the_requests(extension, operator):
    request = OPERATORS[operator]
    properties = getattr(bpy.ops.in2n, operator).get_rna_type().properties
    shared = [name for name in request.__dataclass_fields__ if name in properties and name != "workspace"]
    assert shared
    for name in shared:
        check_limits(properties[name], request, name)


def test_a_scenes_setting_is_the_requests(scene):
    for name, (request, field) in SCENE.items():
        check_limits(scene.in2n.bl_rna.properties[name], request, field)
    scene.in2n.mesh_resolution = 5000
    assert scene.in2n.mesh_resolution == 1024
    properties = bpy.ops.in2n.edit.get_rna_type().properties
    assert properties["seed"].hard_max == 2**31 - 1
    assert properties["rounds"].hard_min == 0 and properties["rounds"].description.endswith(
        "; 0: once by agreement, else the preset's"
    )


def test_devices_offered_are_ones_that_a_request_takes():
    assert all(re.fullmatch(DEVICES, name) for name, *_ in DEVICE_ITEMS)


def test_a_tooltip_says_what_holds_where_nothing_is_set():
    assert tooltip("how often (default: the preset's)", int) == "How often; 0: the preset's"
    assert tooltip("which edit (default: the unedited one)") == "Which edit; left out: the unedited one"
    assert (
        tooltip("which edit (default: none)", left_out="the selected one") == "Which edit; left out: the selected one"
    )
    assert tooltip("a name") == "A name"


def title_case(text: str) -> bool:
    words = re.findall(r"[^\W\d_][\w’']*", text)
    return all(word[0].isupper() or (word in SMALL and index > 0) for index, word in enumerate(words))


def test_labels_are_in_title_case_and_tooltips_end_without_a_full_stop(extension):
    labels = {f"{cls.__name__}.{shown.identifier}": shown.name for cls, shown in own_properties()}
    labels |= {cls.__name__: cls.bl_label for cls in registration.CLASSES if getattr(cls, "bl_label", "")}
    assert len(labels) > 100
    assert {where: label for where, label in labels.items() if not title_case(label)} == {}
    assert [shown.identifier for _, shown in own_properties() if shown.description.endswith(".")] == []


def test_a_2d_editor_is_called_a_model(extension):
    texts = [text for _, shown in own_properties() for text in (shown.name, shown.description)]
    texts += [cls.bl_rna.description for cls in registration.CLASSES]
    assert [text for text in texts if "editor" in text.replace("Text Editor", "").lower()] == []


LAST_VERSION = """
capture workspace capture_path preset device seed appearance refine_cameras instruction editor editor_folder
use_default_guidance guidance_text guidance_image edits active_edit shown shown_edit preview mesh_resolution status
status_of
""".split()


def test_files_and_scripts_of_the_last_version_keep_their_settings(scene):
    """A .blend stores a property by its identifier and a choice by its number."""
    properties = scene.in2n.bl_rna.properties
    assert set(LAST_VERSION) <= set(properties.keys())
    stored = {name: {i.identifier: i.value for i in properties[name].enum_items} for name in ("editor", "preset")}
    assert {"miniature": 0, "timbrooks/instruct-pix2pix": 1, "folder": 2}.items() <= stored["editor"].items()
    assert sorted(stored["editor"].values()) == list(range(len(stored["editor"])))
    assert stored["preset"] == {"draft": 0, "standard": 1, "full": 2}
    assert properties["device"].enum_items.keys() == ["auto", "cpu", "cuda", "mps"]
    arguments = bpy.ops.in2n.edit.get_rna_type().properties.keys()
    for name in (
        "instruction",
        "name",
        "editor",
        "guidance_text",
        "guidance_image",
        "seed",
        "preset",
        "rounds",
        "parent",
    ):
        assert name in arguments
