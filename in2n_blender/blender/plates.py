"""Rendered frames as a plate: behind or before the camera as images or as a movie clip, in the compositor, and in the
sequencer, where edits lie one above the other to be compared.

Doing it again replaces, never duplicates. What shows frames knows it by the property "in2n_frames": "edit/path".
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import bpy

from ..scene.errors import In2nError
from . import colour, compat, paths

MARK = "in2n_frames"


def load(scene, kind: str, folder: Path, edit: str, path_name: str, numbers: list[int]) -> str:
    """Show rendered frames in step with the timeline.

    Where a number is left out, as with a frame step of 2, the frame before it stays; a movie clip shows nothing there.

    Args:
        scene: Where.
        kind: "IMAGES", "CLIP", "COMPOSITOR" or "SEQUENCER".
        folder: Where the PNGs are, named by their frame's number in four digits.
        edit: The edit's name, or ORIGINAL.
        path_name: The camera path's.
        numbers: The frames that there are, in ascending order.

    Returns:
        One sentence about where they are.

    Raises:
        In2nError: "missing_file" when the first frame is not there, "no_camera" where they need one.
    """
    first = Path(folder) / f"{numbers[0]:04d}.png"
    if not first.is_file():
        raise In2nError("missing_file", f"{first} does not exist.", "Render the frames again.")
    key = f"{edit}/{path_name}"
    if kind == "SEQUENCER":
        return _in_sequencer(scene, Path(folder), key, numbers)
    if kind == "COMPOSITOR":
        return _in_compositor(scene, _images(first, key), numbers)
    cameras = _cameras_used(scene, numbers)
    if not cameras:
        raise In2nError("no_camera", "The scene has no camera to show frames in.", "Add one.")
    source = _clip(first, key, numbers) if kind == "CLIP" else _images(first, key)
    for camera in cameras:
        _show_in(camera.data, source, numbers, scene.in2n.frames_depth)
    scene.in2n.show_quick_mesh = False
    where = "behind" if scene.in2n.frames_depth == "BACK" else "before"
    return f"{len(numbers)} frames of “{edit}” are {where} what the camera sees."


def backgrounds(camera_data) -> list:
    """The backgrounds of a camera that are rendered frames.

    Args:
        camera_data: A `bpy.types.Camera`.
    """
    return [background for background in camera_data.background_images if source_of(background) is not None]


def source_of(background):
    """The images or the clip of rendered frames that a camera's background shows; None: it shows something else.

    Args:
        background: A `bpy.types.CameraBackgroundImage`.
    """
    source = background.clip if background.source == "MOVIE_CLIP" else background.image
    return source if source is not None and source.get(MARK) else None


def edit_of(marked) -> str:
    """The edit whose frames an image, a clip or a strip shows, or ORIGINAL.

    Args:
        marked: What has the property "in2n_frames".
    """
    return str(marked[MARK]).partition("/")[0]


def marked(edit: str | None = None) -> list:
    """The .blend's images, clips and strips of rendered frames.

    Args:
        edit: Of which edit; None: of all.
    """
    strips = [strip for scene in bpy.data.scenes if scene.library is None for strip in compat.strips(scene)]
    found = [thing for thing in (*bpy.data.images, *bpy.data.movieclips) if thing.library is None]
    return [thing for thing in (*found, *strips) if thing.get(MARK) and edit in (None, edit_of(thing))]


def remove(thing) -> None:
    """Take an image, a clip or a strip of rendered frames out of the .blend; its files stay.

    Args:
        thing: As `marked` returns it.
    """
    if isinstance(thing, bpy.types.Image):
        bpy.data.images.remove(thing)
    elif isinstance(thing, bpy.types.MovieClip):
        bpy.data.movieclips.remove(thing)
    else:
        compat.strips(thing.id_data).remove(thing)


def show_edit(scene, name: str) -> None:
    """Show the frames of an edit alone, before the scene's camera and in its sequencer.

    Args:
        scene: Where they are.
        name: The edit's, or ORIGINAL.
    """
    if scene.camera is not None and scene.camera.type == "CAMERA":
        for background in backgrounds(scene.camera.data):
            background.show_background_image = edit_of(source_of(background)) == name
    strips = [strip for strip in compat.strips(scene) if strip.get(MARK)]
    if any(edit_of(strip) == name for strip in strips):
        for strip in strips:
            strip.mute = edit_of(strip) != name


def set_depth(scene) -> None:
    """Put all frames behind or before what the scene's cameras see, as its settings say.

    Args:
        scene: Whose cameras.
    """
    for camera in (thing for thing in scene.objects if thing.type == "CAMERA" and thing.data.library is None):
        for background in backgrounds(camera.data):
            background.display_depth = scene.in2n.frames_depth


# --- images and clips -------------------------------------------------------------------------------------------------


def _images(first: Path, key: str):
    """The frames as one image sequence."""
    image = next((i for i in bpy.data.images if i.get(MARK) == key and i.library is None), None)
    if image is None:
        image = bpy.data.images.load(str(first))
        image.name, image[MARK] = f"{key.partition('/')[0]} frames", key
    image.filepath = paths.stored(first)
    image.source = "SEQUENCE"
    image.reload()
    with suppress(In2nError):  # an OCIO configuration may name its sRGB otherwise
        colour.tell_srgb(image)
    return image


def _clip(first: Path, key: str, numbers: list[int]):
    """The frames as a movie clip."""
    clip = next((c for c in bpy.data.movieclips if c.get(MARK) == key and c.library is None), None)
    if clip is None:
        clip = bpy.data.movieclips.load(str(first))
        clip.name, clip[MARK] = f"{key.partition('/')[0]} clip", key
    clip.filepath = paths.stored(first)
    clip.frame_start, clip.frame_offset = numbers[0], 0
    with suppress(In2nError):
        colour.tell_srgb(clip)
    return clip


def _cameras_used(scene, numbers: list[int]) -> list:
    """The cameras that the scene's markers switch to within the frames, and its own camera."""
    bound = sorted((m for m in scene.timeline_markers if m.camera), key=lambda m: m.frame)
    used = [
        m.camera
        for i, m in enumerate(bound)
        if m.frame <= numbers[-1] and (i + 1 == len(bound) or bound[i + 1].frame > numbers[0])
    ]
    cameras = used or [scene.camera]
    return list({c.data.name_full: c for c in cameras if c is not None and c.type == "CAMERA"}.values())


def _show_in(camera_data, source, numbers: list[int], depth: str) -> None:
    """Show images or a clip in a camera, in the same place as the other kind before, and hide those of other edits."""
    same = [b for b in backgrounds(camera_data) if source_of(b)[MARK] == source[MARK]]
    shown = next(iter(same), None) or camera_data.background_images.new()
    shown.alpha, shown.display_depth, shown.frame_method = 1.0, depth, "STRETCH"
    if isinstance(source, bpy.types.MovieClip):
        shown.source, shown.clip = "MOVIE_CLIP", source
        shown.clip_user.proxy_render_size = "FULL"
    else:
        shown.source, shown.image = "IMAGE", source
        show_numbers(shown.image_user, numbers)
    for background in backgrounds(camera_data):
        background.show_background_image = background == shown
    camera_data.show_background_images = True


def show_numbers(user, numbers: list[int]) -> None:
    """Let an image sequence show the file of the scene's frame; where there is none, that of the frame before.

    Args:
        user: A `bpy.types.ImageUser`, or a node of the compositor, which has the same settings.
        numbers: The frames that there are, in ascending order.
    """
    # Blender shows file number frame_current - frame_start + 1 + frame_offset; the files are numbered by frame.
    user.frame_start, user.frame_offset = numbers[0], numbers[0] - 1
    user.frame_duration = numbers[-1] - numbers[0] + 1
    user.use_auto_refresh = True
    _hold_between(user, numbers)


def _hold_between(user, numbers: list[int]) -> None:
    """Let the last frame that there is be shown where numbers are left out: an image sequence has no such setting, so
    its offset is driven by the scene's frame."""
    user.driver_remove("frame_offset")
    shown = _shown_numbers(numbers)
    if len(shown) == len(numbers):
        return
    keys = [value for number, file in shown.items() for value in (number, numbers[0] - 1 + file - number)]
    curve = user.driver_add("frame_offset")
    curve.driver.type, curve.driver.expression = "SCRIPTED", "frame"  # so simple that it runs without scripts allowed
    while curve.keyframe_points:
        curve.keyframe_points.remove(curve.keyframe_points[0])
    while curve.modifiers:  # before 5.0 a driver comes with one that overrides all keys
        curve.modifiers.remove(curve.modifiers[0])
    curve.keyframe_points.add(len(shown))
    curve.keyframe_points.foreach_set("co", keys)
    for key in curve.keyframe_points:
        key.interpolation = "CONSTANT"
    curve.extrapolation = "CONSTANT"
    curve.update()


def _shown_numbers(numbers: list[int]) -> dict[int, int]:
    """Frame -> the number of the file that it shows, from the first frame to the last."""
    there, last, shown = set(numbers), numbers[0], {}
    for number in range(numbers[0], numbers[-1] + 1):
        last = shown[number] = number if number in there else last
    return shown


# --- compositor and sequencer -----------------------------------------------------------------------------------------


def _in_compositor(scene, image, numbers: list[int]) -> str:
    """An Image node with the frames. In an empty compositor they come behind the render, which gets a transparent film;
    else it is left to the artist what becomes of them."""
    tree = compat.compositor_tree(scene) or compat.new_compositor_tree(scene)
    untouched = compat.is_default_compositor(tree)
    edit = edit_of(image)
    node = next((n for n in tree.nodes if n.get(MARK) == image[MARK]), None)
    if node is None:
        node = tree.nodes.new("CompositorNodeImage")
        node[MARK], node.label = image[MARK], f"Frames of “{edit}”"
        node.location = (-300, min((n.location.y for n in tree.nodes), default=0) - 300)
        if untouched:
            compat.composite_over(tree, node)
            scene.render.film_transparent = True
    node.image = image
    show_numbers(node, numbers)
    if untouched:
        return f"The frames of “{edit}” are behind the render, by the compositor; the film is transparent for it."
    return f"The frames of “{edit}” are an Image node in the compositor."


def _in_sequencer(scene, folder: Path, key: str, numbers: list[int]) -> str:
    """A strip of images, one an edit. A sequencer that was empty so far does not take the render's place."""
    edit = key.partition("/")[0]
    if not compat.strips(scene):
        scene.sequence_editor_create()
        scene.render.use_sequencer = False
    strips = compat.strips(scene)
    before = next((strip for strip in strips if strip.get(MARK) and edit_of(strip) == edit), None)
    channel = before.channel if before is not None else _free_channel(strips)
    if before is not None:
        strips.remove(before)
    files = [f"{file:04d}.png" for file in _shown_numbers(numbers).values()]
    strip = strips.new_image(
        name=f"{edit} frames", filepath=str(folder / files[0]), channel=channel, frame_start=numbers[0]
    )
    for file in files[1:]:
        strip.elements.append(file)
    strip.directory = paths.stored(f"{folder}/")
    strip[MARK] = key
    with suppress(In2nError):
        colour.tell_srgb(strip)
    show_edit(scene, edit)
    compat.show_in_sequencers(scene)
    return f"The frames of “{edit}” are on channel {channel} of the sequencer."


def _free_channel(strips) -> int:
    """Above all strips."""
    return max((strip.channel for strip in strips), default=0) + 1
