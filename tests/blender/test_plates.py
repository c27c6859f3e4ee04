"""Frames as a plate: behind the camera, in the compositor, in the sequencer; and paths that are relative once saved."""

from pathlib import Path

import bpy
import numpy as np
import pytest
from panel_reader import Read
from PIL import Image

from in2n_blender.blender import compat, panels, plates, scene_state, workspaces
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace

SIZE = (16, 12)


@pytest.fixture
def shot(imported, scene, recording) -> Workspace:
    """Two edits, rendered along one path: frame n of "snow" is (40 n, 0, 0), of "gold" (0, 40 n, 0)."""
    workspace = Workspace(scene.in2n.workspace)
    workspace.reconstruction.mkdir(parents=True)
    (workspace.reconstruction / "checkpoint.safetensors").touch()
    write_json(workspace.reconstruction / "state.json", {"done": True})
    for edit, channel in (("snow", 0), ("gold", 1)):
        write_json(workspace.edit(edit) / "edit.json", {"name": edit, "instruction": edit})
        render(workspace, edit, channel, (1, 2, 3))
    workspaces.sync_edits(scene)
    camera = bpy.data.objects.new("shot", bpy.data.cameras.new("shot"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    return workspace


def render(workspace, edit, channel, numbers, path="walk"):
    folder = workspace.renders(edit, path)
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        picture[..., channel] = 40 * number % 256
        Image.fromarray(picture).save(folder / f"{number:04d}.png")


def load(kind, edit="snow", **more):
    assert bpy.ops.in2n.load_frames(edit=edit, kind=kind, **more) == {"FINISHED"}


@pytest.mark.parametrize("kind", ["IMAGES", "CLIP"])
def test_a_plate_is_behind_the_scene_until_she_says_otherwise(shot, scene, kind):
    load(kind)
    load(kind)
    (background,) = plates.backgrounds(scene.camera.data)
    assert background.display_depth == "BACK" and background.show_background_image
    assert scene.camera.data.show_background_images
    scene.in2n.frames_depth = "FRONT"
    assert background.display_depth == "FRONT"
    load(kind, "gold")
    assert [b.display_depth for b in plates.backgrounds(scene.camera.data)] == ["FRONT", "FRONT"]
    assert [b.show_background_image for b in plates.backgrounds(scene.camera.data)] == [False, True]
    bpy.ops.in2n.compare()
    assert not any(b.show_background_image for b in plates.backgrounds(scene.camera.data)), "before: no frames of it"


def test_a_clip_shows_the_file_of_the_frame(shot, scene):
    render(shot, "snow", 0, (7, 8, 9), "late")
    load("CLIP", name="late")
    (background,) = plates.backgrounds(scene.camera.data)
    clip = background.clip
    assert background.source == "MOVIE_CLIP" and clip.source == "SEQUENCE"
    assert tuple(clip.size) == SIZE and clip.frame_start == 7 and clip.frame_offset == 0 and clip.frame_duration == 3
    assert Path(bpy.path.abspath(clip.filepath)).name == "0007.png"
    load("CLIP", name="late")
    assert len(bpy.data.movieclips) == 1


def test_images_and_clip_of_the_same_frames_take_turns(shot, scene):
    load("IMAGES")
    load("CLIP")
    (background,) = plates.backgrounds(scene.camera.data)
    assert background.source == "MOVIE_CLIP"
    load("IMAGES")
    (background,) = plates.backgrounds(scene.camera.data)
    assert background.source == "IMAGE" and background.image.source == "SEQUENCE"


def rendered(scene, folder, frame) -> np.ndarray:
    """(height, width, 3) uint8, as the scene's compositor makes it."""
    scene.frame_set(frame)
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.device, scene.cycles.use_denoising = 1, "CPU", False
    scene.view_settings.view_transform = "Standard"
    scene.render.filepath = str(folder / f"out{frame}.png")
    bpy.ops.render.render(write_still=True)
    return np.array(Image.open(scene.render.filepath).convert("RGB"))


def add_cube(scene):
    """White, over the middle of the picture."""
    mesh = bpy.data.meshes.new("cube")
    mesh.from_pydata([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)], [], [(0, 1, 2, 3)])
    material = bpy.data.materials.new("white")
    tree = compat.material_nodes(material)
    tree.nodes.clear()
    emission, output = tree.nodes.new("ShaderNodeEmission"), tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(emission.outputs[0], output.inputs["Surface"])
    mesh.materials.append(material)
    scene.collection.objects.link(bpy.data.objects.new("cube", mesh))
    scene.camera.location = (0, 0, 6)
    scene.camera.data.lens = 36


def test_in_an_empty_compositor_the_frames_are_behind_the_render(shot, scene, tmp_path):
    add_cube(scene)
    load("COMPOSITOR")
    load("COMPOSITOR")
    nodes = compat.compositor_tree(scene).nodes
    assert len([n for n in nodes if n.bl_idname == "CompositorNodeImage"]) == 1
    for frame in (1, 3):
        picture = rendered(scene, tmp_path, frame)
        assert np.abs(picture[0, 0].astype(int) - (40 * frame, 0, 0)).max() <= 1, "the plate of this frame"
        assert (picture[6, 8] >= 254).all(), "the cube before it"


def test_the_artists_own_nodes_are_left_as_they_are(shot, scene):
    tree = compat.new_compositor_tree(scene)
    tree.nodes.new("CompositorNodeBlur").name = "hers"
    links = [(link.from_node.name, link.to_node.name) for link in tree.links]
    transparent = scene.render.film_transparent
    load("COMPOSITOR")
    assert [(link.from_node.name, link.to_node.name) for link in tree.links] == links
    assert "hers" in tree.nodes and scene.render.film_transparent == transparent
    (node,) = (n for n in tree.nodes if n.bl_idname == "CompositorNodeImage")
    assert node.image["in2n_frames"] == "snow/walk" and (node.frame_start, node.frame_duration) == (1, 3)
    load("COMPOSITOR", "gold")
    assert len([n for n in tree.nodes if n.bl_idname == "CompositorNodeImage"]) == 2


def strips(scene) -> dict:
    return {strip["in2n_frames"]: strip for strip in compat.strips(scene) if strip.get("in2n_frames")}


def test_every_edit_has_a_strip_to_be_compared(shot, scene):
    render(shot, "gold", 1, (2, 5), "late")
    load("SEQUENCER", "snow")
    load("SEQUENCER", "gold")
    found = strips(scene)
    assert [(s.channel, s.mute) for s in found.values()] == [(1, True), (2, False)], "the one that is shown on top"
    load("SEQUENCER", "gold", name="late")
    load("SEQUENCER", "gold", name="late")
    found = strips(scene)
    assert set(found) == {"snow/walk", "gold/late"} and found["gold/late"].channel == 2, "one for every edit"
    strip = found["gold/late"]
    assert [e.filename for e in strip.elements] == ["0002.png", "0002.png", "0002.png", "0005.png"]
    assert (int(strip.frame_start), strip.frame_final_duration) == (2, 4)
    assert Path(bpy.path.abspath(strip.directory)) == shot.renders("gold", "late")
    bpy.ops.in2n.compare()
    bpy.ops.in2n.compare()
    assert not strip.mute


def test_a_strip_does_not_take_the_renders_place(shot, scene, tmp_path):
    add_cube(scene)
    load("SEQUENCER")
    assert (rendered(scene, tmp_path, 1)[6, 8] >= 254).all(), "F12 renders the scene"


def test_a_sequencer_in_use_stays_in_use(shot, scene):
    scene.sequence_editor_create()
    compat.strips(scene).new_image(
        name="hers", filepath=str(shot.renders("snow", "walk") / "0001.png"), channel=4, frame_start=1
    )
    load("SEQUENCER")
    assert scene.render.use_sequencer and strips(scene)["snow/walk"].channel == 5


def test_without_a_camera_it_is_said(shot, scene):
    scene.camera = None
    with pytest.raises(RuntimeError, match="no camera to show frames in"):
        load("IMAGES")
    load("SEQUENCER")


def test_the_quick_mesh_steps_back_for_a_plate(shot, scene):
    mesh = bpy.data.objects.new("quick", bpy.data.meshes.new("quick"))
    scene.collection.objects.link(mesh)
    mesh.parent = scene.in2n.capture
    mesh.in2n.role, mesh.in2n.edit, mesh.in2n.quick = "MESH", "snow", True
    workspaces.select_edit(scene, "snow")
    scene.in2n.shown = "AFTER"
    assert mesh.visible_get()
    load("IMAGES")
    assert not mesh.visible_get()
    assert ("prop", "show_quick_mesh", True) in Read(panels.IN2N_PT_results).seen
    scene.in2n.show_quick_mesh = True
    assert mesh.visible_get()


def test_renamed_and_removed_with_their_edit(shot, scene):
    for kind in ("IMAGES", "CLIP", "COMPOSITOR", "SEQUENCER"):
        load(kind)
    bpy.ops.in2n.rename_edit(edit="snow", name="winter")
    found = plates.marked("winter")
    assert len(found) == 3 and plates.marked("snow") == []
    folder = shot.renders("winter", "walk")
    for thing in found:
        path = Path(bpy.path.abspath(getattr(thing, "filepath", None) or thing.directory))
        assert path in (folder, folder / "0001.png") and path.exists()
    bpy.ops.in2n.remove_edit(edit="winter")
    assert plates.marked() == [] and not strips(scene)


# --- paths


def every_path(scene) -> list[str]:
    found = [image.filepath for image in bpy.data.images if image.filepath]
    found += [clip.filepath for clip in bpy.data.movieclips] + [s.directory for s in strips(scene).values()]
    photos = scene_state.children(scene.in2n.capture, "CAMERA")
    return found + [camera.in2n.original for camera in photos]


def test_paths_are_relative_after_the_first_save(shot, scene, tmp_path):
    for kind in ("IMAGES", "CLIP", "SEQUENCER"):
        load(kind)
    assert not any(path.startswith("//") for path in every_path(scene))
    blend = tmp_path / "work" / "shot.blend"
    blend.parent.mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    assert len(every_path(scene)) == 6 + 1 + 1 + 1 + 6
    assert all(path.startswith("//") for path in every_path(scene))
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    found = every_path(bpy.context.scene)
    assert len(found) == 15 and all(p.startswith("//") and Path(bpy.path.abspath(p)).exists() for p in found)


def test_what_is_brought_into_a_saved_file_is_relative_at_once(scene, capture_folder, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.in2n.import_capture(filepath=str(capture_folder))
    assert every_path(scene) and all(path.startswith("//garden/") for path in every_path(scene))


def test_saved_elsewhere_all_is_still_found(shot, scene, tmp_path):
    load("IMAGES")
    for place in ("a", "b/c"):
        (tmp_path / place).mkdir(parents=True)
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / place / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "b/c/shot.blend"))
    images = [image.filepath for image in bpy.data.images if image.filepath]
    assert len(images) == 7 and all(p.startswith("//") and Path(bpy.path.abspath(p)).is_file() for p in images)


def test_a_failed_first_save_leaves_paths_that_work(shot, scene):
    before = every_path(scene)
    with pytest.raises(RuntimeError):
        bpy.ops.wm.save_as_mainfile(filepath="/nowhere/at/all/shot.blend")
    assert every_path(scene) == before


def test_who_wants_absolute_paths_keeps_them(shot, scene, tmp_path):
    preferences = bpy.context.preferences.filepaths
    preferences.use_relative_paths = False
    try:
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"), relative_remap=False)
        assert [path for path in every_path(scene) if path.startswith("//")] == []
    finally:
        preferences.use_relative_paths = True


def test_moved_with_the_workspace(shot, scene, tmp_path):
    for kind in ("IMAGES", "CLIP", "SEQUENCER"):
        load(kind)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    assert bpy.ops.in2n.move_workspace() == {"FINISHED"}
    marked = plates.marked()
    assert len(marked) == 3
    for thing in marked:
        path = getattr(thing, "filepath", None) or thing.directory
        assert path.startswith("//shot.in2n/renders/snow/walk"), path
