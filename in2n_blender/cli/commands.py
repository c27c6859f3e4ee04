"""The commands that are one job of the engine's: each makes a request of its arguments and sends it to a worker."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from contextlib import contextmanager
from pathlib import Path

from .. import environment
from ..link.client import Client
from ..link.request_fields import Request
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
    Testbed,
)
from ..remote.machines import chosen_machine, worker_command
from ..scene.errors import In2nError
from ..workspace.hashes import file_hash
from ..workspace.layout import ORIGINAL, Workspace
from ..workspace.outputs import claim, made_by_us, record, refuse_foreign
from .arguments import request_of
from .setup import check_known, engine_python, existing, free_folder, given_path, made_folder, need_checkout
from .terminal import ProgressPrinter

PATH_NAME = "through-views"
PREVIEW_FILES = ("preview.json", "photo.png", "sheet.png", "picture.png")
EVALUATION_FILES = ("result.json", "sheet.png")
TESTBED_FILES = ("result.json", "settings.json", "table.md", "workspaces")


def import_capture(args, interruption) -> None:
    """`import`: read a capture into a workspace.

    Args:
        args: The parsed line: workspace, source and what `ImportCapture` takes.
        interruption: Says whether the user asked to stop.

    Raises:
        In2nError: "bad_path", "missing_file", and what the environment and the job raise.
        Cancelled: When the user asked to stop.
    """
    workspace = str(given_path(args.workspace))
    one_job(request_of(ImportCapture, args, workspace=workspace, source=str(existing(args.source))), interruption)


def report_capture(args, interruption) -> None:
    """`report`: measure a workspace's photos, and print what would improve the capture.

    Args:
        args: The parsed line: workspace.
        interruption: Says whether the user asked to stop.

    Raises:
        In2nError: "bad_path", "no_workspace", and what the environment and the job raise.
        Cancelled: When the user asked to stop.
    """
    with engine_for(interruption) as engine:
        result = engine(request_of(ReportCapture, args, workspace=_workspace(args)))
    print("\n".join([*result["improvements"], f"file: {result['file']}"]))


def reconstruct_workspace(args, interruption) -> None:
    """`reconstruct`: train the NeRF of a workspace.

    Args:
        args: The parsed line: workspace and what `Reconstruct` takes.
        interruption: Says whether the user asked to stop.

    Raises:
        In2nError: "bad_path", "no_workspace", and what the environment and the job raise.
        Cancelled: When the user asked to stop.
    """
    one_job(request_of(Reconstruct, args, workspace=_workspace(args)), interruption)


def edit_workspace(args, interruption) -> None:
    """`edit`: edit a workspace's reconstruction.

    Args:
        args: The parsed line: workspace, name (or none) and what `Edit` takes.
        interruption: Says whether the user asked to stop.

    Raises:
        In2nError: "bad_path", "missing_file", "no_workspace", and what the environment and the job raise.
        Cancelled: When the user asked to stop.
    """
    place = {"workspace": _workspace(args), "name": args.name or edit_name(args)}
    one_job(request_of(Edit, args, **place, **edit_files(args)), interruption)


def preview_edit(args, interruption) -> None:
    """`preview`: edit one photo at several guidance scales.

    Args:
        args: The parsed line: workspace, out (or none), grid and what `PreviewGrid` takes.
        interruption: Says whether the user asked to stop.

    Raises:
        In2nError: "bad_guidance" for several scales without --grid; "bad_path", "no_workspace", "cannot_write",
            "not_ours", what `check_known` raises, and what the environment and the job raise.
        Cancelled: When the user asked to stop.
    """
    if not args.grid and max(len(args.text_scales or ()), len(args.image_scales or ())) > 1:
        raise In2nError("bad_guidance", "One picture has one text and one image scale.", "Add --grid for several.")
    out = free_folder(args.out) if args.out is not None else None
    request = request_of(PreviewGrid, args, workspace=_workspace(args), out=str(out) if out else None)
    check_known(args.instruction, args.editor)
    with _made_by_us(out, PREVIEW_FILES, "text-*.png"):
        one_job(request, interruption)


def render_workspace(args, interruption) -> None:
    """`render`: frames along a camera path, through the views where none is given.

    Args:
        args: The parsed line: workspace, camera_path and edit (or none), and what `RenderPath` and `PathThroughViews`
            take.
        interruption: Says whether the user asked to stop.

    Raises:
        In2nError: "bad_path", "missing_file", "no_workspace", and what the environment and the jobs raise.
        Cancelled: When the user asked to stop.
    """
    place = {"workspace": _workspace(args)}
    path = None if args.camera_path is None else _file(args.camera_path)
    through = request_of(PathThroughViews, args, **place, name=PATH_NAME)
    edit = _edit_or_none(args.edit)
    render = request_of(RenderPath, args, **place, camera_path=path or PATH_NAME, edit=edit)
    with engine_for(interruption) as engine:
        path = path or engine(through)["camera_path"]
        _print_result(engine(dataclasses.replace(render, camera_path=path)))


def mesh_workspace(args, interruption) -> None:
    """`mesh`: extract a mesh.

    Args:
        args: The parsed line: workspace, edit and keep (or none) and what `ExtractMesh` takes.
        interruption: Says whether the user asked to stop.

    Raises:
        In2nError: "bad_path", "missing_file", "no_workspace", and what the environment and the job raise.
        Cancelled: When the user asked to stop.
    """
    one_job(_of_kept(ExtractMesh, args), interruption)


def splats_workspace(args, interruption) -> None:
    """`splats`: make Gaussian splats.

    Args:
        args: The parsed line: workspace, edit and keep (or none) and what `MakeSplats` takes.
        interruption: Says whether the user asked to stop.

    Raises:
        In2nError: "bad_path", "missing_file", "no_workspace", and what the environment and the job raise.
        Cancelled: When the user asked to stop.
    """
    one_job(_of_kept(MakeSplats, args), interruption)


def export_workspace(args, interruption) -> None:
    """`export`: an edit's pictures, or the photos, with their cameras for other trainers.

    Args:
        args: The parsed line: workspace, edit and out (or none) and what `ExportDataset` takes.
        interruption: Says whether the user asked to stop.

    Raises:
        In2nError: "bad_path", "no_workspace", "cannot_write", "not_ours", and what the environment and the job raise.
        Cancelled: When the user asked to stop.
    """
    out = None if args.out is None else str(free_folder(args.out))
    place = {"workspace": _workspace(args), "edit": _edit_or_none(args.edit), "out": out}
    one_job(request_of(ExportDataset, args, **place), interruption)


def evaluate_workspace(args, interruption) -> None:
    """`evaluate`: measure an edit, and print the table.

    Args:
        args: The parsed line: workspace, edit, truth and out (or none), and what `Evaluate` takes.
        interruption: Says whether the user asked to stop.

    Raises:
        In2nError: "bad_path", "missing_file", "no_workspace", "cannot_write", "not_ours", and what the environment and
            the job raise.
        Cancelled: When the user asked to stop.
    """
    out = free_folder(args.out) if args.out is not None else None
    request = request_of(
        Evaluate,
        args,
        workspace=_workspace(args),
        edit=_edit_or_none(args.edit),
        truth=None if args.truth is None else str(existing(args.truth)),
        out=str(out) if out else None,
    )
    with _made_by_us(out, EVALUATION_FILES), engine_for(interruption) as engine:
        print(engine(request)["table"])


def run_testbed(args, interruption) -> None:
    """`testbed`: measure editing methods on scenes whose right answer is known, and print the table.

    Args:
        args: The parsed line: out, cache (or none) and what `Testbed` takes.
        interruption: Says whether the user asked to stop.

    Raises:
        In2nError: "no_checkout", "bad_path", "cannot_write", "not_ours", and what the environment and the job raise.
        Cancelled: When the user asked to stop.
    """
    need_checkout("testbed", "The testbed")
    out, cache = (
        free_folder(args.out),
        given_path(environment.home_folder() / "testbed" if args.cache is None else args.cache),
    )
    request = request_of(Testbed, args, out=str(out), cache=str(cache))
    groups = ("engine",) if args.blender_python else ("engine", "blender")
    with _made_by_us(out, TESTBED_FILES), engine_for(interruption, groups) as engine:
        print(engine(request)["table"])
    print(f"Done: {out}/result.json, table.md, and a sheet for each scene")


# --- what they share ------------------------------------------------------------------------------------------------


def edit_name(args) -> str:
    """A name for an edit: the instruction's words, and a mark of all else that it depends on.

    Args:
        args: The parsed line of `edit` or `run`.

    Raises:
        In2nError: As `edit_files`.
    """
    words = re.sub(r"[^a-z0-9]+", "-", args.instruction.lower()).strip("-")[:40].strip("-") or "edit"
    names = "instruction editor guidance_text guidance_image seed rounds".split()
    names += "editing_method noise_schedule perceptual".split()
    settings = tuple(getattr(args, name) for name in names)
    parent, files = getattr(args, "parent", None), edit_files(args)
    more = ((parent,) if parent else ()) + tuple(file_hash(Path(file)) for file in files.values() if file)
    more += (args.soft_edge,) if files["region"] else ()
    more += (("together", together),) if (together := getattr(args, "views_together", None)) else ()
    more += (args.negative_prompt,) if args.negative_prompt else ()
    mark = hashlib.sha256(repr(settings + more).encode()).hexdigest()
    return f"{words}-{mark[:4]}"


def _of_kept(request: type[Request], args) -> Request:
    """A request for something of an edit, or of the reconstruction, that may be kept within a region."""
    keep = None if args.keep is None else _file(args.keep)
    return request_of(request, args, workspace=_workspace(args), edit=_edit_or_none(args.edit), keep=keep)


def edit_files(args) -> dict[str, str | None]:
    """The files that an edit is made with, absolute: the region that limits it and the picture of its key view.

    Args:
        args: The parsed line of `edit` or `run`.

    Returns:
        "region" and "key_view", None where there is none.

    Raises:
        In2nError: "missing_file", "bad_path", "no_region" for a soft edge of none.
    """
    given = {name: getattr(args, name, None) for name in ("region", "key_view")}
    if given["region"] is None and getattr(args, "soft_edge", None) is not None:
        raise In2nError("no_region", "A soft edge is a region's, and there is none.", "Give --region, too.")
    return {name: None if path is None else _file(path) for name, path in given.items()}


def one_job(request: Request, interruption) -> None:
    """Send a request and print what its result says in words and numbers.

    Args:
        request: What is to be done.
        interruption: Says whether the user asked to stop.

    Raises:
        In2nError: What the environment and the job raise.
        Cancelled: When the user asked to stop.
    """
    with engine_for(interruption) as engine:
        _print_result(engine(request))


@contextmanager
def _made_by_us(out: Path | None, names, pattern: str = ""):
    """Claim the names in a folder of the user's before a job writes them, and record them after it.

    pattern: of more files, whose names are known after the job.
    """
    if out is None:
        yield
        return
    more = lambda: [path.name for path in sorted(out.glob(pattern))] if pattern else []
    refuse_foreign(out, [*names, *([] if names[0] in made_by_us(out) else more())])
    claim(made_folder(out), names)
    yield
    record(out, [*(name for name in names if (out / name).is_file()), *more()])


def _edit_or_none(name: str | None) -> str | None:
    return None if name in (None, ORIGINAL) else name


def _workspace(args) -> str:
    workspace = Workspace(given_path(args.workspace))
    if not workspace.capture_json.exists():
        raise In2nError(
            "no_workspace",
            f"{workspace.root} is not a workspace: it has no capture.json.",
            "Make one first: python3 -m in2n_blender import CAPTURE --out WORKSPACE.",
        )
    return str(workspace.root)


def _file(path: str) -> str:
    found = existing(path)
    if not found.is_file():
        raise In2nError("bad_path", f"{found} is not a file.", "Give the file itself, not its folder.")
    return str(found)


def _print_result(result: dict) -> None:
    for key, value in result.items():
        if isinstance(value, (str, int, float)):
            print(f"{key}: {value:.2f}" if isinstance(value, float) else f"{key}: {value}")


@contextmanager
def engine_for(interruption, groups=("engine",)):
    """Yield a function request -> result that runs jobs in one worker and shows their progress.

    Args:
        interruption: Says whether the user asked to stop.
        groups: What the environment has to hold, of `environment.GROUPS`.

    Raises:
        In2nError: As `engine_python`; the function raises what `Client.run` raises.
        Cancelled: When the user asked to stop.
    """
    machine = chosen_machine()
    python = machine.address if machine else engine_python(interruption, groups)
    with Client(python, environment.home_folder() / "worker.log", command=worker_command) as client:

        def run(request: Request) -> dict:
            printer = ProgressPrinter()
            try:
                return client.run(request, printer, lambda: interruption.asked)
            finally:
                printer.close()

        yield run
