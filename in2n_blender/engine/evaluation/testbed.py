"""The testbed: every method on scenes of which Blender rendered the right answer.

    python3 -m in2n_blender testbed --out DIR

renders the scenes into a cache, reconstructs each, edits it by every instruction with every method, and measures what
the held-out cameras and a path of small steps see. Rows that DIR/result.json holds already are not computed again, and
an edit that was stopped goes on from its checkpoint. With an exact editor no truth is rendered: it knows its answers.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...link.requests import Edit, ImportCapture, Reconstruct, Testbed
from ...models.catalogue import Instruction
from ...models.exact import FAMILY, is_exact
from ...scene.camera import Camera
from ...scene.camera_path import through_views
from ...scene.errors import In2nError
from ...scene.reporting import Progress, Reporter
from ...workspace.files import read_json, write_json
from ...workspace.imported import load_capture
from ...workspace.layout import Workspace
from ..editing.baselines import run_method
from ..importing import normalise_capture
from ..measure import CostMeter
from ..nerf.reconstruction import reconstruct
from ..nerf.scene import RenderedView, load_scene
from ..photos import load_images
from ..pictures import save_srgb
from .answers import (
    CEILING,
    OWN_MODE,
    AnswerScores,
    compare_with_answers,
    edit_photos,
    run_ceiling,
)
from .bars import find_bars
from .cases import EDITED, SCENES, Case, choose_cases
from .clip_metrics import load_clip
from .evaluate import find_truths, render_all
from .results import RESULT_FILE, Row, mean_rows, table, write_results
from .scene_rendering import check_checkout, scene_folder
from .scoring import Scores, score_views
from .testbed_pictures import picture, read_picture, truth_picture, write_agreement_sheet, write_sheet, write_tables

# Consistency is measured on neighbouring frames of a long path, so that each sees nearly what the next one sees.
PATH_FRAMES, SEQUENCE_FRAMES = 96, 24


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

    @property
    def cameras(self) -> list[Camera]:
        """All that are measured, in the order of `unedited`."""
        return [*self.held_out.values(), *self.path]

    def truth(self, instruction: Instruction) -> list[np.ndarray]:
        """What the held-out cameras should see after the edit.

        Args:
            instruction: one that has a right answer. Where Blender renders it, the truth is read from the cache.

        Returns:
            (height, width, 3) float32 sRGB in [0, 1] a camera, in the order of `held_out`.
        """
        if not instruction.rendered:
            return find_truths(None, instruction.text, (), self.photos)
        return [
            read_picture(self.folder / "truth" / instruction.name / f"{Path(name).stem}.png") for name in self.held_out
        ]


def run_testbed(request: Testbed, report: Reporter) -> dict:
    """Compute the rows that are missing. Leaves result.json, table.md and a sheet a scene in request.out.

    Args:
        request: which methods, scenes and instructions, how they are computed, and the folders.
        report: told of every step of every job, and asked whether the job was cancelled.

    Returns:
        {"table": the rows, their means and the bars (`bars.find_bars`) as text, "rows": their number}.

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
        step = _within(report, f"{number + 1} of {len(missing)}, {case.scene}, {case.instruction.name}, {case.method}")
        rows.append(_measure(case, bench, request, clip, step))
        write_results(rows, out)
        report.log(table(rows[-1:]).splitlines()[-1])
    chosen = [row for case in cases if (row := case.row_of(rows))]
    write_tables(chosen, out)
    bars = find_bars(rows)
    if bars:
        write_results(rows, out, bars)
    for scene in dict.fromkeys(case.scene for case in cases):
        sheet = write_agreement_sheet if is_exact(request.editor) else write_sheet
        sheet(scene, [case for case in cases if case.scene == scene and not case.repeated], out, report)
    lines = [f"{'holds' if bar.holds else 'FAILS'}  {bar.name}: {bar.value:.4g} ({bar.bar:.4g})" for bar in bars]
    tables = [table(chosen), table(mean_rows(chosen)), *(["\n".join(lines)] if lines else [])]
    return {"rows": len(chosen), "table": "\n\n".join(tables)}


def _rows_before(out: Path, request: Testbed) -> list[Row]:
    """The rows of an earlier run with the same settings. Raises In2nError("other_testbed") where they were others."""
    settings = {
        name: getattr(request, name)
        for name in (
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
    # Exact editors share their reconstructions, and their rows name the editor.
    settings["editor"] = FAMILY if is_exact(request.editor) else request.editor
    if (out / RESULT_FILE).is_file():
        if read_json(out / "settings.json") != settings:
            raise In2nError(
                "other_testbed", f"{out} holds results of other settings.", "Choose another folder with --out."
            )
        return [Row(**{"seed": request.seed, **row}) for row in read_json(out / RESULT_FILE)["rows"]]
    write_json(out / "settings.json", settings)
    return []


def _prepare(scene: str, request: Testbed, report: Reporter) -> Bench:
    """Render, import and reconstruct a scene, as far as that was not done before."""
    folder = scene_folder(scene, request, report)
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
    photos = load_images(workspace, capture, capture.held_out_views)
    unedited = render_all(reconstruction, [*held_out.values(), *path], "Rendering", report)
    return Bench(scene, folder, workspace, held_out, photos, path, unedited)


def _measure(case: Case, bench: Bench, request: Testbed, clip, report: Reporter) -> Row:
    out, count = Path(request.out), len(bench.held_out)
    seen = _edit_and_render(case, bench, request, report)
    views, frames = seen.views[:count], seen.views[count:]
    for name, view in zip(bench.held_out, views):
        save_srgb(picture(out, case, name), view.rgb_srgb)
    agreed = None
    if is_exact(request.editor):
        agreed, truths = compare_with_answers(
            request.editor, [view.rgb_srgb for view in views], bench.photos, each_own=case.method == OWN_MODE
        )
    else:
        truths = bench.truth(case.instruction)
        for name, truth in zip(bench.held_out, truths):
            save_srgb(truth_picture(out, case.scene, case.instruction, name), torch.from_numpy(truth))
    edited_caption = EDITED.get(case.instruction.name)
    scores = score_views(
        views,
        bench.cameras[:count],
        truths,
        originals=bench.photos,
        sequence=(frames, bench.path[: len(frames)]),
        sequence_originals=[view.rgb_srgb for view in bench.unedited[count:]] if frames else None,
        clip=clip,
        note=report.log,
        report=report,
        captions=(SCENES[case.scene], f"{SCENES[case.scene]} {edited_caption}") if edited_caption else None,
    )
    return _row(case, seen, scores, agreed)


@dataclass(frozen=True)
class Seen:
    """What an edited scene looks like, and what that cost.

    Attributes:
        views: of the held-out cameras and, where there are such, along the path.
        state: the edit's state.json.
        evaluations: of the network.
        cost: of rendering.
    """

    views: list[RenderedView]
    state: dict
    evaluations: int
    cost: CostMeter


def _edit_and_render(case: Case, bench: Bench, request: Testbed, report: Reporter) -> Seen:
    job = Edit(
        workspace=str(bench.workspace.root),
        name=case.edit_name,
        instruction=case.instruction.text,
        editor=request.editor,
        guidance_text=request.guidance_text,
        guidance_image=request.guidance_image,
        seed=case.seed,
        preset=request.preset,
        device=request.device,
        rounds=request.rounds,
    )
    if case.method == OWN_MODE:
        with CostMeter(request.device) as cost:
            views, evaluations = edit_photos(job, bench.photos, bench.unedited, report)
        return Seen(views, {}, evaluations, cost)
    edited = run_ceiling(job, report) if case.method == CEILING else run_method(case.method, job, report)
    with CostMeter(request.device) as cost:
        # All methods are compared by the depth of the unedited scene: the edits of the testbed change no shapes.
        views = [
            RenderedView(view.rgb_srgb, unedited.alpha, unedited.depth)
            for view, unedited in zip(render_all(edited, bench.cameras, "Rendering", report), bench.unedited)
        ]
    return Seen(views, edited.state, edited.unet_evaluations, cost)


def _row(case: Case, seen: Seen, scores: Scores, agreed: AnswerScores | None) -> Row:
    """The costs are those of the edit and of rendering all measured frames.

    So a method that edits frames is charged for it.
    """
    state, cost = seen.state, seen.cost
    return Row(
        case.method,
        case.scene,
        case.instruction.text,
        **dataclasses.asdict(scores),
        unet_evaluations=seen.evaluations,
        nerf_steps=state.get("step", 0),
        seconds=round(state.get("seconds", 0.0) + cost.seconds, 2),
        cpu_seconds=round(state.get("cpu_seconds", 0.0) + cost.cpu_seconds, 2),
        peak_memory_mb=round(max(state.get("peak_memory_mb", 0), cost.peak_memory_mb)),
        seed=case.seed,
        own_mode_psnr_db=agreed and agreed.own_mode_psnr_db,
        one_mode_share=agreed and agreed.one_mode_share,
    )


def _within(report: Reporter, prefix: str) -> Reporter:
    """A reporter for one part of the run, which says what part it is."""

    def emit(event) -> None:
        if isinstance(event, Progress):
            report.progress(event.done, event.total, event.unit, f"{prefix}: {event.message}", event.seconds_left)
        elif isinstance(event, str):
            report.log(event)

    return Reporter(emit, report.is_cancelled)
