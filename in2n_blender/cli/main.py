"""The command line: the same jobs as in the window, without one. Standard library only.

It runs under the machine's own Python, makes the environment that a command needs, and sends the jobs to a worker in
it. Exit codes: 0 done, 2 something the user can mend (one sentence and one hint), 130 cancelled, 1 a mistake in the
program.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from .. import environment
from ..link.client import Client, EngineBug
from ..link.process import clean_environment
from ..link.requests import (
    DEVICES,
    NOISE_SCHEDULES,
    PERCEPTUAL,
    Edit,
    Evaluate,
    ExtractMesh,
    ImportCapture,
    PathThroughViews,
    PreviewGrid,
    Reconstruct,
    RenderPath,
    Summarise,
    Testbed,
)
from ..scene.errors import Cancelled, In2nError
from ..scene.presets import PRESETS
from ..scene.reporting import Artifact, Progress, Reporter
from ..workspace.layout import ORIGINAL, Workspace
from ..workspace.stages import Stages
from . import extension

PACKAGE = Path(__file__).resolve().parents[1]
PATH_NAME = "through-views"
PROG = "python3 -m in2n_blender"


def main(arguments: list[str] | None = None, prog: str = PROG) -> int:
    """Run the command line and return its exit code. prog: how the user called it."""
    parser = build_parser(prog)
    known, extra = parser.parse_known_args(arguments)
    if extra and not getattr(known, "passes_on", False):
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    known.extra = extra[1:] if extra[:1] == ["--"] else extra
    if getattr(known, "home", None):
        os.environ["IN2N_HOME"] = str(Path(known.home).expanduser().absolute())
    if getattr(known, "wheelhouse", None):
        os.environ["IN2N_WHEELHOUSE"] = str(Path(known.wheelhouse).expanduser().absolute())
    try:
        with Interruption() as interruption:
            return known.command(known, interruption) or 0
    except In2nError as error:
        print(f"{error.message}\n  {error.hint}", file=sys.stderr)
        return 2
    except (Cancelled, KeyboardInterrupt):
        print("Cancelled. Run the same command again to go on from where it stopped.", file=sys.stderr)
        return 130
    except EngineBug as error:
        print(f"This is a mistake in the program:\n{error}", file=sys.stderr)
        return 1


# --- arguments ------------------------------------------------------------------------------------------------------


def build_parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="Edit captured scenes by text, in Blender or from the command line."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_run(commands)
    _add_parts(commands)
    _add_test(commands)
    _add_install(commands)
    _add_build(commands)
    _add_train_miniature(commands)
    _add_testbed(commands)
    return parser


def _command(commands, name: str, function, help: str, description: str = "", **rest) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=description or help, allow_abbrev=False, **rest)
    parser.set_defaults(command=function)
    place = parser.add_argument_group("where the packages go")
    place.add_argument(
        "--home",
        metavar="DIR",
        help=(
            "folder for the environment and models, several gigabytes (default: $IN2N_HOME, or the user's data folder)"
        ),
    )
    place.add_argument(
        "--wheelhouse",
        metavar="DIR",
        help="install from this folder of wheels, without a network (default: $IN2N_WHEELHOUSE)",
    )
    return parser


def _device(text: str) -> str:
    if not re.fullmatch(DEVICES, text):
        raise argparse.ArgumentTypeError(f"{text!r} is no device: choose auto, cpu, cuda or mps")
    return text


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _add_preset(parser) -> None:
    parser.add_argument(
        "--preset", choices=list(PRESETS), default="standard", help="size of photos and model (default: %(default)s)"
    )


def _add_device(parser) -> None:
    parser.add_argument("--device", type=_device, default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")


def _add_seed(parser) -> None:
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="the same seed gives the same result on the same device (default: %(default)s)",
    )


def _add_steps(parser) -> None:
    parser.add_argument("--steps", type=_positive, help="training steps of the reconstruction (default: the preset's)")


def _add_capture_options(parser) -> None:
    parser.add_argument(
        "--appearance",
        action="store_true",
        help="for photos of different exposure or white balance: learn each photo's, render their mean",
    )
    parser.add_argument(
        "--refine-cameras", action="store_true", help="correct the cameras' poses a little while training"
    )


def _add_editing(parser) -> None:
    parser.add_argument("--instruction", required=True, help="what to change, for example “make it snow”")
    parser.add_argument(
        "--editor",
        default="miniature",
        metavar="NAME",
        help="miniature (bundled), timbrooks/instruct-pix2pix, or a folder in diffusers' format (default: %(default)s)",
    )
    parser.add_argument(
        "--guidance-text",
        type=float,
        metavar="S",
        help="how strongly to follow the instruction (default: the editor's)",
    )
    parser.add_argument(
        "--guidance-image", type=float, metavar="S", help="how strongly to keep the photo (default: the editor's)"
    )
    parser.add_argument("--rounds", type=_positive, help="how often every view is edited (default: the preset's)")
    parser.add_argument(
        "--noise-schedule",
        choices=NOISE_SCHEDULES,
        default=NOISE_SCHEDULES[0],
        help="noise levels that fall round by round, or uniform ones as in the paper (default: %(default)s)",
    )
    parser.add_argument(
        "--perceptual",
        choices=PERCEPTUAL,
        default=PERCEPTUAL[0],
        help=(
            "LPIPS beside L1; where its backbone's weights are missing: L1 alone, or a random backbone (default: "
            "on a GPU)"
        ),
    )


def _add_run(commands) -> None:
    run = _command(
        commands,
        "run",
        run_capture,
        "reconstruct a capture, edit it by an instruction, render frames and a mesh",
        "Import, reconstruct, edit, render and mesh a capture. Killed or cancelled, the same command goes on.",
    )
    run.add_argument(
        "capture", metavar="CAPTURE", help="folder or file: transforms.json, or a COLMAP model beside its images"
    )
    run.add_argument("--out", required=True, metavar="DIR", help="folder for the results and the workspace")
    _add_editing(run)
    for add in (_add_preset, _add_seed, _add_device, _add_steps, _add_capture_options):
        add(run)
    run.add_argument("--frames", type=_positive, default=48, help="frames along the camera path (default: %(default)s)")
    run.add_argument(
        "--mesh-resolution",
        type=_positive,
        default=192,
        metavar="N",
        help="cells of the mesh's grid along its longest side (default: %(default)s)",
    )


def _add_parts(commands) -> None:
    def part(name, function, help):
        parser = _command(commands, name, function, help)
        if name != "import":
            parser.add_argument(
                "workspace",
                metavar="WORKSPACE",
                help="folder that `import` made (`run --out DIR` keeps it in DIR/workspace)",
            )
        return parser

    imported = part("import", import_capture, "read a capture into a workspace: undistort, rotate, scale")
    imported.add_argument(
        "capture", metavar="CAPTURE", help="folder or file: transforms.json, or a COLMAP model beside its images"
    )
    imported.add_argument("--out", required=True, metavar="WORKSPACE", help="the workspace's folder")
    _add_preset(imported)

    reconstruct = part(
        "reconstruct", reconstruct_workspace, "train the NeRF of a workspace, from its checkpoint if there is one"
    )
    for add in (_add_preset, _add_seed, _add_device, _add_steps, _add_capture_options):
        add(reconstruct)
    reconstruct.add_argument("--restart", action="store_true", help="start anew")

    edit = part("edit", edit_workspace, "edit a workspace's reconstruction by an instruction")
    edit.add_argument("--name", help="the edit's name (default: made from the instruction)")
    edit.add_argument("--parent", metavar="NAME", help="an edit to build on (default: the unedited reconstruction)")
    _add_editing(edit)
    for add in (_add_preset, _add_seed, _add_device):
        add(edit)
    edit.add_argument("--restart", action="store_true", help="start anew")

    preview = part(
        "preview", preview_edit, "edit one photo at several guidance scales, to find those that an edit wants"
    )
    preview.add_argument("--instruction", required=True, help="what to change, for example “make it snow”")
    preview.add_argument("--editor", default="miniature", metavar="NAME", help="as for `edit` (default: %(default)s)")
    preview.add_argument(
        "--grid", action="store_true", help="a picture for every pair of scales (default: one picture)"
    )
    preview.add_argument("--view", metavar="NAME", help="the photo's name (default: the first that is trained on)")
    preview.add_argument(
        "--text-scales",
        type=float,
        nargs="+",
        metavar="S",
        help="how strongly to follow the instruction (default: around the editor's own)",
    )
    preview.add_argument(
        "--image-scales",
        type=float,
        nargs="+",
        metavar="S",
        help="how strongly to keep the photo (default: around the editor's own)",
    )
    preview.add_argument("--out", metavar="DIR", help="folder for the pictures (default: previews/… in the workspace)")
    for add in (_add_seed, _add_device):
        add(preview)
    preview.add_argument("--restart", action="store_true", help="make pictures again that are there already")

    render = part("render", render_workspace, "render frames (PNG, EXR) along a camera path")
    render.add_argument("--edit", metavar="NAME", help="which edit (default: the unedited reconstruction)")
    render.add_argument(
        "--path", metavar="FILE", help="camera path file, as Blender exports it (default: a path through the views)"
    )
    render.add_argument(
        "--frames", type=_positive, default=48, help="frames of the path through the views (default: %(default)s)"
    )
    _add_device(render)

    mesh = part("mesh", mesh_workspace, "extract a mesh with vertex colours (PLY, GLB)")
    mesh.add_argument("--edit", metavar="NAME", help="which edit (default: the unedited reconstruction)")
    mesh.add_argument(
        "--resolution",
        type=_positive,
        default=192,
        metavar="N",
        help="grid cells along the longest side (default: %(default)s)",
    )
    _add_device(mesh)

    evaluate = part(
        "evaluate",
        evaluate_workspace,
        "measure an edit: its held-out views against their truth, its frames against each other",
    )
    evaluate.add_argument(
        "--edit", metavar="NAME", help="which edit (default: the unedited reconstruction, against its photos)"
    )
    evaluate.add_argument(
        "--truth",
        metavar="DIR",
        help="what the held-out views should look like, a picture <view name>.png each "
        "(default: what the miniature's instruction does to the photo, where it is exact)",
    )
    evaluate.add_argument(
        "--clip",
        metavar="NAME",
        help=(
            "CLIP model or folder for the CLIP scores (default: openai/clip-vit-large-patch14, where captions "
            "are given)"
        ),
    )
    evaluate.add_argument(
        "--source-caption", metavar="TEXT", help="the unedited scene in words, for the CLIP direction"
    )
    evaluate.add_argument("--target-caption", metavar="TEXT", help="the edited scene in words, for the CLIP direction")
    evaluate.add_argument(
        "--frames",
        type=_positive,
        default=24,
        help="frames of the path on which consistency is measured (default: %(default)s)",
    )
    evaluate.add_argument("--out", metavar="DIR", help="folder for result.json and sheet.png")
    _add_device(evaluate)


def _add_demo(commands) -> None:
    demo = _command(
        commands,
        "demo",
        run_demo,
        "the main job on the bundled capture, from photos to an edited .blend",
        (
            "Import the bundled capture into a .blend, reconstruct, edit by an instruction, render frames and a mesh, "
            "bring both back."
        ),
        epilog=(
            "Further options go to the demo itself (`demo -- --help` lists them): --instruction, --editor, "
            "--preset, --device, --seed, …"
        ),
    )
    demo.add_argument(
        "--out", default="demo", metavar="DIR", help="folder for everything the demo makes (default: ./demo)"
    )
    demo.set_defaults(passes_on=True)


def _add_test(commands) -> None:
    test = _command(
        commands,
        "test",
        run_tests,
        "run the tests",
        "Run the tests. Everything else on the line goes to pytest: paths, -k, -x, …",
    )
    test.add_argument(
        "--gui",
        action="store_true",
        help=(
            "click through an artist's day in a Blender with a window, in a chroot made for it (Linux, root, "
            "mmdebstrap)"
        ),
    )
    test.add_argument(
        "--gui-out", metavar="DIR", default="gui", help="where --gui puts its screenshots (default: ./gui)"
    )
    test.add_argument(
        "--gui-suite",
        metavar="NAME",
        default="sid",
        help="Debian's: sid (Blender 5.2), trixie (Blender 4.3) or both with a comma (default: %(default)s)",
    )
    test.set_defaults(passes_on=True)


def _add_install(commands) -> None:
    install = _command(
        commands, "install", install_environment, "make, verify, repair or remove the engine's environment"
    )
    install.add_argument(
        "--groups", nargs="+", choices=environment.GROUPS, default=["engine"], help="what to install (default: engine)"
    )
    what = install.add_mutually_exclusive_group()
    what.add_argument("--verify", action="store_true", help="import every package and say what does not work")
    what.add_argument("--repair", action="store_true", help="install again what does not work")
    what.add_argument("--remove", action="store_true", help="remove the environment")


def _add_build(commands) -> None:
    build = _command(
        commands,
        "build",
        build_extension,
        "build the Blender extension: one zip a platform, and the index of a repository",
        (
            "Build the Blender extension, one zip a platform, with Blender's own tool. The folder can be served, or "
            "added as a local repository."
        ),
    )
    build.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="folder for the zips and index.json; what an earlier build left there is replaced",
    )
    build.add_argument(
        "--platform",
        nargs="+",
        choices=extension.platforms(),
        metavar="NAME",
        help=f"only these of {', '.join(extension.platforms())} (default: all)",
    )


def _add_testbed(commands) -> None:
    testbed = _command(
        commands,
        "testbed",
        run_testbed,
        "measure editing methods on rendered scenes whose right answer is known",
        "Render the scenes, edit them by every method, measure against the truth. Stopped, the same command goes on.",
    )
    testbed.add_argument(
        "--out", required=True, metavar="DIR", help="folder for result.json, table.md, the sheets and the workspaces"
    )
    testbed.add_argument(
        "--method",
        action="append",
        default=[],
        metavar="NAME",
        help="unedited, per-frame, one-time, score-distillation or iterative; several times for several (default: all)",
    )
    testbed.add_argument(
        "--scene",
        action="append",
        default=[],
        metavar="NAME",
        help="one of the scenes; several times for several (default: all)",
    )
    testbed.add_argument(
        "--instruction",
        action="append",
        metavar="TEXT",
        help="of the miniature's; several times for several (default: snow, sunset and gold)",
    )
    testbed.add_argument(
        "--editor",
        default="miniature",
        metavar="NAME",
        help="miniature, a model's name or a folder in diffusers' format (default: %(default)s)",
    )
    testbed.add_argument(
        "--clip",
        default="",
        metavar="NAME",
        help="measure by this CLIP too: a folder or a name such as openai/clip-vit-large-patch14",
    )
    testbed.add_argument(
        "--rounds", type=_positive, help="how often the iterative update edits every view (default: the preset's)"
    )
    testbed.add_argument(
        "--cache", metavar="DIR", help="folder of the rendered scenes (default: testbed/ beside the environment)"
    )
    testbed.add_argument(
        "--blender-python",
        default="",
        metavar="PROGRAM",
        help="what renders the scenes: `blender`, or a Python with bpy (default: the environment's)",
    )
    for add in (_add_preset, _add_seed, _add_device, _add_steps):
        add(testbed)
    testbed.set_defaults(preset="draft")


def _add_train_miniature(commands) -> None:
    train = _command(
        commands,
        "train-miniature",
        train_miniature,
        "train the bundled miniature editor",
        (
            "Train the bundled miniature editor. Everything else on the line goes to its trainer; `train-miniature -- "
            "--help` lists that."
        ),
    )
    train.set_defaults(passes_on=True)


# --- jobs -----------------------------------------------------------------------------------------------------------


def run_capture(args, interruption) -> None:
    capture, out = _existing(args.capture), Path(args.out).expanduser().resolve()
    workspace = Workspace(out / "workspace")
    place = str(workspace.root)
    name = edit_name(args)
    imported = ImportCapture(workspace=place, source=str(capture), preset=args.preset)
    reconstructed = Reconstruct(
        workspace=place,
        preset=args.preset,
        device=args.device,
        seed=args.seed,
        steps=args.steps,
        restart=False,
        appearance=args.appearance,
        refine_cameras=args.refine_cameras,
    )
    edited = _edit_request(args, place, name)
    for request in (imported, reconstructed, edited):
        request.check()
    _check_known(args.instruction, args.editor)
    with _engine(interruption) as engine, _nothing_left_if_new(out):
        stages = Stages(_made(out) / "run.json")
        before = stages.settings("import")
        if before and before["source"] != str(capture):
            raise In2nError(
                "other_capture",
                f"{out} holds the results of another capture, {before['source']}.",
                "Choose another folder with --out.",
            )

        def stage(key, request, there=lambda: True):
            def work(restart):
                changed = (
                    type(request)(**{**request.to_params(), "restart": True})
                    if restart and hasattr(request, "restart")
                    else request
                )
                return engine(changed)

            settings = {k: v for k, v in request.to_params().items() if k not in ("workspace", "camera_path")}
            if not stages.run(key, settings, work, there):
                print(f"{key}: done before", flush=True)

        stage("import", imported, workspace.capture_json.exists)
        stage("reconstruct", reconstructed, (workspace.reconstruction / "checkpoint.safetensors").exists)
        stage(f"edit {name}", edited, (workspace.edit(name) / "checkpoint.safetensors").exists)
        path = workspace.camera_path(PATH_NAME)
        stage("path", PathThroughViews(workspace=place, name=PATH_NAME, frames=args.frames), path.exists)
        stage(
            f"render {name}",
            RenderPath(workspace=place, camera_path=str(path), edit=name, device=args.device),
            workspace.renders(name, PATH_NAME).exists,
        )
        stage(
            f"mesh {name}",
            ExtractMesh(workspace=place, edit=name, resolution=args.mesh_resolution, device=args.device),
            workspace.mesh(name, ".glb").exists,
        )
        results = {key.split(" ")[0]: result for key, result in stages.results.items() if key != "path"}
        shutil.rmtree(out / "frames", ignore_errors=True)  # may hold frames of an earlier, longer path
        engine(
            Summarise(
                workspace=place, edit=name, camera_path=PATH_NAME, out=str(out), device=args.device, results=results
            )
        )
    print(f"Done: {out}/contact_sheet.png, before_after.gif, frames/edited/, mesh.glb, report.json")


def import_capture(args, interruption) -> None:
    request = ImportCapture(
        workspace=str(Path(args.out).expanduser().resolve()), source=str(_existing(args.capture)), preset=args.preset
    )
    _one_job(request, interruption)


def reconstruct_workspace(args, interruption) -> None:
    _one_job(
        Reconstruct(
            workspace=_workspace(args),
            preset=args.preset,
            device=args.device,
            seed=args.seed,
            steps=args.steps,
            restart=args.restart,
            appearance=args.appearance,
            refine_cameras=args.refine_cameras,
        ),
        interruption,
    )


def edit_workspace(args, interruption) -> None:
    _one_job(_edit_request(args, _workspace(args), args.name or edit_name(args), args.restart), interruption)


def preview_edit(args, interruption) -> None:
    if not args.grid and max(len(args.text_scales or ()), len(args.image_scales or ())) > 1:
        raise In2nError("bad_guidance", "One picture has one text and one image scale.", "Add --grid for several.")
    request = PreviewGrid(
        workspace=_workspace(args),
        instruction=args.instruction,
        editor=args.editor,
        view=args.view,
        grid=args.grid,
        text_scales=args.text_scales,
        image_scales=args.image_scales,
        seed=args.seed,
        device=args.device,
        out=str(Path(args.out).expanduser().resolve()) if args.out else None,
        restart=args.restart,
    )
    request.check()
    _check_known(args.instruction, args.editor)
    _one_job(request, interruption)


def render_workspace(args, interruption) -> None:
    place = _workspace(args)
    path = str(_existing(args.path)) if args.path else None
    with _engine(interruption) as engine:
        path = path or engine(PathThroughViews(workspace=place, name=PATH_NAME, frames=args.frames))["camera_path"]
        _print_result(
            engine(RenderPath(workspace=place, camera_path=path, edit=_edit_or_none(args.edit), device=args.device))
        )


def mesh_workspace(args, interruption) -> None:
    _one_job(
        ExtractMesh(
            workspace=_workspace(args), edit=_edit_or_none(args.edit), resolution=args.resolution, device=args.device
        ),
        interruption,
    )


def evaluate_workspace(args, interruption) -> None:
    absolute = lambda path: path and str(Path(path).expanduser().resolve())  # noqa: E731
    request = Evaluate(
        workspace=_workspace(args),
        edit=_edit_or_none(args.edit),
        truth=args.truth and str(_existing(args.truth)),
        clip=args.clip,
        source_caption=args.source_caption,
        target_caption=args.target_caption,
        frames=args.frames,
        out=absolute(args.out),
        device=args.device,
    )
    request.check()
    with _engine(interruption) as engine:
        print(engine(request)["table"])


def edit_name(args) -> str:
    """A name for an edit: the instruction's words, and a mark of all else that it depends on."""
    words = re.sub(r"[^a-z0-9]+", "-", args.instruction.lower()).strip("-")[:40].strip("-") or "edit"
    settings = (
        args.instruction,
        args.editor,
        args.guidance_text,
        args.guidance_image,
        args.seed,
        args.rounds,
        args.noise_schedule,
        args.perceptual,
    )
    parent = getattr(args, "parent", None)
    mark = hashlib.sha256(repr(settings + ((parent,) if parent else ())).encode()).hexdigest()
    return f"{words}-{mark[:4]}"


def _edit_request(args, workspace: str, name: str, restart: bool = False) -> Edit:
    return Edit(
        workspace=workspace,
        name=name,
        instruction=args.instruction,
        editor=args.editor,
        guidance_text=args.guidance_text,
        guidance_image=args.guidance_image,
        seed=args.seed,
        preset=args.preset,
        device=args.device,
        rounds=args.rounds,
        noise_schedule=args.noise_schedule,
        perceptual=args.perceptual,
        restart=restart,
        parent=getattr(args, "parent", None),
    )


def _edit_or_none(name: str | None) -> str | None:
    return None if name in (None, ORIGINAL) else name


def _existing(path: str) -> Path:
    found = Path(path).expanduser().resolve()
    if not found.exists():
        raise In2nError("missing_file", f"{found} does not exist.", "Check the path.")
    return found


def _workspace(args) -> str:
    workspace = Workspace(args.workspace)
    if not workspace.capture_json.exists():
        raise In2nError(
            "no_workspace",
            f"{workspace.root} is not a workspace: it has no capture.json.",
            "Make one first: python3 -m in2n_blender import CAPTURE --out WORKSPACE.",
        )
    return str(workspace.root)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise In2nError(
            "cannot_write", f"{folder} cannot be made ({error.strerror}).", "Choose another folder with --out."
        ) from error
    return folder


@contextmanager
def _nothing_left_if_new(out: Path):
    """Remove the folder again when it was not there before and the capture could not even be imported into it."""
    new = not out.exists()
    try:
        yield
    except In2nError:
        if new and not Workspace(out / "workspace").capture_json.exists():
            shutil.rmtree(out, ignore_errors=True)
        raise


def _check_known(instruction: str, editor: str) -> None:
    """The miniature knows few instructions: say so before minutes are spent. Raises
    In2nError("unknown_instruction")."""
    if editor == "miniature":
        from ..engine.diffusion.miniature.instructions import match_instruction  # standard library only

        match_instruction(instruction)


def _one_job(request, interruption) -> None:
    request.check()
    with _engine(interruption) as engine:
        _print_result(engine(request))


def _print_result(result: dict) -> None:
    for key, value in result.items():
        if isinstance(value, (str, int, float)):
            print(f"{key}: {value:.2f}" if isinstance(value, float) else f"{key}: {value}")


@contextmanager
def _engine(interruption, groups=("engine",)):
    """Yields a function request -> result that runs jobs in one worker and shows their progress."""
    python = engine_python(interruption, groups)
    with Client(python) as client:

        def run(request) -> dict:
            printer = ProgressPrinter()
            try:
                return client.run(request, printer, lambda: interruption.asked)
            finally:
                printer.close()

        yield run


def engine_python(interruption, groups=("engine",)) -> Path:
    """The interpreter of the environment, made first if need be; $IN2N_ENGINE_PYTHON names another one to use as it
    is."""
    named = os.environ.get("IN2N_ENGINE_PYTHON")
    if named:
        _existing(named)
        return Path(named).expanduser().absolute()  # not resolved: a virtual environment's python is a link to its base
    if not environment.plan(groups).ready:
        _check_online()
    printer = ProgressPrinter()
    try:
        return environment.install(groups, report=Reporter(printer, lambda: interruption.asked))
    finally:
        printer.close()


def _check_online() -> None:
    """Blender's own setting for its extensions, handed on by `blender --command in2n`. Raises In2nError("offline")."""
    if os.environ.get("IN2N_OFFLINE") and not os.environ.get("IN2N_WHEELHOUSE"):
        raise In2nError(
            "offline",
            "The packages are not installed, and Blender's online access is off.",
            "Put --online-mode before --command, or install from a folder of wheels with --wheelhouse DIR.",
        )


# --- commands that run another program in the environment -----------------------------------------------------------


def run_demo(args, interruption) -> int:
    asked = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    asked.add_argument("--instruction")
    asked.add_argument("--editor", default="miniature")
    edit = asked.parse_known_args(args.extra)[0]
    if edit.instruction is not None:
        _check_known(edit.instruction, edit.editor)
    python = engine_python(interruption, ("engine", "blender"))
    return _module(python, interruption, "in2n_blender.blender.demo", ["--out", args.out, *args.extra])


def run_testbed(args, interruption) -> None:
    request = Testbed(
        out=str(Path(args.out).expanduser().resolve()),
        cache=str(Path(args.cache or environment.home_folder() / "testbed").expanduser().resolve()),
        methods=args.method,
        scenes=args.scene,
        **({"instructions": args.instruction} if args.instruction else {}),
        editor=args.editor,
        seed=args.seed,
        preset=args.preset,
        device=args.device,
        steps=args.steps,
        rounds=args.rounds,
        clip=args.clip,
        blender_python=args.blender_python,
    )
    request.check()
    _made(Path(request.out))
    with _engine(interruption, ("engine",) if args.blender_python else ("engine", "blender")) as engine:
        print(engine(request)["table"])
    print(f"Done: {request.out}/result.json, table.md, and a sheet for each scene")


def train_miniature(args, interruption) -> int:
    python = engine_python(interruption)
    return _module(python, interruption, "in2n_blender.testbed.miniature.train", args.extra)


def run_tests(args, interruption) -> int:
    tests = PACKAGE.parent / "tests"
    if not tests.is_dir():
        raise In2nError(
            "no_tests",
            "The tests are not here.",
            "They come with a checkout of the project, not with the installed extension.",
        )
    if args.gui:
        return _test_window(args, interruption, tests / "gui")
    python = engine_python(interruption, environment.GROUPS)
    codes = []
    for paths, rest in split_test_paths(args.extra, tests):
        # bpy and torch bring libraries that do not go together: a process each
        print(f"$ python -m pytest {' '.join([*paths, *rest])}", flush=True)
        codes.append(_program(python, interruption, ["-m", "pytest", *paths, *rest], cwd=PACKAGE.parent))
        if interruption.asked:
            return 130
    return worst_code(codes)


def _test_window(args, interruption, tests: Path) -> int:
    """Only what needs a window; it tells where the screenshots are."""
    python = engine_python(interruption, ("engine", "test"))
    out = Path(args.gui_out).absolute()
    os.environ.update(IN2N_GUI="1", IN2N_GUI_OUT=str(out), IN2N_GUI_SUITE=args.gui_suite)
    code = _program(python, interruption, ["-m", "pytest", str(tests), *args.extra], cwd=PACKAGE.parent)
    if out.is_dir():
        print(f"Screenshots: {out}")
    return code


def split_test_paths(extra: list[str], tests: Path) -> list[tuple[list[str], list[str]]]:
    """pytest's runs: [(paths, other arguments)], those without bpy first. Paths on the line choose what runs where."""

    def is_path(text: str) -> bool:
        place = text.split("::")[0]
        return not text.startswith("-") and (Path(place).exists() or (tests.parent / place).exists())

    paths = [
        text
        for i, text in enumerate(extra)
        if is_path(text) and (i == 0 or extra[i - 1] not in ("-k", "-m", "-o", "-c", "-p"))
    ]
    rest = [text for text in extra if text not in paths]
    in_blender = (
        [text for text in paths if "blender" in _absolute(text, tests).relative_to(tests).parts[:1]] if paths else []
    )
    outside = [text for text in paths if text not in in_blender]
    if not paths or str(tests) in {str(_absolute(text, tests)) for text in outside}:
        return [([str(tests), f"--ignore={tests / 'blender'}"], rest), ([str(tests / "blender")], rest)]
    return [(group, rest) for group in (outside, in_blender) if group]


def _absolute(text: str, tests: Path) -> Path:
    place = Path(text.split("::")[0])
    found = place.resolve() if place.exists() else (tests.parent / place).resolve()
    return found if found == tests or tests in found.parents else tests / found.name


NO_TESTS_COLLECTED = 5


def worst_code(codes: list[int]) -> int:
    """One exit code for several runs of pytest: a run that had nothing to do counts only when none had."""
    done = [code for code in codes if code != NO_TESTS_COLLECTED]
    return max(done, key=abs) if done else NO_TESTS_COLLECTED


def _module(python: Path, interruption, module: str, arguments: list[str]) -> int:
    return _program(python, interruption, ["-m", module, *arguments])


def _program(python: Path, interruption, arguments: list[str], cwd: Path | None = None) -> int:
    """Run the environment's Python in this terminal; Ctrl-C reaches it directly. Returns its exit code."""
    env = {
        **clean_environment(),
        "PYTHONPATH": str(PACKAGE.parent),
        "OMP_WAIT_POLICY": "passive",
        "IN2N_ENGINE_PYTHON": str(python),
        "IN2N_HOME": str(environment.home_folder()),
    }
    process = subprocess.Popen([str(python), *arguments], env=env, cwd=cwd)
    code = None
    while code is None:
        try:
            code = process.wait(0.2)
        except subprocess.TimeoutExpired:
            if interruption.asked_by_term:
                process.terminate()
    return 130 if interruption.asked else code if code >= 0 else 1


def install_environment(args, interruption) -> int:
    printer = ProgressPrinter()
    report = Reporter(printer, lambda: interruption.asked)
    groups = tuple(args.groups)
    try:
        if args.remove:
            environment.remove(report=report)
            return 0
        if args.verify:
            failing = environment.verify(groups, report=report)
        else:
            _check_online()
            python = (environment.repair if args.repair else environment.install)(groups, report=report)
    finally:
        printer.close()
    if args.verify:
        for module, error in failing.items():
            print(f"{module}: {error}")
        print("Everything imports." if not failing else "Repair it: python3 -m in2n_blender install --repair")
        return 2 if failing else 0
    print(f"Ready: {python}")
    return 0


def build_extension(args, interruption) -> None:
    extension.check_checkout()
    python = engine_python(interruption, ("blender",))
    out = _made(Path(args.out).expanduser().resolve())
    printer = ProgressPrinter()
    try:
        zips = extension.build(out, python, Reporter(printer, lambda: interruption.asked), args.platform)
    finally:
        printer.close()
    for file in zips:
        print(f"{file} ({file.stat().st_size / 2**20:.0f} MB)")


# --- the terminal ---------------------------------------------------------------------------------------------------


class Interruption:
    """Ctrl-C (and the request to terminate) as a question that jobs ask; the second Ctrl-C does not wait."""

    def __init__(self):
        self.asked = False
        self.asked_by_term = False
        self._before: dict = {}

    def __enter__(self) -> Interruption:
        try:
            self._before = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: whoever called decides
            pass
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: one that is not Python's, such as Blender's own

    def _handle(self, number, _frame) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self.asked_by_term = number == signal.SIGTERM
        print("\nCancelling…", file=sys.stderr, flush=True)


class ProgressPrinter:
    """Shows events: one line rewritten on a terminal, else a plain line every few seconds and for every new message."""

    def __init__(self, stream=None, every: float = 5.0, clock=time.monotonic):
        self._stream = stream or sys.stdout
        self._terminal = self._stream.isatty()
        self._every = every
        self._clock = clock
        self._said = float("-inf")
        self._stage: tuple | None = None
        self._open = False  # a line is there to be rewritten

    def __call__(self, event) -> None:
        if isinstance(event, Progress):
            self._progress(event)
        elif not isinstance(event, Artifact):
            self.close()
            self._say(f"{event}\n")

    def _progress(self, event: Progress) -> None:
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._say(f"\r{progress_line(event)[:width]:<{width}}")
            self._open = True
            return
        stage = (event.unit, event.total, event.done >= event.total > 0)
        now = self._clock()
        if stage != self._stage or now - self._said >= self._every:
            self._said, self._stage = now, stage
            self._say(progress_line(event) + "\n")

    def close(self) -> None:
        """End a line that was being rewritten."""
        if self._open:
            self._say("\n")
            self._open = False

    def _say(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def progress_line(event: Progress, width: int = 24) -> str:
    """[########----] 120/300 steps  training  2 min left"""
    if event.total <= 0:
        return event.message
    share = min(max(event.done / event.total, 0.0), 1.0)
    bar = "#" * round(share * width)
    left = f"  {spoken_seconds(event.seconds_left)} left" if event.seconds_left is not None else ""
    return f"[{bar:-<{width}}] {event.done}/{event.total} {event.unit}  {event.message}{left}"


def spoken_seconds(seconds: float) -> str:
    seconds = int(max(seconds, 0))
    if seconds < 90:
        return f"{seconds} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
