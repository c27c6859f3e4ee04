"""The demo: the bundled capture through the add-on's own operators, without a window.

    python -m in2n_blender.blender.demo --out DIR

Starts from an empty .blend, imports the capture as cameras, reconstructs it, edits it by an instruction, animates a
camera, renders the frames, makes splats and extracts the mesh, before and after, and brings everything back: the
.blend's Before and After switch between them. The engine runs in its own process, as it does in the window.
Leaves in DIR: demo.blend, demo.in2n/ (the workspace), frames/edited/, before_after.gif, mesh.glb, splats.ply,
contact_sheet.png and report.json. A run that was stopped goes on where it stood; demo.json remembers how far it was.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from ..cli.arguments import DEMO_DEFAULTS, add_demo
from ..link.requests import Edit, Summarise
from ..scene.camera import Intrinsics, look_at_point
from ..scene.errors import Cancelled, In2nError
from ..scene.readers import read as read_capture
from ..workspace.layout import ORIGINAL, Workspace, absolute
from ..workspace.outputs import claim, demo_names
from ..workspace.stages import Stages
from . import cameras, compat, jobs

CAPTURE = Path(__file__).resolve().parents[1] / "data" / "demo_capture"
INSTRUCTION = DEMO_DEFAULTS["instruction"]
EDIT, PATH = "edited", "orbit"
FRAME_SIDE = 320  # pixels


@dataclass(frozen=True)
class DemoSettings:
    """What the command line chooses.

    Attributes:
        out: The folder for everything.
        capture: The photos with their cameras.
        instruction: What to change.
        editor: The model: "miniature", its name on the hub, or a folder.
        preset: Size of photos and model.
        device: What the engine computes on.
        seed: Of the reconstruction and the edit.
        steps: Training steps of the reconstruction; 0: the preset's.
        rounds: How often every view is edited; 0: the preset's.
        frames: Along the orbit.
        resolution: Grid cells along the mesh's longest side.
        splats: How many there are at most.
    """

    out: Path
    capture: Path = CAPTURE
    instruction: str = INSTRUCTION
    editor: str = "miniature"
    preset: str = DEMO_DEFAULTS["preset"]
    device: str = "auto"
    seed: int = 0
    steps: int = 0
    rounds: int = 0
    frames: int = 48
    resolution: int = DEMO_DEFAULTS["resolution"]
    splats: int = DEMO_DEFAULTS["splats"]


def run_demo(settings: DemoSettings) -> dict:
    """Run the whole demo.

    Returns:
        What report.json holds.

    Raises:
        In2nError: What `check` and the jobs raise; "not_ours" where the folder holds somebody else's files under the
            names that the demo writes.
        Cancelled: By Ctrl-C.
    """
    out = absolute(settings.out)
    check(settings, out)
    blend = out / "demo.blend"
    claim(out, demo_names(settings.frames))
    enable_add_on()
    open_or_create(blend)
    stages = Stages(out / "demo.json")

    import_capture(settings, blend)
    workspace = Workspace(blend.with_suffix(".in2n"))

    def stage(stage_name: str, chosen: dict, there: Path, operator, **arguments) -> None:
        def work(restart: bool) -> dict:
            # An edit's name is taken by what it was made from before; an earlier reconstruction is laid aside.
            again = {"restart": True} if restart and stage_name == "edit" else {}
            result = call(operator, **arguments, **again)
            save(blend)
            return result

        print(f"--- {stage_name}", flush=True)
        if not stages.run(stage_name, chosen, work, there.exists):
            print("done before", flush=True)

    stage(
        "reconstruct",
        {"preset": settings.preset, "seed": settings.seed, "steps": settings.steps},
        workspace.reconstruction / "checkpoint.safetensors",
        bpy.ops.in2n.reconstruct,
        steps=settings.steps,
    )
    stage(
        "edit",
        {"instruction": settings.instruction, "editor": settings.editor, "rounds": settings.rounds},
        workspace.edit(EDIT) / "checkpoint.safetensors",
        bpy.ops.in2n.edit,
        name=EDIT,
        instruction=settings.instruction,
        editor=settings.editor,
        rounds=settings.rounds,
    )
    if "Orbit camera" not in bpy.context.scene.objects or bpy.context.scene.frame_end != settings.frames:
        animate_orbit(bpy.context.scene, settings.frames)
        look_through_camera()
        save(blend)
    for name, edit in (("render-before", ORIGINAL), ("render", EDIT)):
        stage(
            name,
            {"frames": settings.frames},
            workspace.renders(None if edit == ORIGINAL else edit, PATH),
            bpy.ops.in2n.render_path,
            edit=edit,
            name=PATH,
        )
    stage(
        "splats",
        {"splats": settings.splats},
        workspace.splats(EDIT, ".ply"),
        bpy.ops.in2n.make_splats,
        edit=EDIT,
        splats=settings.splats,
    )
    for name, edit in (("mesh-before", ORIGINAL), ("mesh", EDIT)):
        stage(
            name,
            {"resolution": settings.resolution},
            workspace.mesh(None if edit == ORIGINAL else edit, ".glb"),
            bpy.ops.in2n.extract_mesh,
            edit=edit,
            resolution=settings.resolution,
        )
    print("--- summary", flush=True)
    return summarise(
        Summarise(
            workspace=str(workspace.root),
            edit=EDIT,
            camera_path=PATH,
            out=str(out),
            device=settings.device,
            results=stages.results,
        )
    )


def check(settings: DemoSettings, out: Path) -> None:
    """Check the settings before anything is made.

    Args:
        settings: What the command line chose.
        out: The folder for everything, absolute.

    Raises:
        In2nError: "no_frames", and what `Edit.check` and the reader of the capture raise.
    """
    Edit(
        workspace=str(out),
        name=EDIT,
        instruction=settings.instruction,
        editor=settings.editor,
        preset=settings.preset,
        device=settings.device,
    ).check()
    read_capture(settings.capture)
    if settings.frames < 1:
        raise In2nError("no_frames", "The demo needs at least one frame.", "Give --frames a number from 1 upwards.")


def enable_add_on() -> None:
    """Enable the package as Blender's preferences would."""
    import addon_utils  # found only once bpy is imported

    package = sys.modules[__package__.rpartition(".")[0]]
    package.__time__ = os.path.getmtime(
        package.__file__
    )  # else Blender takes it for changed on disk and loads it again
    if addon_utils.enable(package.__name__) is None:
        raise RuntimeError("the add-on could not be enabled; its traceback is above")


def open_or_create(blend: Path) -> None:
    """Open the .blend of an earlier run, or start an empty one and save it, so that the workspace is beside it.

    Args:
        blend: The file; its folder is there.
    """
    if blend.exists():
        bpy.ops.wm.open_mainfile(filepath=str(blend))
        return
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    # NeRF colours are what the photos show: no film look on top.
    bpy.context.scene.view_settings.view_transform = "Standard"
    save(blend)


def save(blend: Path) -> None:
    """Save with all paths relative, so that the demo's folder can be moved.

    Args:
        blend: The file.
    """
    bpy.context.preferences.filepaths.save_version = 0
    for image in bpy.data.images if bpy.data.filepath else ():
        if image.filepath:
            image.filepath = bpy.path.relpath(image.filepath)
    bpy.ops.wm.save_as_mainfile(filepath=str(blend), compress=True)


def call(operator, **arguments) -> dict:
    """Run one of the add-on's operators to its end.

    Args:
        operator: Of `bpy.ops.in2n`.
        **arguments: The operator's.

    Returns:
        What its job returned.

    Raises:
        In2nError: The job's own, or "operator_failed" with what the operator reported.
        Cancelled: By Ctrl-C.
    """
    before = jobs.current()
    try:
        outcome = operator(**arguments)
    except RuntimeError as error:  # how bpy tells of a report of kind ERROR
        outcome, reported = {"CANCELLED"}, str(error).removeprefix("Error: ").strip()
    else:
        reported = ""
    job = jobs.current()
    if job is not None and job is not before:
        if job.error is not None:
            raise job.error
        return job.result if isinstance(job.result, dict) else {}
    if outcome != {"FINISHED"}:
        raise In2nError("operator_failed", reported or f"{operator.idname_py()} did not finish.", "")
    return {}


def import_capture(settings: DemoSettings, blend: Path) -> None:
    """Import the capture as cameras, unless an earlier run put it into the scene.

    Args:
        settings: What the command line chose.
        blend: The file that is saved afterwards.

    Raises:
        In2nError: What the import raises.
    """
    scene = bpy.context.scene
    for name in ("preset", "device", "seed", "instruction"):
        setattr(scene.in2n, name, getattr(settings, name))
    if not any(o.in2n.role == "CAPTURE" for o in scene.objects):
        call(bpy.ops.in2n.import_capture, filepath=str(settings.capture))
        photo = next(o for o in scene.objects if o.in2n.role == "CAMERA").in2n
        cameras.set_resolution(scene, frame_lens(Intrinsics(*photo.image_size, *photo.intrinsics), settings.capture))
        save(blend)


def frame_lens(trained: Intrinsics, capture: Path) -> Intrinsics:
    """How large frames are: as the photos are trained on, or as they are where that is more and at most FRAME_SIDE.

    Args:
        trained: The lens of a photo at the preset's size.
        capture: The photos.

    Returns:
        That lens with more pixels, or itself.
    """
    photo = read_capture(capture).frames[0].lens.intrinsics
    larger = min(FRAME_SIDE, max(photo.width, photo.height)) / max(trained.width, trained.height)
    return trained.scaled_to(round(trained.width * larger), round(trained.height * larger)) if larger > 1 else trained


# --- the camera path -------------------------------------------------------------------------------------------------


def animate_orbit(scene, frames: int) -> bpy.types.Object:
    """Animate a camera once around what the photos look at, with keyframes a user would set.

    The camera hangs on an Empty that turns, tracks a second Empty in the middle, rises and sinks, and zooms in and
    back. An orbit made before is replaced.

    Args:
        scene: Blender's scene, which holds the capture's cameras.
        frames: Of the loop.

    Returns:
        The camera.
    """
    for name in ("Orbit", "Orbit target", "Orbit camera"):
        if name in bpy.data.objects:
            bpy.data.objects.remove(bpy.data.objects[name])
    photos = [o for o in scene.objects if o.in2n.role == "CAMERA"]
    target, radius, height = viewed_center(np.array([o.matrix_world for o in photos]))
    lens = float(np.median([o.data.lens for o in photos]))
    turning = _empty(scene, "Orbit", target)
    center = _empty(scene, "Orbit target", target)
    data = bpy.data.cameras.new("Orbit camera")
    data.sensor_width, data.sensor_fit = photos[0].data.sensor_width, photos[0].data.sensor_fit
    camera = bpy.data.objects.new("Orbit camera", data)
    scene.collection.objects.link(camera)
    camera.parent = turning
    track = camera.constraints.new("TRACK_TO")
    track.target, track.track_axis, track.up_axis = center, "TRACK_NEGATIVE_Z", "UP_Y"
    scene.camera, scene.frame_start, scene.frame_end, scene.render.fps = camera, 1, frames, 12
    _key_orbit(turning, camera, frames, radius, height, lens)
    return camera


def _empty(scene, name: str, location) -> bpy.types.Object:
    made = bpy.data.objects.new(name, None)
    made.location = location
    made.empty_display_size = 0.2
    scene.collection.objects.link(made)
    return made


def _key_orbit(turning, camera, frames: int, radius: float, height: float, lens: float) -> None:
    # The last frame stops one step short of the first, so that the loop is seamless.
    for frame, angle in ((1, 0.0), (frames + 1, 2 * math.pi)):
        turning.rotation_euler.z = angle - math.pi / 2
        turning.keyframe_insert("rotation_euler", frame=frame)
    for key in (key for curve in compat.fcurves(turning) for key in curve.keyframe_points):
        key.interpolation = "LINEAR"
    for part, lift, zoom in ((0.0, 0.85, 0.97), (0.5, 1.2, 1.07), (1.0, 0.85, 0.97)):
        frame = 1 + round(part * frames)
        camera.location = (math.sqrt(max(radius**2 - (lift * height) ** 2, (0.5 * radius) ** 2)), 0.0, lift * height)
        camera.keyframe_insert("location", frame=frame)
        camera.data.lens = zoom * lens
        camera.data.keyframe_insert("lens", frame=frame)


def look_through_camera() -> None:
    """Let the .blend open looking through the camera, meshes in their vertex colours."""
    for space in (
        space
        for screen in bpy.data.screens
        for area in screen.areas
        for space in area.spaces
        if space.type == "VIEW_3D"
    ):
        space.region_3d.view_perspective = "CAMERA"
        space.shading.type, space.shading.light, space.shading.color_type = "SOLID", "FLAT", "VERTEX"


def viewed_center(poses: np.ndarray) -> tuple[np.ndarray, float, float]:
    """What the cameras look at, and from where.

    Args:
        poses: (n, 4, 4) camera-to-world, OpenGL axes.

    Returns:
        The point (3,) nearest to all optical axes, and the cameras' median distance from it and height above it, in
        the scene's units.
    """
    origins, axes = poses[:, :3, 3], -poses[:, :3, 2] / np.linalg.norm(poses[:, :3, 2], axis=1, keepdims=True)
    center = look_at_point(origins, axes)
    offsets = origins - center
    return center, float(np.median(np.linalg.norm(offsets, axis=1))), float(np.median(offsets[:, 2]))


def summarise(request: Summarise) -> dict:
    """Let the engine make frames/edited/, mesh.glb, splats.ply, before_after.gif, contact_sheet.png and report.json.

    Args:
        request: What they are made of, and where they go.

    Returns:
        The report.

    Raises:
        In2nError: The job's own.
        Cancelled: By Ctrl-C.
    """
    jobs.wait(jobs.submit(bpy.context, "Summary", [request], lambda *_: "", False))
    job = jobs.current()
    if job.error is not None:
        raise job.error
    return job.result


def parse(arguments: list[str] | None = None) -> DemoSettings:
    """The settings of a command line.

    Args:
        arguments: Those of the process unless given.

    Raises:
        SystemExit: From argparse, for --help and for arguments that cannot be read.
    """
    parser = argparse.ArgumentParser(prog="in2n_blender demo", description=__doc__.split("\n")[0], allow_abbrev=False)
    add_demo(parser)
    found = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    return DemoSettings(**{name: Path(value) if name in ("out", "capture") else value for name, value in found.items()})


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and tell how it ended.

    Args:
        arguments: Those of the process unless given.

    Returns:
        The exit code: 0 done, 2 something the user can mend, 130 interrupted.

    Raises:
        SystemExit: From argparse.
    """
    settings = parse(arguments)
    # This Python has bpy and the engine's packages; the add-on starts the engine with it, in a process of its own.
    os.environ.setdefault("IN2N_ENGINE_PYTHON", sys.executable)
    started = time.monotonic()
    try:
        report = run_demo(settings)
    except In2nError as error:
        print(f"{error.message}\n  {error.hint}", file=sys.stderr)
        return 2
    except (Cancelled, KeyboardInterrupt):
        print("Stopped. Run the same command again to go on.", file=sys.stderr)
        return 130
    print(
        f"Done in {(time.monotonic() - started) / 60:.1f} min: {settings.out}/contact_sheet.png, before_after.gif, "
        "demo.blend"
    )
    psnr = report.get("reconstruction", {}).get("psnr_db")
    if psnr is not None:
        print(f"Reconstruction: {psnr:.1f} dB on held-out photos.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
