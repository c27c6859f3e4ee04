"""The extension comes and goes without a trace."""

import bpy
import pytest

import in2n_blender
from in2n_blender.blender import registration


def in2n_names():
    kinds = (
        bpy.types.Operator,
        bpy.types.Panel,
        bpy.types.PropertyGroup,
        bpy.types.UIList,
        bpy.types.FileHandler,
        bpy.types.Menu,
        bpy.types.AddonPreferences,
        bpy.types.RenderEngine,
    )
    return {
        c.__name__
        for kind in kinds
        for c in kind.__subclasses__()
        if c.is_registered and c.__module__.startswith("in2n_blender")
    }


def test_registers_and_unregisters_again_and_again():
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)  # settings of an earlier test stay in its file
    for _ in range(3):
        in2n_blender.register()
        assert len(in2n_names()) == len(registration.CLASSES)
        assert bpy.context.scene.in2n.preset == "standard"
        in2n_blender.unregister()
        assert not in2n_names()
        assert not any(f.__module__.startswith("in2n_blender") for f in bpy.app.handlers.load_post)
        assert not hasattr(bpy.types.Scene, "in2n") and not hasattr(bpy.types.Object, "in2n")


def test_a_failed_register_takes_everything_back(monkeypatch):
    class Broken(bpy.types.Operator):
        bl_idname = "not an idname"
        bl_label = "Broken"

    monkeypatch.setattr(registration, "CLASSES", (*registration.CLASSES[:8], Broken, *registration.CLASSES[8:]))
    with pytest.raises((RuntimeError, ValueError)):  # whichever Blender raises
        in2n_blender.register()
    assert not in2n_names()
    monkeypatch.undo()
    in2n_blender.register()
    in2n_blender.unregister()


def test_every_operator_and_property_is_described(extension):
    for cls in registration.CLASSES:
        operator = issubclass(cls, bpy.types.Operator)
        if not operator and not issubclass(cls, (bpy.types.PropertyGroup, bpy.types.AddonPreferences)):
            continue
        rna = getattr(bpy.ops.in2n, cls.bl_idname.split(".")[1]).get_rna_type() if operator else cls.bl_rna
        assert not operator or len(rna.description) > 20
        for name in set(cls.__annotations__) - {"filter_glob"}:
            assert len(rna.properties[name].description) > 10, f"{cls.__name__}.{name}"
