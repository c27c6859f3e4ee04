"""Reads panels without a window: a layout that writes down what is drawn and checks that it exists.

Every property has to be one of the data's, every operator and menu a registered one, every operator's argument its own.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import bpy

from in2n_blender.blender import panels
from in2n_blender.blender.panels.base import Panel

UNIT, SPACE, BOX = 20.0, 2.0, 5.0  # of a button, between two, around a box: pixels
ICONS = set(bpy.types.UILayout.bl_rna.functions["prop"].parameters["icon"].enum_items.keys())


class Arguments:
    """What `layout.operator` returns: the operator's arguments."""

    def __init__(self, operator: str):
        module, name = operator.split(".")
        object.__setattr__(self, "known", getattr(getattr(bpy.ops, module), name).get_rna_type().properties)
        object.__setattr__(self, "given", {})

    def __setattr__(self, name, value):
        assert name in self.known, name
        self.given[name] = value


@dataclass(frozen=True)
class Item:
    """Something drawn, and how high it is."""

    height: float
    kind: str = ""
    what: object = None

    def bottom_of(self, kind: str, what: object) -> float | None:
        found = self.kind == kind and (
            what is None or (self.what[0] if isinstance(self.what, tuple) else self.what) == what
        )
        return self.height if found else None


class Layout:
    """Stands for `bpy.types.UILayout`. seen: (kind, what) in the order they were drawn; shared by all parts of a
    panel."""

    def __init__(self, seen=None, enabled=True, kind="column", align=False, scale=1.0):
        given = {"seen": [] if seen is None else seen, "is_enabled": enabled, "kind": kind, "align": align}
        for name, value in {**given, "scale": scale, "parts": []}.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name, value):
        assert name in bpy.types.UILayout.bl_rna.properties, name
        if name == "enabled":
            object.__setattr__(self, "is_enabled", self.is_enabled and value)
        if name == "scale_y":
            object.__setattr__(self, "scale", self.scale * value)

    def _part(self, kind, align=False):
        made = Layout(self.seen, self.is_enabled, kind, align, self.scale)
        self.parts.append(made)
        return made

    def row(self, align=False):
        return self._part("row", align)

    def column(self, align=False):
        return self._part("column", align)

    def split(self, factor=0.0, align=False):
        return self._part("row", align)

    def box(self):
        return self._part("box")

    def panel(self, idname, default_closed=False):
        body = Layout(self.seen, self.is_enabled) if default_closed else self._part("column")
        return self._part("row"), body  # one that is closed is read, but takes no room

    @property
    def height(self) -> float:
        """In Blender's pixels, at the interface's scale of 1: 20 for a button, 2 between two that are not aligned."""
        heights = [part.height for part in self.parts if part.height]
        if self.kind == "row":
            return max(heights, default=0.0)
        gaps = 0 if self.align else SPACE * max(len(heights) - 1, 0)
        return sum(heights) + gaps + (2 * BOX if self.kind == "box" and heights else 0)

    def bottom_of(self, kind: str, what: object) -> float | None:
        """How far below its own top the layout ends something that was drawn; None where that was not drawn in it."""
        y = BOX if self.kind == "box" else 0.0
        for part in self.parts:
            inside = part.bottom_of(kind, what)
            if inside is not None:
                return y + inside
            if self.kind != "row" and part.height:
                y += part.height + (0 if self.align else SPACE)
        return None

    def _see(self, kind, what, icon="NONE", units=1.0):
        assert icon in ICONS, icon
        self.seen.append((kind, what, self.is_enabled))
        self.parts.append(Item(UNIT * units * self.scale, kind, what))

    def label(self, text="", icon="NONE", translate=True):
        self._see("label", text, icon)

    def separator(self, factor=1.0):
        self.parts.append(Item(6.0 * factor))

    def progress(self, factor=0.0, text=""):
        assert 0 <= factor <= 1
        self._see("progress", text)

    def prop(self, data, name, text="", icon="NONE", **_):
        assert name in data.bl_rna.properties, name
        self._see("prop", name, icon)

    def operator(self, operator, text="", icon="NONE", depress=False, **_):
        arguments = Arguments(operator)
        self._see("pressed" if depress else "operator", (operator, text, arguments.given), icon)
        return arguments

    def operator_menu_enum(self, operator, name, text="", icon="NONE"):
        arguments = Arguments(operator)
        assert name in arguments.known
        self._see("operator", (operator, text, arguments.given), icon)
        return arguments

    def menu(self, menu, text="", icon="NONE"):
        assert hasattr(bpy.types, menu), menu
        self._see("menu", menu, icon)

    def template_icon(self, icon_value, scale=1.0):
        assert scale >= 1
        self._see("picture", icon_value, units=scale)

    def template_icon_view(self, data, name, show_labels=False, scale=6.0, scale_popup=5.0):
        assert name in data.bl_rna.properties and scale >= 1
        self._see("choice", (name, UNIT * scale, UNIT * scale_popup), units=scale)

    def template_list(self, list_type, _id, data, name, active_data, active_name, rows=5):
        assert (
            hasattr(bpy.types, list_type)
            and name in data.bl_rna.properties
            and active_name in active_data.bl_rna.properties
        )
        for item in getattr(data, name):
            panels.IN2N_UL_edits.draw_item(None, context(), self._part("row"), data, item, 0, active_data, active_name)
        self.parts.append(Item(UNIT * max(rows + 1 - len(getattr(data, name)), 0)))

    def popover(self, panel, text="", icon="NONE", **_):
        self._see("menu", panel, icon)


def context(width=300):
    shading = SimpleNamespace(type="SOLID", color_type="MATERIAL", light="STUDIO")
    return SimpleNamespace(
        scene=bpy.context.scene,
        window_manager=bpy.context.window_manager,
        region=SimpleNamespace(width=width),
        space_data=SimpleNamespace(
            shading=shading,
            type="VIEW_3D",
            region_3d=SimpleNamespace(view_perspective="PERSP"),
        ),
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0)),
    )


class Read:
    """What a panel shows now."""

    def __init__(self, panel, width=300):
        layout = Layout()
        own = {
            name: value
            for name, value in vars(panel).items()
            if not name.startswith("bl_") and not name.startswith("__")
        }
        stand = type(panel.__name__, (Panel,), {**own, "layout": layout})()
        if "draw_header_preset" in own:
            stand.draw_header_preset(context(width))
        stand.draw(context(width))
        self.seen = layout.seen
        self.layout, self.height = layout, layout.height

    @property
    def text(self) -> str:
        return " ".join(what for kind, what, _ in self.seen if kind == "label")

    def buttons(self, enabled_only=False) -> list[str]:
        """The operators, whether their own poll allows them or not."""
        return [
            what[0]
            for kind, what, enabled in self.seen
            if kind in ("operator", "pressed") and (enabled or not enabled_only)
        ]

    def arguments(self, operator: str) -> list[dict]:
        return [what[2] for kind, what, _ in self.seen if kind in ("operator", "pressed") and what[0] == operator]

    def count(self, kind: str) -> int:
        return sum(k == kind for k, *_ in self.seen)
