"""bpy.ops.in2n.set_up, set_ground and set_scale: put the capture upright, on the ground and at its true size."""

from __future__ import annotations

import bpy
import numpy as np
from bpy.props import BoolProperty, EnumProperty, FloatProperty
from mathutils import Matrix

from ...scene.errors import In2nError
from .. import alignment, captured_objects, views
from ..scene_state import active_capture
from .polls import poll_capture

UP_ITEMS = (
    ("CAMERAS", "From Photos", "The mean up direction of all photos: most people hold a camera upright"),
    ("+X", "X", "The capture's own X axis"),
    ("-X", "-X", "Against the capture's own X axis"),
    ("+Y", "Y", "The capture's own Y axis"),
    ("-Y", "-Y", "Against the capture's own Y axis"),
    ("+Z", "Z", "The capture's own Z axis"),
    ("-Z", "-Z", "Against the capture's own Z axis"),
)


class _Placing:
    """An operator that moves the capture's Empty: one undo step, nothing else is touched."""

    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        if not poll_capture(cls, context):
            return False
        capture = active_capture(context.scene)
        if capture.library is not None or (
            capture.override_library is not None and capture.override_library.is_system_override
        ):
            cls.poll_message_set("The capture is linked from another file")
            return False
        return True

    def execute(self, context):
        capture = active_capture(context.scene)
        context.view_layer.update()
        try:
            change = self.change(context, capture)
        except In2nError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        capture.matrix_world = Matrix(change.tolist()) @ capture.matrix_world
        factor = float(np.cbrt(np.linalg.det(change[:3, :3])))
        if abs(factor - 1) > 1e-6:
            context.view_layer.update()
            views.widen_clipping(captured_objects.follow_scale(capture, factor))
        return {"FINISHED"}

    def change(self, context, capture) -> np.ndarray:
        """What the Empty's world matrix is multiplied by, (4, 4).

        Raises:
            In2nError: What is wrong with the selection or the photos.
        """
        raise NotImplementedError


class IN2N_OT_set_up(_Placing, bpy.types.Operator):
    """Turn the capture so that the chosen direction points up"""

    bl_idname = "in2n.set_up"
    bl_label = "Set Up Axis"

    axis: EnumProperty(name="Up", description="What points up in the capture", items=UP_ITEMS, default="CAMERAS")

    def change(self, context, capture):
        if self.axis == "CAMERAS":
            up, _place = alignment.camera_directions(capture)
        else:
            up = np.array(capture.matrix_world)[:3, "XYZ".index(self.axis[1])] * (1 if self.axis[0] == "+" else -1)
        return alignment.turn(alignment.rotation_between(up, alignment.UP), np.array(capture.matrix_world.translation))


class IN2N_OT_set_ground(_Placing, bpy.types.Operator):
    bl_description = (
        "Lay the capture on the floor (Z = 0) by three or more points on its ground: vertices selected in "
        "Edit Mode, or selected objects"
    )

    bl_idname = "in2n.set_ground"
    bl_label = "Set Ground from Selection"

    center: BoolProperty(
        name="Center", description="Also move the middle of the chosen points to the world's origin", default=False
    )

    @classmethod
    def poll(cls, context):
        if not super().poll(context):
            return False
        if not _has_selection(context):
            cls.poll_message_set("Select three or more points on the ground, in Edit Mode or as objects")
            return False
        return True

    def change(self, context, capture):
        points = alignment.picked_points(context, capture)
        if len(points) < 3:
            raise In2nError(
                "few_points",
                f"A plane needs three points, {len(points)} are selected.",
                "Select three or more points on the ground.",
            )
        _up, cameras = alignment.camera_directions(capture)
        middle, normal = alignment.plane_through(points, above=cameras)
        matrix = alignment.turn(alignment.rotation_between(normal, alignment.UP), middle)
        matrix[:3, 3] -= middle if self.center else (0, 0, middle[2])
        return matrix


class IN2N_OT_set_scale(_Placing, bpy.types.Operator):
    bl_description = (
        "Scale the capture about the world's origin so that two selected points are as far apart as in "
        "reality. With one point selected, the 3D cursor is the other"
    )

    bl_idname = "in2n.set_scale"
    bl_label = "Set Scale from Distance"

    distance: FloatProperty(
        name="Distance",
        description="How far apart the two points are in reality",
        default=1.0,
        min=1e-6,
        soft_min=0.001,
        subtype="DISTANCE",
    )

    @classmethod
    def poll(cls, context):
        if not super().poll(context):
            return False
        if not _has_selection(context):
            cls.poll_message_set("Select two points of known distance, or one and set the 3D cursor on the other")
            return False
        return True

    def invoke(self, context, event):
        if not self.properties.is_property_set("distance"):
            try:
                self.distance = self._measured(context, active_capture(context.scene))
            except In2nError as error:
                self.report({"ERROR"}, str(error))
                return {"CANCELLED"}
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, context):
        self.layout.use_property_split = True
        self.layout.prop(self, "distance")

    def change(self, context, capture):
        factor = self.distance / self._measured(context, capture)
        return np.diag([factor, factor, factor, 1.0])

    @staticmethod
    def _measured(context, capture) -> float:
        points = alignment.picked_points(context, capture)
        if len(points) == 1:
            points = np.vstack([points, np.array(context.scene.cursor.location)])
        if len(points) != 2:
            raise In2nError(
                "not_two_points",
                f"A distance is between two points, {len(points)} are selected.",
                "Select two points, or one and set the 3D cursor on the other.",
            )
        measured = float(np.linalg.norm(points[0] - points[1]))
        if measured < 1e-9:
            raise In2nError("no_distance", "Both points are at the same place.", "Select two points that lie apart.")
        return measured


def _has_selection(context) -> bool:
    return context.mode == "EDIT_MESH" or bool(context.selected_objects)


CLASSES = (IN2N_OT_set_up, IN2N_OT_set_ground, IN2N_OT_set_scale)
