"""The testbed: every method on scenes of which Blender rendered the right answer.

    python3 -m in2n_blender testbed --out DIR

renders the scenes into a cache, reconstructs each, edits it by every instruction with every method, and measures what
the held-out cameras and a path of small steps see. Rows that DIR/result.json holds already are not computed again, and
an edit that was stopped goes on from its checkpoint.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ...link.requests import Edit, ImportCapture, Reconstruct, Testbed
from ...models.catalogue import Instruction
from ...scene.camera import Camera
from ...scene.camera_path import through_views
from ...scene.errors import In2nError
from ...scene.reporting import Progress, Reporter
from ...workspace.files import read_json, write_json
from ...workspace.imported import load_capture
from ...workspace.layout import Workspace
from ..editing.baselines import EditedScene, run_method
from ..importing import normalise_capture
from ..measure import CostMeter
from ..nerf.reconstruction import reconstruct
from ..nerf.scene import RenderedView, load_scene
from ..output.sheets import contact_sheet
from ..photos import load_images
from ..pictures import save_srgb
from .cases import EDITED, SCENES, Case, choose_cases
from .clip_metrics import load_clip
from .evaluate import find_truths, render_all
from .results import RESULT_FILE, Row, markdown_table, mean_rows, table, write_results
from .scene_rendering import check_checkout, render_scene
from .scoring import Scores, score_views

# Consistency is measured on neighbouring frames of a long path, so that each sees nearly what the next one sees.
PATH_FRAMES, SEQUENCE_FRAMES = 96, 24
SHEET_CELL = 160


@dataclass
class Bench:
    """A scene ready to be edited.

    Attributes:
        name: the scene's.
        folder: its pictures in the cache.
        workspace: with its reconstruction.
        held_out: the cameras of the held-out views, by the views' names.
        photos: of the held-out views, (height, width, 3) sRGB in [0, 1] each.
        path: cameras a small step apart.
        unedited: what `held_out` and then `path` see of the reconstruction.
    """

    name: str
    folder: Path
    workspace: Workspace
    held_out: dict[str, Camera]
    photos: list[np.ndarray]
    path: list[Camera]
    unedited: list[RenderedView]

    def truth(self, instruction: Instruction) -> list[np.ndarray]:
        """What the held-out cameras should see after the edit.

        Args:
            instruction: one that has a right answer. Where Blender renders it, the truth is read from the cache.

        Returns:
            (height, width, 3) float32 sRGB in [0, 1] a camera, in the order of `held_out`.
        """
        if not instruction.rendered:
            return find_truths(None, instruction.text, (), self.photos)
        return [_read(self.folder / "truth" / instruction.name / f"{Path(name).stem}.png") for name in self.held_out]


def run_testbed(request: Testbed, report: Reporter) -> dict:
    """Compute the rows that are missing. Leaves result.json, table.md and a sheet a scene in request.out.

    Args:
        request: which methods, scenes and instructions, how they are computed, and the folders.
        report: told of every step of every job, and asked whether the job was cancelled.

    Returns:
        {"table": the rows and their means as text, "rows": their number}.

    Raises:
        In2nError: "no_checkout", "unknown_method", "unknown_scene", "unknown_instruction", "no_blender",
            "other_testbed", and those of the jobs that it runs.
        Cancelled.
    """
    check_checkout()
    out, cases = Path(request.out), choose_cases(request)
    rows = _rows_before(out, request)
    missing = [case for case in cases if case.row_of(rows) is None]
    clip = load_clip(request.clip, request.device, report) if request.clip else None
    bench = None
    for number, case in enumerate(missing):
        step = _within(report, f"{number + 1} of {len(missing)}, {case.scene}")
        if bench is None or bench.name != case.scene:
            bench = _prepare(case.scene, request, step)
        rows.append(
            _measure(
                case,
                bench,
                request,
                clip,
                _within(
                    report, f"{number + 1} of {len(missing)}, {case.scene}, {case.instruction.name}, {case.method}"
                ),
            )
        )
        write_results(rows, out)
        report.log(table(rows[-1:]).splitlines()[-1])
    chosen = [row for case in cases if (row := case.row_of(rows))]
    _write_tables(chosen, out)
    for scene in dict.fromkeys(case.scene for case in cases):
        _write_sheet(scene, [case for case in cases if case.scene == scene], out, report)
    return {"rows": len(chosen), "table": table(chosen) + "\n\n" + table(mean_rows(chosen))}


def _rows_before(out: Path, request: Testbed) -> list[Row]:
    """The rows of an earlier run with the same settings. Raises In2nError("other_testbed") where they were others."""
    settings = {
        name: getattr(request, name)
        for name in (
            "editor",
            "preset",
            "seed",
            "steps",
            "rounds",
            "guidance_text",
            "guidance_image",
            "clip",
            "device",
            "scene_size",
            "scene_views",
        )
    }
    if (out / RESULT_FILE).is_file():
        if read_json(out / "settings.json") != settings:
            raise In2nError(
                "other_testbed", f"{out} holds results of other settings.", "Choose another folder with --out."
            )
        return [Row(**row) for row in read_json(out / RESULT_FILE)["rows"]]
    write_json(out / "settings.json", settings)
    return []


def _prepare(scene: str, request: Testbed, report: Reporter) -> Bench:
    """Render, import and reconstruct a scene, as far as that was not done before."""
    folder = Path(request.cache) / scene
    render_scene(scene, folder, request, report)
    workspace = Workspace(Path(request.out) / "workspaces" / scene)
    if not workspace.capture_json.exists():
        normalise_capture(
            ImportCapture(workspace=str(workspace.root), source=str(folder), preset=request.preset), report
        )
    reconstruct(
        Reconstruct(
            workspace=str(workspace.root),
            preset=request.preset,
            device=request.device,
            seed=request.seed,
            steps=request.steps,
        ),
        report,
    )
    capture, reconstruction = load_capture(workspace), load_scene(workspace, None, request.device)
    path = [frame.camera for frame in through_views(capture, PATH_FRAMES).frames[:SEQUENCE_FRAMES]]
    held_out = {view.name: view.camera for view in capture.held_out_views}
    cameras = [*held_out.values(), *path]
    unedited = render_all(reconstruction, cameras, "Rendering", report)
    return Bench(
        scene, folder, workspace, held_out, load_images(workspace, capture, capture.held_out_views), path, unedited
    )


def _measure(case: Case, bench: Bench, request: Testbed, clip, report: Reporter) -> Row:
    edited = run_method(
        case.method,
        Edit(
            workspace=str(bench.workspace.root),
            name=case.edit_name,
            instruction=case.instruction.text,
            editor=request.editor,
            guidance_text=request.guidance_text,
            guidance_image=request.guidance_image,
            seed=request.seed,
            preset=request.preset,
            device=request.device,
            rounds=request.rounds,
        ),
        report,
    )
    cameras = [*bench.held_out.values(), *bench.path]
    with CostMeter(request.device) as cost:
        # All methods are compared by the depth of the unedited scene: the edits of the testbed change no shapes.
        views = [
            RenderedView(view.rgb_srgb, unedited.alpha, unedited.depth)
            for view, unedited in zip(render_all(edited, cameras, "Rendering", report), bench.unedited)
        ]
    count = len(bench.held_out)
    for name, view in zip(bench.held_out, views):
        save_srgb(_picture(Path(request.out), case, name), view.rgb_srgb)
    truths = bench.truth(case.instruction)
    for name, truth in zip(bench.held_out, truths):
        save_srgb(_truth_picture(Path(request.out), case.scene, case.instruction, name), torch.from_numpy(truth))
    scores = score_views(
        views[:count],
        cameras[:count],
        truths,
        originals=bench.photos,
        sequence=(views[count:], bench.path),
        sequence_originals=[view.rgb_srgb for view in bench.unedited[count:]],
        clip=clip,
        note=report.log,
        report=report,
        captions=(SCENES[case.scene], f"{SCENES[case.scene]} {EDITED[case.instruction.name]}"),
    )
    return _row(case, edited, scores, cost)


def _row(case: Case, edited: EditedScene, scores: Scores, cost: CostMeter) -> Row:
    """The costs are those of the edit and of rendering all measured frames.

    So a method that edits frames is charged for it.
    """
    return Row(
        case.method,
        case.scene,
        case.instruction.text,
        **dataclasses.asdict(scores),
        unet_evaluations=edited.unet_evaluations,
        nerf_steps=edited.state.get("step", 0),
        seconds=round(edited.state.get("seconds", 0.0) + cost.seconds, 2),
        cpu_seconds=round(edited.state.get("cpu_seconds", 0.0) + cost.cpu_seconds, 2),
        peak_memory_mb=round(max(edited.state.get("peak_memory_mb", 0), cost.peak_memory_mb)),
    )


# --- pictures of the results ---------------------------------------------------------------------------------------


def _read(path: Path) -> np.ndarray:
    """(height, width, 3) float32 sRGB in [0, 1]."""
    return np.asarray(Image.open(path).convert("RGB"), np.float32) / 255


def _picture(out: Path, case: Case, view: str) -> Path:
    return out / "pictures" / case.scene / case.edit_name / f"{Path(view).stem}.png"


def _truth_picture(out: Path, scene: str, instruction: Instruction, view: str) -> Path:
    return out / "pictures" / scene / f"{instruction.name} truth".replace(" ", "-") / f"{Path(view).stem}.png"


def _write_tables(rows: list[Row], out: Path) -> None:
    (out / "table.md").write_text(
        markdown_table(mean_rows(rows)) + "\n\n" + markdown_table(rows) + "\n", encoding="utf-8"
    )


def _write_sheet(scene: str, cases: list[Case], out: Path, report: Reporter) -> None:
    """One held-out view: photo, truth and every method's, a row for each instruction; out/<scene>.png."""
    workspace = Workspace(out / "workspaces" / scene)
    capture = load_capture(workspace)
    view = capture.held_out_views[0]
    photo = load_images(workspace, capture, [view])[0]
    rows = []
    for instruction in dict.fromkeys(case.instruction for case in cases):
        edits = [case for case in cases if case.instruction == instruction]
        truth = _read(_truth_picture(out, scene, instruction, view.name))
        label = f"{instruction.text}: photo, truth, {', '.join(case.method for case in edits)}"
        rows.append((label, [photo, truth, *(_read(_picture(out, case, view.name)) for case in edits)]))
    path = out / f"{scene}.png"
    contact_sheet(rows, SHEET_CELL).save(path)
    report.artifact("image", path)


def _within(report: Reporter, prefix: str) -> Reporter:
    """A reporter for one part of the run, which says what part it is."""

    def emit(event) -> None:
        if isinstance(event, Progress):
            report.progress(event.done, event.total, event.unit, f"{prefix}: {event.message}", event.seconds_left)
        elif isinstance(event, str):
            report.log(event)

    return Reporter(emit, report.is_cancelled)
