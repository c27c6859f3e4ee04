"""`run`: the whole job, one stage after the other, in a folder of the user's.

run.json remembers how far it was. What a stage's result is made from is the engine's to know (see
`workspace.provenance`): a stage that has to be asked for again is often done at once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..link.request_fields import Request
from ..link.requests import Edit, ExtractMesh, ImportCapture, PathThroughViews, Reconstruct, RenderPath, Summarise
from ..scene.errors import In2nError
from ..workspace.chain import Stage, ask_for, results_of, run_chain
from ..workspace.layout import Workspace
from ..workspace.outputs import MANIFEST, claim, refuse_foreign, run_names
from ..workspace.stages import Stages
from .arguments import request_of
from .commands import PATH_NAME, edit_files, edit_name, engine_for
from .setup import check_known, existing, free_folder, made_folder

SHARED = ("import", "reconstruct", "path")
ARCHIVES = (".zip", ".r3d")  # as scene.readers.archive says, which needs numpy

Chain = dict[str, tuple[Request, Path]]  # stage -> its request, and what is there when it is done

# What an import that failed may leave in the workspace that it began.
BEGUN = {"images", "masks", "job.json", "job.lock", "engine.log"}


@dataclass(frozen=True)
class Place:
    """Where a run keeps what it makes.

    Attributes:
        out: The user's folder for the results.
        all: The folder of everything that is made, which may lie in the capture's.
        workspace: Of the capture.
        shared: The stages of what several runs of the capture share.
        own: The stages of the run's own; may be the same.
        path: The camera path's name.
    """

    out: Path
    all: Path
    workspace: Workspace
    shared: Stages
    own: Stages
    path: str = PATH_NAME


def run_capture(args, interruption) -> None:
    """`run`: all stages, and the summary.

    Args:
        args: The parsed line: source, out, instruction, frames and what the stages' requests take.
        interruption: Says whether the user asked to stop.

    Raises:
        In2nError: "bad_path", "missing_file", "cannot_write", "not_ours", "bad_json", "other_capture", what
            `check_known` raises, and what the environment and the jobs raise.
        Cancelled: When the user asked to stop; the same line goes on from there.
    """
    capture, out = existing(args.source), free_folder(args.out)
    workspace = Workspace(out / "workspace")
    chain = stages_of(args, capture, workspace)
    check_known(args.instruction, args.editor)
    refuse_foreign(out, run_names(args.frames))
    _refuse_other_capture(out, capture)
    with engine_for(interruption) as engine, _nothing_left_if_new(out):
        claim(made_folder(out), run_names(args.frames))
        stages = Stages(out / "run.json")
        run_stages(args, capture, chain, Place(out, out, workspace, stages, stages), engine)
    print(f"Done: {out}/contact_sheet.png, before_after.gif, frames/edited/, mesh.glb, report.json")


def run_stages(args, capture: Path, chain: Chain, place: Place, engine, again: bool = True) -> None:
    """Ask for the stages that are not done, and for the summary.

    Args:
        args: As for `run_capture`.
        capture: What is imported.
        chain: As `stages_of` made it for the place.
        place: Where results go; `out` is claimed.
        engine: request -> result.
        again: Whether a summary that is there is made again where no stage had to be asked for.

    Raises:
        In2nError: What the jobs raise.
        Cancelled.
    """
    stages = plain_stages(chain, {"files": files_mark(capture, place.all)})
    say = lambda text: print(text, flush=True)
    ask = lambda stage: ask_for(chain[stage.key][0], engine, say)
    called = run_chain(stages, place.shared, place.own, ask, lambda stage: say(f"{stage.key}: done before"))
    if not called and not again and (place.out / "report.json").is_file():
        return
    engine(summary_of(args, place, results_of(place.shared, place.own)))


def plain_stages(chain: Chain, of_import: dict) -> list[Stage]:
    """The stages as plain data.

    Args:
        chain: As `stages_of` made it.
        of_import: What the import depends on beside its request.
    """
    return [
        Stage(
            key,
            request.method,
            request.to_params(),
            str(made),
            key.split(" ")[0] in SHARED,
            of_import if key == "import" else {},
        )
        for key, (request, made) in chain.items()
    ]


def summary_of(args, place: Place, results: dict) -> Summarise:
    """What the summary is asked for with.

    Args:
        args: As for `run_capture`.
        place: Where results go.
        results: What the stages gave, by method.

    Raises:
        In2nError: What the request's check raises.
    """
    folders = {"workspace": str(place.workspace.root), "out": str(place.out)}
    return request_of(Summarise, args, **folders, edit=edit_name(args), camera_path=place.path, results=results)


def stages_of(
    args, capture: Path, workspace: Workspace, path_name: str = PATH_NAME, reconstruction_seed: int | None = None
) -> Chain:
    """What each stage asks for.

    Args:
        args: As for `run_capture`.
        capture: What is imported.
        workspace: Of the capture.
        path_name: The camera path's.
        reconstruction_seed: Where the line's seed is that of the edit alone.

    Returns:
        Stage -> its request, and what is there when it is done.

    Raises:
        In2nError: What the requests' checks raise.
    """
    place, name = {"workspace": str(workspace.root)}, edit_name(args)
    path = workspace.camera_path(path_name)
    frames = request_of(RenderPath, args, **place, camera_path=str(path), edit=name)
    checkpoint = "checkpoint.safetensors"
    seed = {} if reconstruction_seed is None else {"seed": reconstruction_seed}
    return {
        "import": (request_of(ImportCapture, args, **place, source=str(capture)), workspace.capture_json),
        "reconstruct": (request_of(Reconstruct, args, **place, **seed), workspace.reconstruction / checkpoint),
        f"edit {name}": (
            request_of(Edit, args, **place, name=name, **edit_files(args)),
            workspace.edit(name) / checkpoint,
        ),
        _path_stage(path_name): (request_of(PathThroughViews, args, **place, name=path_name), path),
        f"render {name}": (frames, workspace.renders(name, path_name)),
        f"mesh {name}": (request_of(ExtractMesh, args, **place, edit=name), workspace.mesh(name, ".glb")),
    }


def _path_stage(name: str) -> str:
    return "path" if name == PATH_NAME else f"path {name}"


def files_mark(capture: Path, out: Path) -> str:
    """A mark of a capture's files by their names, sizes and times, so that photos which were changed are imported anew.

    Args:
        capture: The folder or file that is imported.
        out: The run's own folder, which may lie in the capture's and is passed over.
    """
    root = capture if capture.is_dir() else capture.parent
    if "sparse" in root.parts:  # COLMAP's model lies below the folder that has the images
        root = Path(*root.parts[: root.parts.index("sparse")])
    mark = hashlib.sha256()
    if capture.suffix.lower() in ARCHIVES and capture.is_file():  # what lies beside it is no part of it
        found = os.stat(capture)
        mark.update(repr((capture.name, found.st_size, found.st_mtime_ns)).encode())
        return mark.hexdigest()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and Path(folder, f) != out)
        for file in sorted(files):
            try:
                found = os.stat(os.path.join(folder, file))
            except OSError:  # a link to nothing
                continue
            mark.update(repr((os.path.relpath(folder, root), file, found.st_size, found.st_mtime_ns)).encode())
    return mark.hexdigest()


def _refuse_other_capture(out: Path, capture: Path) -> None:
    before = Stages(out / "run.json").settings("import")
    if before and before.get("source") != str(capture):
        raise In2nError(
            "other_capture",
            f"{out} holds the results of another capture, {before.get('source')}.",
            "Choose another folder with --out.",
        )


@contextmanager
def _nothing_left_if_new(out: Path):
    """Remove the folder again when it was not there before, the capture could not even be imported into it, and nobody
    else put anything there meanwhile."""
    new = not out.exists()
    try:
        yield
    except In2nError:
        if new and out.is_dir() and not Workspace(out / "workspace").capture_json.exists():
            _remove_begun(out)
        raise


def _remove_begun(out: Path) -> None:
    begun, top = _entries(out / "workspace"), _entries(out)
    if top <= {MANIFEST, "run.json", "workspace"} and all(n in BEGUN or n.startswith(".writing-") for n in begun):
        shutil.rmtree(out, ignore_errors=True)


def _entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
