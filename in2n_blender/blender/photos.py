"""Looking at the photos: through their cameras, in a view that has a camera of its own, and which file is behind each.

Looking through a photo changes nothing of the scene: neither its camera nor its resolution nor its frame range.
"""

from __future__ import annotations

from pathlib import Path

import bpy

from ..scene.camera import Intrinsics
from ..scene.errors import In2nError
from .cameras import set_lens
from .scene_state import children

RENDERS_A_PHOTO = "“{camera}” is a photo's camera: the shot is rendered from there."


def is_photo(camera) -> bool:
    """Whether an object is a photo's camera.

    Args:
        camera: An object, or None.
    """
    return camera is not None and camera.in2n.role == "CAMERA"


def looked_through(context):
    """The photo's camera that the context's 3D view looks through, or None.

    Args:
        context: Blender's.
    """
    space = context.space_data
    if space is None or space.type != "VIEW_3D" or space.region_3d.view_perspective != "CAMERA":
        return None
    camera = space.camera if space.use_local_camera else context.scene.camera
    return camera if is_photo(camera) else None


def chosen(scene, capture):
    """The photo's camera that was looked through last; else the scene's, if it is a photo's; else the first.

    Args:
        scene: The capture's.
        capture: The capture's Empty.

    Returns:
        The camera.

    Raises:
        In2nError: "no_cameras" where they were all deleted.
    """
    found = children(capture, "CAMERA")
    if not found:
        raise In2nError("no_cameras", "The capture's cameras were deleted.", "Import the capture again.")
    by_name = next((camera for camera in found if camera.in2n.photo == scene.in2n.photo), None)
    return by_name or (scene.camera if scene.camera in found else found[0])


def look_through(area, scene, camera) -> None:
    """Let a 3D view look through a photo's camera, the photo behind what it shows fitting whatever the shot's shape is.

    Args:
        area: The 3D view's; None where there is none, as in a file without windows.
        scene: Remembers which photo it was.
        camera: The photo's camera.
    """
    scene.in2n.photo = camera.in2n.photo
    if camera.data.library is None:
        _fit_to_shot(camera, scene.render)
    if area is None:
        return
    space = area.spaces.active
    space.use_local_camera, space.camera = True, camera
    space.region_3d.view_perspective = "CAMERA"


def look_at_shot(area, scene) -> None:
    """Let a 3D view look through the scene's camera again; into the scene where that has none.

    A photo's camera that renders the shot gives its place to the artist's own, if there is one.

    Args:
        area: The 3D view's; None where there is none.
        scene: Whose camera.
    """
    if is_photo(scene.camera):
        scene.camera = next((o for o in scene.objects if o.type == "CAMERA" and not is_photo(o)), scene.camera)
    if area is None:
        return
    space = area.spaces.active
    space.use_local_camera = False
    space.region_3d.view_perspective = "PERSP" if scene.camera is None else "CAMERA"


def _fit_to_shot(camera, render) -> None:
    """Draw the photo as wide, or as high, as the frame of the shot, by the side that the camera's lens spans."""
    width, height = camera.in2n.image_size
    if camera.data.sensor_fit == "AUTO":  # of an earlier version: its lens fits renders of the photo's shape only
        k = Intrinsics(width, height, *camera.in2n.intrinsics)
        set_lens(camera.data, k, fit="HORIZONTAL" if width >= height else "VERTICAL")
    shot = render.resolution_x * render.pixel_aspect_x / (render.resolution_y * render.pixel_aspect_y)
    is_wide = shot >= width / height
    spans_width = camera.data.sensor_fit == "HORIZONTAL"
    for background in camera.data.background_images:
        if background.image is not None and background.image.get("in2n_photo"):
            background.frame_method = "CROP" if is_wide == spans_width else "FIT"


def best_file(camera, normalised: Path | None) -> Path | None:
    """The file of a camera's photo that fits what the camera sees, at its full size if there is one.

    Args:
        camera: The photo's.
        normalised: The undistorted photo in the workspace, of the preset's size; None where there is none.

    Returns:
        The original where it fits, else what was undistorted at its full size, else `normalised`.
    """
    whole = (Path(bpy.path.abspath(path)) for path in (camera.in2n.original, camera.in2n.full) if path)
    return next((file for file in whole if file.is_file()), normalised)


@bpy.app.handlers.persistent
def _warn_of_photo(scene, *_) -> None:
    """Before a render: it is said when it will be from a photo's camera. This may run in the render's thread."""
    if not isinstance(scene, bpy.types.Scene) or not is_photo(scene.camera):
        return
    sentence = RENDERS_A_PHOTO.format(camera=scene.camera.name)
    print(f"IN2N: {sentence}")
    if not bpy.app.background:
        bpy.app.timers.register(lambda: _say(sentence), first_interval=0.0)


def _say(sentence: str) -> None:
    def draw(popup, _context):
        popup.layout.label(text=sentence, translate=False)
        popup.layout.operator("in2n.back_to_shot")

    window = next(iter(bpy.context.window_manager.windows), None)
    if window is not None:
        with bpy.context.temp_override(window=window):
            bpy.context.window_manager.popup_menu(draw, title="IN2N", icon="ERROR")


def attach() -> None:
    """Watch renders for photos' cameras."""
    bpy.app.handlers.render_init.append(_warn_of_photo)


def detach() -> None:
    """Watch them no more."""
    if _warn_of_photo in bpy.app.handlers.render_init:
        bpy.app.handlers.render_init.remove(_warn_of_photo)
