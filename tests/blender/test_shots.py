"""Shots against Cycles: where its rays hit a lattice of walls says where they went."""

import importlib.util
import math

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from in2n_blender.blender import compat
from in2n_blender.blender.shots import Moment, shot_of, shot_through_window, unit_of
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.shot import PERSPECTIVE

SIZE = (40, 28)
OFFSET = 20.0


@pytest.fixture
def stage(extension):
    """A camera within a big cube whose every place is told by Cycles' Position and Depth passes."""
    scene = bpy.context.scene
    data = bpy.data.cameras.new("camera")
    data.clip_end = 1000
    camera = bpy.data.objects.new("camera", data)
    camera.matrix_world = Matrix.LocRotScale((0.4, -0.3, 0.7), None, None) @ Matrix.Rotation(1.1, 4, (0.8, 0.3, 0.5))
    scene.collection.objects.link(camera)
    scene.camera = camera
    walls = bpy.data.meshes.new("walls")
    corners = [(x, y, z) for x in (-9, 9) for y in (-8, 8) for z in (-7, 7)]
    walls.from_pydata(corners, [], [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)])
    walls.materials.append(shining_with_its_place())
    scene.collection.objects.link(bpy.data.objects.new("walls", walls))
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    return scene


def shining_with_its_place():
    """A material whose light is its position, OFFSET added, for there is no negative light."""
    material = bpy.data.materials.new("place")
    tree = compat.material_nodes(material)
    tree.nodes.clear()
    kinds = "ShaderNodeNewGeometry", "ShaderNodeVectorMath", "ShaderNodeEmission", "ShaderNodeOutputMaterial"
    geometry, add, emission, output = (tree.nodes.new(kind) for kind in kinds)
    add.inputs[1].default_value = (OFFSET,) * 3
    tree.links.new(geometry.outputs["Position"], add.inputs[0])
    tree.links.new(add.outputs[0], emission.inputs["Color"])
    tree.links.new(emission.outputs[0], output.inputs["Surface"])
    return material


def places_seen_by_cycles(scene, folder) -> np.ndarray:
    """(height, width, 3) through the centres of the pixels."""
    set_up_cycles(scene)
    scene.render.image_settings.file_format, scene.render.image_settings.color_depth = "OPEN_EXR", "32"
    scene.render.filepath = str(folder / "places.exr")
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(scene.render.filepath)
    pixels = np.array(image.pixels[:], np.float64).reshape(image.size[1], image.size[0], -1)
    return pixels[::-1, :, :3] - OFFSET


def set_up_cycles(scene):
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.filter_width = 1, False, 0.01
    scene.cycles.pixel_filter_type = "BOX"


def depth_by_cycles(scene, folder) -> np.ndarray:
    """(height, width) the pass Depth."""
    import OpenEXR

    set_up_cycles(scene)
    scene.view_layers[0].use_pass_z = True
    compat.multilayer_exr(scene.render.image_settings)
    scene.render.filepath = str(folder / "passes.exr")
    bpy.ops.render.render(write_still=True)
    found = {}
    for part in OpenEXR.File(scene.render.filepath, separate_channels=True).parts:
        found |= {name.rpartition("ViewLayer.")[2]: channel.pixels for name, channel in part.channels.items()}
    return found["Depth.Z"]


def perspective(data, render):
    data.lens, data.shift_x, data.shift_y = 22.0, 0.12, -0.2


def portrait(data, render):
    data.lens, data.shift_x = 30.0, 0.1
    render.resolution_x, render.resolution_y = 20, 36


def vertical_fit(data, render):
    data.lens, data.sensor_fit, data.sensor_height, data.shift_y = 28.0, "VERTICAL", 20.0, 0.15


def oblong_pixels(data, render):
    data.lens, render.pixel_aspect_x, render.pixel_aspect_y, data.shift_x = 25.0, 1.0, 1.5, 0.1


def orthographic(data, render):
    data.type, data.ortho_scale, data.shift_x, data.shift_y = "ORTHO", 5.0, 0.1, -0.15


def orthographic_vertical(data, render):
    data.type, data.ortho_scale, data.sensor_fit = "ORTHO", 4.0, "VERTICAL"


def panorama(data, render):
    data.type, data.panorama_type = "PANO", "EQUIRECTANGULAR"


def part_of_a_panorama(data, render):
    data.type, data.panorama_type = "PANO", "EQUIRECTANGULAR"
    data.longitude_min, data.longitude_max, data.latitude_min, data.latitude_max = -0.6, 1.9, -0.4, 1.2


def smaller(data, render):
    render.resolution_percentage = 60


def bordered(data, render):
    render.use_border = render.use_crop_to_border = True
    render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y = 0.3, 0.85, 0.15, 0.55


LENSES = [
    perspective, portrait, vertical_fit, oblong_pixels, orthographic, orthographic_vertical, panorama,
    part_of_a_panorama, smaller, bordered,
]  # fmt: skip


@pytest.mark.parametrize("set_lens", LENSES, ids=lambda f: f.__name__)
def test_rays_go_where_those_of_cycles_go(stage, set_lens, tmp_path):
    set_lens(stage.camera.data, stage.render)
    capture_world = Matrix.LocRotScale((1.0, 2.0, -1.0), Matrix.Rotation(0.7, 3, "X"), (2.5,) * 3)
    shot = shot_of([Moment(stage.camera, np.array(stage.camera.matrix_world), np.array(capture_world))], stage.render)
    place = places_seen_by_cycles(stage, tmp_path)
    width, height = shot.size
    assert place.shape == (height, width, 3)
    left, top = shot.box[:2]
    y, x = np.mgrid[:height, :width] + 0.5
    rays = shot.rays((x + left).ravel(), (y + top).ravel())
    to_scene = np.array(capture_world, np.float64)
    origins = rays.origins @ to_scene[:3, :3].T + to_scene[:3, 3]
    directions = rays.directions @ to_scene[:3, :3].T
    away = place.reshape(-1, 3) - origins
    along = (away * directions).sum(1) / (directions**2).sum(1)
    beside = np.linalg.norm(away - directions * along[:, None], axis=1) / np.linalg.norm(away, axis=1)
    assert beside.max() < 4e-3, "Cycles' rays go through random places of a hundredth of a pixel"
    if shot.lens == PERSPECTIVE and set_lens is not perspective or importlib.util.find_spec("OpenEXR") is None:
        return
    depth = depth_by_cycles(stage, tmp_path).ravel()
    np.testing.assert_allclose(along * rays.cosines * unit_of(capture_world), depth, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", ["FISHEYE_EQUISOLID", "MIRRORBALL"])
def test_other_panoramas_are_refused(stage, kind):
    stage.camera.data.type, stage.camera.data.panorama_type = "PANO", kind
    with pytest.raises(In2nError, match="panoramas are not rendered"):
        shot_of([Moment(stage.camera, np.eye(4), np.eye(4))], stage.render)


@pytest.mark.parametrize("kind", ["PERSP", "ORTHO"])
def test_a_viewports_matrices_are_the_camera_that_made_them(stage, kind):
    data = stage.camera.data
    data.type, data.shift_x, data.shift_y, data.ortho_scale = kind, 0.2, -0.1, 3.0
    depsgraph = bpy.context.evaluated_depsgraph_get()
    window = stage.camera.calc_matrix_camera(depsgraph, x=SIZE[0], y=SIZE[1])
    world = np.array(stage.camera.matrix_world)
    capture_world = np.diag([2.0, 2.0, 2.0, 1.0])
    wanted = shot_of([Moment(stage.camera, world, capture_world)], stage.render)
    got = shot_through_window(np.array(window), np.linalg.inv(world), capture_world, *SIZE)
    assert got.lens == wanted.lens
    one, other = got.cameras[0], wanted.cameras[0]
    np.testing.assert_allclose(one.camera_to_world, other.camera_to_world, atol=1e-5)
    for name in ("fx", "fy", "cx", "cy"):
        assert math.isclose(getattr(one.intrinsics, name), getattr(other.intrinsics, name), rel_tol=1e-4)


def test_an_orthographic_viewport_shows_what_lies_before_its_plane_too(extension):
    window = np.diag(
        [0.2, 0.3, -0.002, 1.0]
    )  # as Blender makes it, for a clip end of 1000: half of it before the plane
    shot = shot_through_window(window, np.eye(4), np.diag([2.0, 2.0, 2.0, 1.0]), *SIZE)
    np.testing.assert_allclose(shot.cameras[0].position, (0, 0, 250))


def test_focus_and_aperture_are_blenders(stage):
    data, world = stage.camera.data, np.array(stage.camera.matrix_world)
    data.dof.use_dof, data.dof.aperture_fstop, data.dof.focus_distance, data.lens = True, 0.5, 3.0, 50.0
    half = np.diag([0.5, 0.5, 0.5, 1.0])
    shot = shot_of([Moment(stage.camera, world, half)], stage.render)
    assert math.isclose(shot.aperture, 0.05 / 0.5 / 2 / 0.5, rel_tol=1e-6) and math.isclose(shot.focus, 6.0)
    before = world[:3, 3] - 2.0 * world[:3, 2] + 0.3 * world[:3, 0]
    assert math.isclose(shot_of([Moment(stage.camera, world, half)], stage.render, before).focus, 4.0, rel_tol=1e-5)
    with pytest.raises(In2nError, match="not before it"):
        shot_of([Moment(stage.camera, world, half)], stage.render, world[:3, 3] + world[:3, 2])
