"""Render pairs of original and true edit: `python -m in2n_blender.testbed.scenes.render_pairs --cache DIR …`.

Every scene is rendered from a few cameras in daylight, under snow and at sunset. The cache holds
`<scene>/<camera>_<edit>.png` and `index.json`; a run that was stopped goes on where it stood. Progress is printed as
one JSON object a line: {"done": scenes, "total": scenes}.
"""

import argparse
import json
import os
import random
import sys
from pathlib import Path

import bpy

from ...blender import compat
from .builder import Nodes
from .lighting import SNOW_SLOPE, apply_lighting, set_snow, sunset
from .random_scenes import build_scene, random_camera

EDITS = ("original", "snow", "sunset")
SHAPE = "shape"  # of what is seen, for the auxiliary targets; `pairs.py` reads it by this name
SHAPE_SAMPLES = 4
VERSION = 2


def configure_render(scene: bpy.types.Scene, size: int, samples: int, threads: int) -> None:
    """Cycles on the CPU, denoised; sRGB PNG files without a film look (the Standard view transform).

    Args:
        scene: What is rendered.
        size: Pixels a side.
        samples: A pixel.
        threads: Of the renderer.
    """
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = samples
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.max_bounces = 2
    scene.cycles.caustics_reflective = scene.cycles.caustics_refractive = False
    scene.cycles.use_denoising = True
    scene.cycles.denoiser = "OPENIMAGEDENOISE"
    scene.cycles.denoising_use_gpu = False
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.render.threads_mode = "FIXED"
    scene.render.threads = threads
    scene.render.use_persistent_data = True
    scene.view_settings.view_transform = "Standard"
    scene.view_settings.look = "None"
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.image_settings.color_depth = "8"
    scene.render.image_settings.compression = 15


def render_scene(
    seed: int, folder: Path, cameras: int, size: int, samples: int, threads: int, photographs=()
) -> list[dict]:
    """Render a random scene from several views, with all edits of each.

    Args:
        seed: The scene's number.
        folder: Where the files go, made where it is missing.
        cameras: How many views.
        size: Pixels a side.
        samples: A pixel.
        threads: Of the renderer.
        photographs: Image files that some textures may show.

    Returns:
        For each view: edit -> its file, relative to the folder's parent.
    """
    scene, daylight, views = build_scene(seed, photographs)
    configure_render(scene, size, samples, threads)
    poses = _poses(scene, seed, cameras, views)
    folder.mkdir(parents=True, exist_ok=True)
    for edit in EDITS:
        apply_lighting(scene, sunset(daylight) if edit == "sunset" else daylight)
        set_snow(1.0 if edit == "snow" else 0.0)
        _render_views(scene, poses, folder, edit)
    scene.cycles.samples, scene.cycles.use_denoising = SHAPE_SAMPLES, False
    bpy.context.view_layer.material_override = shape_material()
    scene.world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.0
    scene.view_settings.view_transform = "Raw"
    _render_views(scene, poses, folder, SHAPE)
    return [{name: f"{folder.name}/{number}_{name}.png" for name in (*EDITS, SHAPE)} for number in range(cameras)]


def _render_views(scene: bpy.types.Scene, poses: list[tuple], folder: Path, name: str) -> None:
    for number, (matrix, lens) in enumerate(poses):
        scene.camera.matrix_world, scene.camera.data.lens = matrix, lens
        scene.render.filepath = str(folder / f"{number}_{name}.png")
        bpy.ops.render.render(write_still=True)


def shape_material() -> bpy.types.Material:
    """What a network that paints snow has to see: a material that shines in the colours of the surface's shape.

    Red: how much snow the snow edit lays on it. Green: 0.5 + 0.5 * normal.z. Blue: nearness, 1 / (1 + depth / 4). The
    sky is black, since in a world without light only this material shines.
    """
    material = bpy.data.materials.new("Shape")
    tree = compat.material_nodes(material)
    tree.nodes.clear()
    nodes = Nodes(tree)
    geometry = nodes.add("ShaderNodeNewGeometry")
    up = nodes.add("ShaderNodeSeparateXYZ", {0: geometry.outputs["Normal"]}).outputs[2]
    depth = nodes.add("ShaderNodeCameraData").outputs["View Z Depth"]
    nearness = nodes.math("DIVIDE", 1.0, nodes.math("ADD", 1.0, nodes.math("MULTIPLY", depth, 0.25)))
    halved = nodes.math("ADD", 0.5, nodes.math("MULTIPLY", up, 0.5))
    colour = nodes.add("ShaderNodeCombineColor", {0: nodes.ramp(up, *SNOW_SLOPE), 1: halved, 2: nearness}).outputs[0]
    shine = nodes.add("ShaderNodeEmission", {"Color": colour})
    nodes.add("ShaderNodeOutputMaterial", {"Surface": shine.outputs[0]})
    return material


def _poses(scene: bpy.types.Scene, seed: int, cameras: int, views) -> list[tuple]:
    rng = random.Random(f"cameras {seed}")
    poses = []
    for _ in range(cameras):
        camera = random_camera(scene, rng, views)
        poses.append((camera.matrix_world.copy(), camera.data.lens))
    return poses


def render_pairs(
    cache: Path, first: int, scenes: int, cameras: int, size: int, samples: int, threads: int, photographs=()
) -> Path:
    """Render random scenes into a cache, except those that its index has.

    Args:
        cache: The folder, which is there.
        first: The number of the first scene.
        scenes: How many.
        cameras: Views of each.
        size: Pixels a side.
        samples: A pixel.
        threads: Of the renderer.
        photographs: Image files that some textures may show.

    Returns:
        The index, index.json.
    """
    index_path = cache / "index.json"
    index = {"version": VERSION, "size": size, "edits": list(EDITS), "scenes": {}}
    if index_path.exists():
        stored = json.loads(index_path.read_text(encoding="utf-8"))
        if (stored["version"], stored["size"]) == (VERSION, size):
            index = stored
    for done, seed in enumerate(range(first, first + scenes)):
        if str(seed) not in index["scenes"]:
            rows = render_scene(seed, cache / f"{seed:05d}", cameras, size, samples, threads, photographs)
            index["scenes"][str(seed)] = rows
            _write_json(index_path, index)
        print(json.dumps({"done": done + 1, "total": scenes}), flush=True)
    return index_path


def _write_json(path: Path, content: dict) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    os.replace(temporary, path)


def main(argv: list[str]) -> None:
    """Run the command line.

    Args:
        argv: Its arguments.
    """
    parser = argparse.ArgumentParser(prog="render_pairs", description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first scene")
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--photographs", type=Path, help="folder of pictures that textures may show")
    arguments = parser.parse_args(argv)
    photographs = sorted(str(path) for path in arguments.photographs.glob("*.png")) if arguments.photographs else ()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    render_pairs(
        arguments.cache,
        arguments.first,
        arguments.scenes,
        arguments.cameras,
        arguments.size,
        arguments.samples,
        arguments.threads,
        photographs,
    )


if __name__ == "__main__":
    # Under `blender --background --python`, this program's own arguments follow "--".
    main(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:])
