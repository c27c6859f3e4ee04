"""Blender's properties, made from the fields of requests: label, help, limits, choices and default are written once,
there."""

from __future__ import annotations

import dataclasses
import re

from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from ..link.request_fields import Request, field_type, setting_of
from ..models.catalogue import MODELS
from ..scene.presets import PRESETS

PRESET_ITEMS = tuple(
    (p.name, p.name.capitalize(), f"Photos scaled down to at most {p.longest_side} pixels on the longer side")
    for p in PRESETS.values()
)
DEVICE_ITEMS = (
    ("auto", "Automatic", "Use the fastest device that the engine finds"),
    ("cpu", "CPU", "Use the processor only"),
    ("cuda", "CUDA", "Use an NVIDIA GPU, or an AMD GPU with a ROCm build of the engine"),
    ("mps", "Metal", "Use the GPU of an Apple computer"),
)
FOLDER_NUMBER = 2  # in every .blend that was ever saved; models that came later have higher ones
MODEL_ITEMS = (
    *(
        (model.id, model.label, model.description, number if number < FOLDER_NUMBER else number + 1)
        for number, model in enumerate(MODELS)
    ),
    ("folder", "Folder", "A model in a folder on this computer, in the diffusers layout", FOLDER_NUMBER),
)
DATASET_ITEMS = (
    ("both", "All Trainers", "nerfstudio's transforms.json and a COLMAP model beside the same pictures"),
    ("nerfstudio", "nerfstudio", "transforms.json, which instant-ngp reads, too"),
    ("colmap", "COLMAP", "A sparse model, as Gaussian splatting and many others read it"),
)
MEMORY_ITEMS = (
    ("auto", "Automatic", "The quickest way that fits what is free in the GPU's memory"),
    ("whole", "Whole", "All networks of the model in the GPU's memory at once"),
    ("offload", "Offloaded", "Only the network at work in the GPU's memory, the others in the computer's"),
    ("8-bit", "8-Bit", "Weights of 8 bits, offloaded: about half the memory, nearly the same pictures"),
    ("4-bit", "4-Bit", "Weights of 4 bits, offloaded: the least memory, slightly other pictures"),
)
ITEMS = {
    "preset": PRESET_ITEMS,
    "device": DEVICE_ITEMS,
    "memory_plan": MEMORY_ITEMS,
    "format": DATASET_ITEMS,
}  # of fields whose choices have a label and a tooltip each
SELECTED = "the one selected in the list; “original”: the unedited reconstruction"  # which edit, by an operator
KINDS = {bool: BoolProperty, int: IntProperty, float: FloatProperty}


def from_request(request: type[Request], name: str, *, left_out: str = "", **more):
    """The property that a request's field is set by.

    Args:
        request: The request's class.
        name: The field. A number that may be None is 0 for None; a list is a text of numbers.
        left_out: What holds where the property is not set, for the tooltip; "": what the request itself says.
        **more: Further arguments of the property, such as soft limits; they win over the request's.
    """
    setting, kind = setting_of(request, name), field_type(request, name)
    default = next(field.default for field in dataclasses.fields(request) if field.name == name)
    given = {"name": setting.label, "description": tooltip(setting.help, kind, left_out)}
    items = more.get("items") or ITEMS.get(name) or tuple((choice, choice.title(), "") for choice in setting.choices)
    if items:
        return EnumProperty(**given | {"items": items, "default": default} | more)
    if kind not in KINDS:
        return StringProperty(**given | ({"default": default} if isinstance(default, str) else {}) | more)
    if kind is not bool:
        low = 0 if default is None else setting.low
        given |= {side: kind(limit) for side, limit in (("min", low), ("max", setting.high)) if limit is not None}
    return KINDS[kind](**given | ({"default": default} if isinstance(default, kind) else {}) | more)


def argument(request: type[Request], name: str, *, left_out: str = "", **more):
    """The property of an operator: as `from_request`, but Blender does not remember it for the next call.

    Args:
        request: The request's class.
        name: The field.
        left_out: What holds where the argument is not given, for the tooltip.
        **more: Further arguments of the property; they win over the request's.
    """
    return from_request(request, name, left_out=left_out, options={"SKIP_SAVE"}, **more)


def tooltip(help: str, kind: type = str, left_out: str = "") -> str:
    """A request's help as a tooltip: "what it is (default: the preset's)" becomes "What it is; 0: the preset's".

    Args:
        help: The setting's.
        kind: The field's type.
        left_out: What holds where the property is not set; "": what the help says.
    """
    what, _, default = help.partition(" (default: ")
    sentence = what[:1].upper() + what[1:]
    if left_out:
        return f"{sentence}; left out: {left_out}"
    if default:
        return f"{sentence}; {'0' if kind in (int, float) else 'left out'}: {re.sub(r'[)]$', '', default)}"
    return sentence
