"""The command line: the same jobs as in the window, without one. Standard library only.

It runs under the machine's own Python, makes the environment that a command needs, and sends the jobs to a worker in
it. Exit codes: 0 done, 2 something the user can mend (one sentence and one hint), 130 cancelled, 1 a mistake in the
program.
"""

from __future__ import annotations

import argparse
import os
import sys

from .. import environment
from ..link.client import EngineBug
from ..link.requests import (
    Edit,
    Evaluate,
    ExportDataset,
    ExtractMesh,
    ImportCapture,
    MakeSplats,
    PathThroughViews,
    PreviewGrid,
    Reconstruct,
    RenderPath,
    ReportCapture,
    RunBatch,
    Testbed,
)
from ..remote.machines import FOLDER, MACHINE_VARIABLE
from ..scene.errors import Cancelled, In2nError, as_typed
from ..workspace.files import OF_THE_DISK
from . import commands, extension, models, setup
from .arguments import add_demo, add_request, add_run
from .batch import run_batch
from .run import run_capture
from .terminal import Interruption, printable

PROG = as_typed("python3 -m in2n_blender")
DONE, BUG, MENDABLE, CANCELLED = 0, 1, 2, 130


def main(arguments: list[str] | None = None, prog: str = PROG) -> int:
    """Run the command line.

    Args:
        arguments: Those of the process unless given.
        prog: How the user called it.

    Returns:
        The exit code.

    Raises:
        SystemExit: From argparse, for --help and for arguments that cannot be read.
    """
    parser = build_parser(prog)
    known, extra = parser.parse_known_args(arguments)
    if extra and not getattr(known, "passes_on", False):
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    known.extra = extra[1:] if extra[:1] == ["--"] else extra
    try:
        _choose_folders(known)
        with Interruption() as interruption:
            return known.command(known, interruption) or DONE
    except In2nError as error:
        print(printable(f"{error.message}\n  {error.hint}"), file=sys.stderr)
        return MENDABLE
    except (Cancelled, KeyboardInterrupt):
        print("Cancelled. Run the same command again to go on from where it stopped.", file=sys.stderr)
        return CANCELLED
    except EngineBug as error:
        print(printable(f"This is a mistake in the program:\n{error}"), file=sys.stderr)
        return BUG
    except OSError as error:
        if error.errno not in OF_THE_DISK or not error.filename:
            raise
        print(f"{error.filename} cannot be used ({error.strerror}).\n  Check the path.", file=sys.stderr)
        return MENDABLE


def _choose_folders(known: argparse.Namespace) -> None:
    for name, variable in (("home", "IN2N_HOME"), ("wheelhouse", "IN2N_WHEELHOUSE")):
        if getattr(known, name) is not None:
            os.environ[variable] = str(setup.given_path(getattr(known, name)))
    if getattr(known, "machine", None) is not None:
        os.environ[MACHINE_VARIABLE] = known.machine


def build_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """The parser of all commands; each sets `command`, a function of the parsed arguments and the interruption."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Edit captured scenes by text, in Blender or from the command line."
    )
    group = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (
        _add_demo,
        _add_run,
        _add_batch,
        _add_parts,
        _add_models,
        _add_test,
        _add_install,
        _add_build,
        _add_train_miniature,
    ):
        add(group)
    _add_testbed(group)
    return parser


def _command(group, name: str, function, help: str, description: str = "", **rest) -> argparse.ArgumentParser:
    parser = group.add_parser(name, help=help, description=description or help, allow_abbrev=False, **rest)
    parser.set_defaults(command=function)
    packages = parser.add_argument_group("where the packages go")
    packages.add_argument(
        "--home",
        metavar="DIR",
        help="folder for the environment and models, several gigabytes "
        "(default: $IN2N_HOME, or the user's data folder)",
    )
    packages.add_argument(
        "--wheelhouse",
        metavar="DIR",
        help="install from this folder of wheels, without a network (default: $IN2N_WHEELHOUSE)",
    )
    return parser


def _add_machine(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "--machine",
        metavar="HOST[:FOLDER]",
        help="let the engine run on another machine, which is reached by ssh with your own keys; the workspace stays "
        f"here and is kept in step with a copy in FOLDER there (default: ${MACHINE_VARIABLE}, or this machine; "
        f"FOLDER: {FOLDER})",
    )
    return parser


def _engine_command(*given, **rest) -> argparse.ArgumentParser:
    """A command whose jobs may be done on another machine."""
    return _add_machine(_command(*given, **rest))


def _add_run(group) -> None:
    run = _engine_command(
        group,
        "run",
        run_capture,
        "reconstruct a capture, edit it by an instruction, render frames and a mesh",
        "Import, reconstruct, edit, render and mesh a capture. Killed or cancelled, the same command goes on.",
    )
    run.add_argument("--out", required=True, metavar="DIR", help="folder for the results and the workspace")
    add_run(run)


def _add_batch(group) -> None:
    batch = _engine_command(
        group,
        "batch",
        run_batch,
        "run a table of captures, instructions and seeds, a run each line",
        "Run a table: a CSV file with the options of `run` as columns (capture, instruction, seed, model, …). A cell "
        "with several values between “|” stands for a line each. What lines share is made once, a line that fails "
        "does not stop the others, and the same command goes on.",
    )
    batch.add_argument("table", metavar="FILE.csv", help="the table; captures are named as seen from its folder")
    batch.add_argument("--out", required=True, metavar="DIR", help="folder for the results: a folder a line")
    add_request(batch, RunBatch, ("cluster", "workers"))


def _add_parts(group) -> None:
    imported = _engine_command(
        group, "import", commands.import_capture, "read a capture into a workspace: undistort, rotate, scale"
    )
    add_request(imported, ImportCapture, flags={"workspace": ("--out",)})
    report = _engine_command(
        group, "report", commands.report_capture, "say what would improve a capture, and write capture-report.html"
    )
    add_request(report, ReportCapture)

    reconstruct = _engine_command(
        group,
        "reconstruct",
        commands.reconstruct_workspace,
        "train the NeRF of a workspace, from its checkpoint if there is one",
    )
    add_request(reconstruct, Reconstruct)

    edit = _engine_command(
        group, "edit", commands.edit_workspace, "edit a workspace's reconstruction by an instruction"
    )
    add_request(edit, Edit, optional=("name",))

    preview = _engine_command(
        group,
        "preview",
        commands.preview_edit,
        "edit one photo at several guidance scales, to find those that an edit wants",
    )
    add_request(preview, PreviewGrid)

    render = _engine_command(group, "render", commands.render_workspace, "render frames (PNG, EXR) along a camera path")
    add_request(render, RenderPath, optional=("camera_path",))
    add_request(render, PathThroughViews, ("frames",))

    mesh = _engine_command(
        group, "mesh", commands.mesh_workspace, "extract a mesh (PLY: vertex colours, GLB: a texture)"
    )
    add_request(mesh, ExtractMesh)

    splats = _engine_command(
        group, "splats", commands.splats_workspace, "make Gaussian splats (PLY, SPZ) of the reconstruction or an edit"
    )
    add_request(splats, MakeSplats)

    export = _engine_command(
        group,
        "export",
        commands.export_workspace,
        "write an edit's pictures with their cameras, for nerfstudio, COLMAP and other trainers",
    )
    add_request(export, ExportDataset)

    evaluate = _engine_command(
        group,
        "evaluate",
        commands.evaluate_workspace,
        "measure an edit: its held-out views against their truth, its frames against each other",
    )
    add_request(evaluate, Evaluate)


def _add_demo(group) -> None:
    demo = _command(
        group,
        "demo",
        setup.run_demo,
        "the main job on the bundled capture, from photos to an edited .blend",
        "Import the bundled capture into a .blend, reconstruct, edit by an instruction, render frames and a mesh, "
        "bring both back.",
    )
    add_demo(demo)


def _add_test(group) -> None:
    test = _command(
        group,
        "test",
        setup.run_tests,
        "run the tests",
        "Run the tests. Everything else on the line goes to pytest: paths, -k, -x, …",
    )
    test.add_argument(
        "--gui",
        action="store_true",
        help="click through an artist's day in a Blender with a window, in a chroot made for it (Linux, root, "
        "mmdebstrap)",
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
    test.add_argument(
        "--gpu",
        action="store_true",
        help="show what a GPU does: its tests, speeds and memory, in under nine minutes; what else is on the line goes "
        "to tests/benchmarks/gpu.py (--capture, --parts, --device cpu --tiny)",
    )
    test.add_argument(
        "--gpu-out", metavar="DIR", default="gpu", help="where --gpu puts result.json and table.md (default: ./gpu)"
    )
    test.set_defaults(passes_on=True)


def _add_models(group) -> None:
    _command(
        group,
        "models",
        models.list_models,
        "list the 2D models: licence, size, whether they are here and fit this machine",
    )


def _add_install(group) -> None:
    install = _command(
        group, "install", setup.install_environment, "make, verify, repair or remove the engine's environment"
    )
    install.add_argument(
        "--groups", nargs="+", choices=environment.GROUPS, default=["engine"], help="what to install (default: engine)"
    )
    install.add_argument(
        "--with",
        dest="more",
        nargs="+",
        choices=environment.OPTIONAL,
        default=[],
        help="what the engine can do without: ray, for work on a cluster (--cluster)",
    )
    _add_machine(install)
    what = install.add_mutually_exclusive_group()
    what.add_argument("--verify", action="store_true", help="import every package and say what does not work")
    what.add_argument("--repair", action="store_true", help="install again what does not work")
    what.add_argument("--remove", action="store_true", help="remove the environment")


def _add_build(group) -> None:
    build = _command(
        group,
        "build",
        setup.build_extension,
        "build the Blender extension: one zip a platform, and the index of a repository",
        "Build the Blender extension, one zip a platform, with Blender's own tool. The folder can be served, or added "
        "as a local repository.",
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


def _add_testbed(group) -> None:
    testbed = _command(
        group,
        "testbed",
        commands.run_testbed,
        "measure editing methods on rendered scenes whose right answer is known",
        "Render the scenes, edit them by every method, measure against the truth. Stopped, the same command goes on.",
    )
    add_request(testbed, Testbed, optional=("cache",))


def _add_train_miniature(group) -> None:
    train = _command(
        group,
        "train-miniature",
        setup.train_miniature,
        "train the bundled miniature model",
        "Train the bundled miniature model. Everything else on the line goes to its trainer; `train-miniature -- "
        "--help` lists that.",
    )
    train.set_defaults(passes_on=True)
