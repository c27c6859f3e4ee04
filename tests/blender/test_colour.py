"""What the photo showed is what the render shows: the engine's frames under Standard, and other configurations."""

import os
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest
from panel_reader import Read
from PIL import Image

from in2n_blender.blender import colour, panels

ROOT = Path(__file__).resolve().parents[2]
STEPS = 6  # of the chart's side
CHART = np.array(
    [[[r, g, b] for r in (20, 128, 250) for g in (5, 200)] for b in (0, 60, 120, 180, 230, 255)], np.uint8
)  # (6, 6, 3) sRGB
WRITE_CHART = """
import sys
import numpy as np
from pathlib import Path
from in2n_blender.engine.pictures import Picture, write_exr, write_png
chart = np.load(sys.argv[1]).astype(np.float32) / 255
picture = Picture(chart, np.ones(chart.shape[:2], np.float32), np.full(chart.shape[:2], 2.0, np.float32))
write_png(Path(sys.argv[2], "chart.png"), picture)
write_exr(Path(sys.argv[2], "chart.exr"), picture)
"""
# ACEScg as OpenColorIO's documentation gives it: AP1's primaries under ACES's white, from linear Rec. 709 by Bradford.
AP1_FROM_REC709 = np.array(
    [[0.613097, 0.339523, 0.047379], [0.070194, 0.916354, 0.013452], [0.020616, 0.109570, 0.869815]]
)
AP0_FROM_AP1 = np.array(
    [
        [0.695452241, 0.140678696, 0.163869062],
        [0.044794563, 0.859671118, 0.095534318],
        [-0.005525883, 0.004025210, 1.001500672],
    ]
)


@pytest.fixture
def frames(tmp_path, engine):
    """The chart as the engine's own writers put it on disk, as chart.png and chart.exr."""
    np.save(tmp_path / "chart.npy", CHART)
    done = subprocess.run(
        [engine, "-c", WRITE_CHART, str(tmp_path / "chart.npy"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return tmp_path


def plate(scene, image) -> None:
    """Fill the scene's view with an image, a pixel for a pixel, as light of its own."""
    mesh = bpy.data.meshes.new("plate")
    mesh.from_pydata([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)], [], [(0, 1, 2, 3)])
    layer = mesh.uv_layers.new()
    for corner, uv in zip(layer.data, ((0, 0), (1, 0), (1, 1), (0, 1))):
        corner.uv = uv
    material = bpy.data.materials.new("plate")
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    texture, emission, output = (
        nodes.new(kind) for kind in ("ShaderNodeTexImage", "ShaderNodeEmission", "ShaderNodeOutputMaterial")
    )
    texture.image, texture.interpolation = image, "Closest"
    links.new(texture.outputs["Color"], emission.inputs["Color"])
    links.new(emission.outputs[0], output.inputs["Surface"])
    mesh.materials.append(material)
    data = bpy.data.cameras.new("camera")
    data.type, data.ortho_scale = "ORTHO", 2
    camera = bpy.data.objects.new("camera", data)
    camera.location.z = 2
    for thing in (camera, bpy.data.objects.new("plate", mesh)):
        scene.collection.objects.link(thing)
    scene.camera = camera


def rendered(scene, file: Path) -> np.ndarray:
    """What F12 shows, as sRGB bytes: (height, width, 3) uint8."""
    render = scene.render
    render.engine, scene.cycles.samples, scene.cycles.device = "CYCLES", 1, "CPU"
    render.resolution_x, render.resolution_y, render.resolution_percentage = STEPS, STEPS, 100
    render.filter_size, scene.cycles.filter_width = 0.01, 0.01
    scene.cycles.use_denoising, render.dither_intensity = False, 0.0
    render.image_settings.file_format, render.filepath = "PNG", str(file)
    bpy.ops.render.render(write_still=True)
    return np.asarray(Image.open(file).convert("RGB"))


@pytest.mark.parametrize("kind", ["png", "exr"])
def test_a_frame_of_the_chart_comes_back_under_standard(scene, frames, kind):
    image = bpy.data.images.load(str(frames / f"chart.{kind}"))
    colour.tell_srgb(image) if kind == "png" else colour.tell_linear(image)
    plate(scene, image)
    scene.view_settings.view_transform = "AgX"
    assert np.abs(rendered(scene, frames / "agx.png").astype(int) - CHART).max() > 20, "a film's tone curve"
    assert bpy.ops.in2n.use_standard() == {"FINISHED"}
    shown = rendered(scene, frames / "standard.png").astype(int)
    assert np.abs(shown - CHART).max() <= 1, shown - CHART


@pytest.mark.parametrize("kind", ["png", "exr"])
def test_a_strip_of_the_chart_comes_back_under_standard(scene, frames, kind):
    if kind == "exr" and bpy.app.version < (4, 5, 0):
        pytest.skip("the sequencer of 4.2 reads no EXR that has depth beside its colour")
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    strip = strips.new_image("chart", str(frames / f"chart.{kind}"), 1, 1)
    colour.tell_srgb(strip) if kind == "png" else colour.tell_linear(strip)
    scene.view_settings.view_transform = "Standard"
    shown = rendered(scene, frames / "strip.png").astype(int)
    assert np.abs(shown - CHART).max() <= 1, shown - CHART


def test_the_panel_says_what_agx_does_and_one_click_mends_it(scene, reconstructed):
    scene.view_settings.view_transform, scene.view_settings.exposure = "AgX", 0.5
    shown = Read(panels.IN2N_PT_results)
    assert "AgX changes the photos' colors" in shown.text and "in2n.use_standard" in shown.buttons()
    bpy.ops.in2n.use_standard()
    assert (scene.view_settings.view_transform, scene.view_settings.exposure) == ("Standard", 0.5)
    shown = Read(panels.IN2N_PT_results)
    assert "changes the photos" not in shown.text and "in2n.use_standard" not in shown.buttons()
    with pytest.raises(RuntimeError, match="as they are already"):
        bpy.ops.in2n.use_standard()


def test_in_blenders_own_configuration_nothing_is_converted(scene):
    pixels = np.linspace(0, 3, 24, dtype=np.float32).reshape(2, 3, 4)
    assert np.abs(colour.to_scene_linear() - np.eye(3)).max() < 1e-5 and colour.scene_linear(pixels) is pixels


@pytest.mark.skipif(bpy.app.version < (5, 0, 0), reason="a .blend has a working space from 5.0 on")
def test_the_files_working_space_is_asked(scene):
    bpy.ops.wm.set_working_color_space(working_space="ACEScg")
    np.testing.assert_allclose(colour.to_scene_linear(), AP1_FROM_REC709, atol=1e-4)
    bpy.ops.wm.set_working_color_space(working_space="Linear Rec.709")
    assert np.abs(colour.to_scene_linear() - np.eye(3)).max() < 1e-5


def configuration(folder: Path, spaces: dict[str, np.ndarray | None], scene_linear: str, srgb: str) -> Path:
    """A small OCIO configuration, in ACES's manner. spaces: by name, what takes each to AP0; None: no color at all."""
    lines = [
        "ocio_profile_version: 2",
        "strictparsing: false",
        "roles:",
        f"  scene_linear: {scene_linear}",
        "  aces_interchange: ACES2065-1",
        f"  default: {srgb}",
        f"  default_float: {scene_linear}",
        "  data: Raw",
        *(f"  {role}: {srgb}" for role in ("default_byte", "color_picking", "texture_paint", "default_sequencer")),
        "displays:",
        "  sRGB:",
        f"    - !<View> {{name: Un-tone-mapped, colorspace: {srgb}}}",
        "    - !<View> {name: Raw, colorspace: Raw}",
        "colorspaces:",
    ]
    for name, matrix in spaces.items():
        lines += ["  - !<ColorSpace>", f"    name: {name}", f"    isdata: {str(matrix is None).lower()}"]
        if matrix is None:
            continue
        full = np.eye(4)
        full[:3, :3] = matrix
        numbers = ", ".join(f"{value:.9f}" for value in full.reshape(-1))
        steps = [f"!<MatrixTransform> {{matrix: [{numbers}]}}"]
        if name == srgb:
            steps.insert(
                0, "!<ExponentWithLinearTransform> {gamma: [2.4, 2.4, 2.4, 1], offset: [0.055, 0.055, 0.055, 0]}"
            )
        lines += [
            "    to_scene_reference: !<GroupTransform>",
            "      children:",
            *(f"        - {step}" for step in steps),
        ]
    (folder / "config.ocio").write_text("\n".join(lines) + "\n")
    return folder / "config.ocio"


AP0_FROM_REC709 = AP0_FROM_AP1 @ AP1_FROM_REC709
ACES = {
    "ACES2065-1": np.eye(3),
    "ACEScg": AP0_FROM_AP1,
    "Linear Rec.709 (sRGB)": AP0_FROM_REC709,
    "sRGB - Texture": AP0_FROM_REC709,
    "Raw": None,
}
IN_ACES = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {here!r}]
import bpy, numpy as np
import test_colour as t
from in2n_blender.blender import colour
scene, frames = bpy.context.scene, Path({frames!r})
for thing in list(bpy.data.objects):
    bpy.data.objects.remove(thing)
np.testing.assert_allclose(colour.to_scene_linear(), t.AP1_FROM_REC709, atol=2e-3)
linear = np.dstack([np.random.default_rng(0).random((4, 5, 3)) * 2, np.full((4, 5), 0.5)]).astype(np.float32)
converted = colour.scene_linear(linear)
np.testing.assert_allclose(converted[..., :3], linear[..., :3] @ t.AP1_FROM_REC709.T, atol=5e-3)
assert (converted[..., 3] == 0.5).all() and converted.dtype == np.float32
for kind in ("png", "exr"):
    image = bpy.data.images.load(str(frames / f"chart.{{kind}}"))
    colour.tell_srgb(image) if kind == "png" else colour.tell_linear(image)
    t.plate(scene, image)
    scene.view_settings.view_transform = "Raw"
    raw = t.rendered(scene, frames / f"raw-{{kind}}.png") / 255
    scaled = t.CHART / 255
    linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(raw, linear @ t.AP1_FROM_REC709.T, atol=0.012)
    colour.show_plainly(scene)
    assert scene.view_settings.view_transform == "Un-tone-mapped" and not colour.changes_colours(scene)
    assert np.abs(t.rendered(scene, frames / f"plain-{{kind}}.png").astype(int) - t.CHART).max() <= 2
print("WHOLE")
"""
WITHOUT = """
import sys
sys.path[:0] = [{root!r}, {here!r}]
import bpy
from in2n_blender.blender import colour
image = bpy.data.images.load({file!r})
try:
    colour.tell_linear(image)
except Exception as error:
    assert error.code == "no_color_space", error
    print("WHOLE")
"""


def other_blender(program: str, ocio: Path, **texts) -> None:
    """Run a program in a Blender of its own, with another color configuration."""
    text = program.format(root=str(ROOT), here=str(Path(__file__).parent), **texts)
    done = subprocess.run(
        [sys.executable, "-c", text], env={**os.environ, "OCIO": str(ocio)}, capture_output=True, text=True
    )
    assert done.returncode == 0 and "WHOLE" in done.stdout, done.stdout + done.stderr


def test_in_aces_frames_are_converted_to_its_scene_linear_space(frames):
    ocio = configuration(frames, ACES, "ACEScg", "sRGB - Texture")
    other_blender(IN_ACES, ocio, frames=str(frames))


def test_a_configuration_without_the_engines_space_is_named(frames):
    spaces = {name: matrix for name, matrix in ACES.items() if "Linear" not in name}
    ocio = configuration(frames, spaces, "ACEScg", "sRGB - Texture")
    other_blender(WITHOUT, ocio, file=str(frames / "chart.exr"))
