"""Composite with Scene: pixels of a wall through a captured plane, shadows, the artist's nodes, and no trace left."""

import bpy
import numpy as np
import pytest
from mathutils import Matrix
from test_render_engine import SIZE, asked, render

from in2n_blender.blender import compat, compositing, render_worker
from in2n_blender.scene.errors import In2nError

GREEN = (0.0, 0.75, 0.0)
PLANE = 5.0  # the depth of all that the painting worker renders


@pytest.fixture
def stage(scene, reconstructed, recording):
    """A Cycles scene that looks down along z from 10 above, with a slanted green wall that crosses the depth PLANE in
    the middle of the picture."""
    recording.answers(shot={"paint": True})
    camera = bpy.data.objects.new("shot", bpy.data.cameras.new("shot"))
    camera.matrix_world = Matrix.Translation((0, 0, 10))
    wall = bpy.data.meshes.new("wall")
    wall.from_pydata([(-2, -9, 9), (-2, 9, 9), (2, 9, 1), (2, -9, 1)], [], [(0, 1, 2, 3)])
    wall.materials.append(shining(GREEN))
    for obj in (camera, bpy.data.objects.new("wall", wall)):
        scene.collection.objects.link(obj)
    scene.camera = camera
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 4, False, "CPU"
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    scene.view_settings.view_transform = "Standard"
    yield scene
    render_worker.stop()


def shining(color):
    material = bpy.data.materials.new("shining")
    tree = compat.material_nodes(material)
    tree.nodes.clear()
    emission, output = tree.nodes.new("ShaderNodeEmission"), tree.nodes.new("ShaderNodeOutputMaterial")
    emission.inputs["Color"].default_value = (*color, 1)
    tree.links.new(emission.outputs[0], output.inputs["Surface"])
    return material


def painted() -> np.ndarray:
    """(height, width, 3) what the worker paints."""
    x, y = np.meshgrid(np.arange(SIZE[0]) / SIZE[0], np.arange(SIZE[1]) / SIZE[1])
    return np.stack([x, y, np.full_like(x, 1.5)], -1)


def wall_depth() -> np.ndarray:
    """(width,) of the wall at the middle of each column, by intersecting rays with it; infinite beside it."""
    slope = (np.arange(SIZE[0]) + 0.5 - SIZE[0] / 2) / SIZE[0] * 36 / 50
    depth = PLANE / (1 - 2 * slope)  # its points (x, 5 - 2 x) lie at the depths 5 + 2 x
    return np.where(np.abs(depth * slope) < 2, depth, np.inf)


@pytest.mark.parametrize("transparent", [False, True])
def test_each_hides_the_other_by_its_depth(stage, tmp_path, recording, transparent):
    stage.render.film_transparent = transparent
    assert bpy.ops.in2n.composite() == {"FINISHED"}
    picture = render(stage, tmp_path)[..., :3]
    depth = wall_depth()
    nearer, farther = depth < PLANE - 0.15, np.isfinite(depth) & (depth > PLANE + 0.15)
    assert nearer.sum() > 6 and farther.sum() > 3, "the wall is half before and half behind"
    np.testing.assert_allclose(picture[:, nearer], np.broadcast_to(GREEN, picture[:, nearer].shape), atol=0.02)
    np.testing.assert_allclose(picture[:, farther], painted()[:, farther], atol=0.02)
    beside = np.isinf(depth) & (np.arange(SIZE[0]) > SIZE[0] / 2 + 2)
    np.testing.assert_allclose(picture[:, beside], painted()[:, beside], atol=0.02)
    (request,) = asked(recording)
    assert request["passes"] == ["Depth"] and not request["transparent"]


def test_size_border_and_camera_are_the_scenes_own(stage, tmp_path, recording):
    bpy.ops.in2n.composite()
    other = bpy.data.objects.new("other", stage.camera.data)
    other.matrix_world = Matrix.Translation((0.5, 0, 10))
    stage.collection.objects.link(other)
    stage.camera = other
    stage.render.resolution_percentage = 50
    picture = render(stage, tmp_path)
    assert picture.shape[:2] == (8, 12)
    camera = asked(recording)[0]["shot"]["cameras"][0]
    assert (camera["width"], camera["height"]) == (12, 8) and camera["camera_to_world"][0][3] == pytest.approx(0.5)


def grade(tree):
    """What an artist may have made: the picture's colours exchanged, before the output."""
    (output,) = compat.compositor_outputs(tree)
    layers = next((n for n in tree.nodes if n.bl_idname == "CompositorNodeRLayers"), None)
    layers = layers or tree.nodes.new("CompositorNodeRLayers")
    exchange = tree.nodes.new("CompositorNodeInvert")
    exchange.name = "Mine"
    tree.links.new(layers.outputs["Image"], next(s for s in exchange.inputs if s.type == "RGBA"))
    tree.links.new(exchange.outputs[0], output.inputs[0])
    return exchange


def wiring(tree) -> set[tuple]:
    return {(x.from_node.name, x.from_socket.identifier, x.to_node.name, x.to_socket.identifier) for x in tree.links}


def state(scene) -> tuple:
    """All that the composite may touch."""
    return (
        sorted(s.name for s in bpy.data.scenes),
        sorted(o.name for o in bpy.data.objects),
        sorted(c.name for c in bpy.data.collections),
        [(layer.name, layer.use_pass_z) for layer in scene.view_layers],
        scene.render.film_transparent,
        {o.name: o.hide_render for o in scene.objects},
    )


def test_the_artists_nodes_grade_the_cg_and_are_connected_again(stage, tmp_path):
    tree = compat.new_compositor_tree(stage)
    grade(tree)
    before, nodes = (wiring(tree), state(stage)), sorted(node.name for node in tree.nodes)
    bpy.ops.in2n.composite()
    assert "Mine" in tree.nodes and wiring(tree) != before[0]
    picture = render(stage, tmp_path)[..., :3]
    nearer = wall_depth() < PLANE - 0.15
    np.testing.assert_allclose(picture[:, nearer], np.broadcast_to([1, 0.25, 1], picture[:, nearer].shape), atol=0.02)
    assert bpy.ops.in2n.composite() == {"FINISHED"}, "set up anew, not twice"
    assert len([s for s in bpy.data.scenes if s.get(compositing.MARK)]) == 1
    assert bpy.ops.in2n.remove_composite() == {"FINISHED"}
    assert (wiring(tree), state(stage)) == before and sorted(node.name for node in tree.nodes) == nodes
    assert not bpy.ops.in2n.remove_composite.poll()


def test_nothing_is_left_where_there_were_no_nodes(stage):
    before, groups = state(stage), len(bpy.data.node_groups)
    bpy.ops.in2n.composite()
    bpy.ops.in2n.remove_composite()
    assert state(stage) == before and len(bpy.data.node_groups) == groups
    assert not getattr(stage, "use_nodes", False) or getattr(stage, "compositing_node_group", 1) is None


@pytest.fixture(params=["in a collection", "in none"])
def ground(stage, request):
    """The extracted mesh, a plane where the worker paints, under the capture's Empty; a card before it, and a sun."""
    data = bpy.data.meshes.new("ground")
    data.from_pydata([(-9, -9, 5), (9, -9, 5), (9, 9, 5), (-9, 9, 5)], [], [(0, 1, 2, 3)])
    data.materials.append(shining((1, 1, 1)))
    mesh = bpy.data.objects.new("ground", data)
    mesh.in2n.role, mesh.in2n.edit, mesh.parent = "MESH", "original", stage.in2n.capture
    stage.collection.objects.link(mesh)
    bpy.data.objects.remove(bpy.data.objects["wall"])
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy, sun.data.angle = 3, 0
    sun.matrix_world = Matrix.Rotation(0.5, 4, "Y")
    cube = bpy.data.meshes.new("cube")
    cube.from_pydata([(0.3, -0.4, 6), (0.3, 0.4, 6), (0.7, 0.4, 6), (0.7, -0.4, 6)], [], [(0, 1, 2, 3)])
    cube.materials.append(shining(GREEN))
    inner = stage.collection
    if request.param == "in a collection":
        inner = bpy.data.collections.new("CG")
        stage.collection.children.link(inner)
    for obj in (sun, bpy.data.objects.new("cube", cube)):
        inner.objects.link(obj)
    return mesh


def test_the_cg_casts_its_shadow_on_the_captured_scene(stage, ground, tmp_path):
    before = state(stage)
    bpy.ops.in2n.composite()
    picture = render(stage, tmp_path)[..., :3]
    ratio = (picture / np.maximum(painted(), 1e-3))[..., 2]
    green = np.abs(picture - GREEN).max(-1) < 0.05
    dark = (ratio < 0.75) & ~green
    assert 2 <= green.sum() <= 40 and dark.sum() >= 2, "the card itself, and its shadow beside it"
    lit = ~green & ~dark
    assert np.median(np.abs(picture - painted())[lit]) < 0.05
    assert ground.hide_render, "the field is there itself"
    bpy.ops.in2n.remove_composite()
    assert state(stage) == before and not ground.hide_render


def test_cg_between_the_field_and_its_mesh_is_not_seen(stage, ground, tmp_path):
    ground.location.z -= 2  # of a mesh that is not quite where the field is
    bpy.data.objects["cube"].location.z -= 2
    bpy.ops.in2n.composite()
    late = bpy.data.objects.new("late", bpy.data.objects["cube"].data)
    late.location = (-1, 0, -2)
    stage.collection.objects.link(late)
    bpy.context.view_layer.update()
    picture = render(stage, tmp_path)[..., :3]
    assert not (np.abs(picture - GREEN).max(-1) < 0.05).any()
    bpy.ops.in2n.remove_composite()
    assert set(late.users_collection) == {stage.collection}


def test_what_lies_only_in_a_collection_of_ours_is_kept(stage, ground):
    bpy.ops.in2n.composite()
    cube = bpy.data.objects["cube"]
    (ours,) = [c for c in stage.collection.children if c.get(compositing.MARK) == compositing.LOOSE]
    for collection in cube.users_collection:
        collection.objects.unlink(cube)
    ours.objects.link(cube)
    bpy.ops.in2n.remove_composite()
    assert stage.collection.objects.get("cube") == cube


def test_few_samples_make_no_grain_of_what_the_cg_casts(stage, ground, tmp_path, monkeypatch):
    """A wide sun, of whose shadow four rays a pixel see a fifth each."""
    bpy.data.objects["sun"].data.angle = 2.5
    pictures = {}
    for least, samples in ((1, 4), (64, 4), (1, 1024)):
        monkeypatch.setattr(compositing, "LEAST_SAMPLES", least)
        stage.cycles.samples = samples
        bpy.ops.in2n.composite()
        (denoise,) = [n for g in bpy.data.node_groups for n in g.nodes if n.bl_idname == "CompositorNodeDenoise"]
        if least == 1:
            denoise.mute = True
        pictures[least, samples] = render(stage, tmp_path)[..., :3]
        bpy.ops.in2n.remove_composite()
    error = lambda key: np.sqrt(np.mean((pictures[key] - pictures[1, 1024]) ** 2))
    assert error((64, 4)) < 0.4 * error((1, 4))


def test_a_scene_with_more_samples_keeps_them(stage, ground):
    bpy.ops.in2n.composite()
    layer = stage.view_layers[compositing.SHADOW]
    assert layer.samples == compositing.LEAST_SAMPLES
    stage.cycles.samples = 500
    bpy.context.view_layer.update()
    compositing.follow(stage)
    assert layer.samples == 0, "as many as the scene has"


def test_why_it_cannot_be_set_up_is_said(stage, imported):
    stage.render.engine = "IN2N"
    with pytest.raises(In2nError, match="no CG"):
        compositing.set_up(stage)
    stage.render.engine, stage.camera = "CYCLES", None
    with pytest.raises(In2nError, match="no camera"):
        compositing.set_up(stage)
    assert compositing.field_of(stage) is None


def test_a_field_that_fails_is_an_error_and_no_picture(stage, recording, tmp_path):
    recording.answers(shot={"error": {"code": "not_trained", "message": "Nothing here.", "hint": "Reconstruct."}})
    bpy.ops.in2n.composite()
    other = tmp_path / "of_the_user.png"
    other.touch()
    stage.render.filepath = str(tmp_path / "still.png")
    bpy.ops.render.render(write_still=True)
    stage.render.filepath, stage.frame_end = str(tmp_path / "f_"), 2
    bpy.ops.render.render(animation=True)
    assert list(tmp_path.glob("*.png")) == [other]
