"""The testbed: every method on scenes of which Blender rendered the right answer.

    python3 -m in2n_blender testbed --out DIR

renders the scenes into a cache, reconstructs each, edits it by every instruction with every method, and measures what
the held-out cameras and a path of small steps see. Rows that DIR/result.json holds already are not computed again, and
an edit that was stopped goes on from its checkpoint. With an exact editor that tints no truth is rendered: it knows its
answers.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ...link.requests import Edit, ImportCapture, Reconstruct, Testbed
from ...models.exact import FAMILY, SHAPES, ExactSettings, is_exact
from ...models.model import Instruction
from ...scene.camera import Camera
from ...scene.camera_path import through_views
from ...scene.errors import In2nError
from ...scene.reporting import Progress, Reporter
from ...workspace.files import read_json, write_json
from ...workspace.imported import load_capture
from ...workspace.layout import Workspace
from ..editing.baselines import PerFrameScene, run_method
from ..importing import normalise_capture
from ..measure import CostMeter
from ..nerf.reconstruction import reconstruct
from ..nerf.scene import RenderedView, Scene, load_scene
from ..photos import load_images
from ..pictures import read_srgb, save_srgb
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
from .geometry import Geometry, chamfer_percent, depth_scores, read_depths
from .results import RESULT_FILE, Row, mean_rows, table, tables, write_results
from .scene_rendering import check_checkout, scene_folder
from .scoring import Scores, score_views
from .testbed_pictures import picture, truth_picture, write_agreement_sheet, write_sheet, write_tables

# Consistency is measured on neighbouring frames of a long path, so that each sees nearly what the next one sees.
PATH_FRAMES, SEQUENCE_FRAMES = 96, 24
# What the renderer calls the geometry of the scene as it is.
BEFORE = "before"


@dataclass
class Bench:
    """A scene ready to be edited.

    Attributes:
        name: the scene's.
        folder: its pictures in the cache.
        editor: the name of what edits it; an exact one's says where the scene's answers are.
        workspace: with its reconstruction.
        training: the cameras of the training views, by the views' names.
        held_out: those of the held-out views.
        photos: of the held-out views, (height, width, 3) sRGB in [0, 1] each.
        path: cameras a small step apart.
        unedited: what `held_out` and then `path` see of the reconstruction.
    """

    name: str
    folder: Path
    editor: str
    workspace: Workspace
    training: dict[str, Camera]
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
            read_srgb(self.folder / "truth" / instruction.name / f"{Path(name).stem}.png") for name in self.held_out
        ]

    def depths(self, edit: str) -> dict[str, np.ndarray]:
        """Blender's depths of all views where they were rendered, and photos are as large as they were rendered.

        Args:
            edit: one that changes shapes, or BEFORE.

        Returns:
            View -> (height, width) along the camera's axis; 0: the sky.
        """
        cameras = self.training | self.held_out
        found = read_depths(self.folder / "depth" / edit, list(cameras))
        sizes = {name: (cameras[name].intrinsics.height, cameras[name].intrinsics.width) for name in found}
        return {name: depth for name, depth in found.items() if depth.shape == sizes[name]}


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
        write_results(rows, out, find_bars(rows))
        write_tables(rows, out)
        report.log(table(rows[-1:]).splitlines()[-1])
    chosen, bars = [row for case in cases if (row := case.row_of(rows))], find_bars(rows)
    write_results(rows, out, bars)
    write_tables(rows, out)
    for scene in dict.fromkeys(case.scene for case in cases):
        shown = [case for case in cases if case.scene == scene and not case.repeated]
        if is_exact(request.editor):
            edits = ExactSettings.from_name(request.editor).pictures
            write_agreement_sheet(scene, shown, out, report, Path(request.cache) / scene / "truth", edits)
        else:
            write_sheet(scene, shown, out, report)
    lines = [f"{'holds' if bar.holds else 'FAILS'}  {bar.name}: {bar.value:.4g} ({bar.bar:.4g})" for bar in bars]
    texts = [*tables(chosen), *tables(mean_rows(chosen)), *(["\n".join(lines)] if lines else [])]
    return {"rows": len(chosen), "table": "\n\n".join(texts)}


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
    noted = out / "settings.json"
    if noted.is_file() and read_json(noted) != settings:
        raise In2nError("other_testbed", f"{out} holds results of other settings.", "Choose another folder with --out.")
    write_json(noted, settings)
    if not (out / RESULT_FILE).is_file():
        return []
    return [Row(**{"seed": request.seed, **row}) for row in read_json(out / RESULT_FILE)["rows"]]


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
    training, held_out = (
        {view.name: view.camera for view in views} for views in (capture.training_views, capture.held_out_views)
    )
    photos = load_images(workspace, capture, capture.held_out_views)
    unedited = render_all(reconstruction, [*held_out.values(), *path], "Rendering", report)
    editor = request.editor
    if is_exact(editor):
        editor = ExactSettings.from_name(editor).within(folder).name
    return Bench(scene, folder, editor, workspace, training, held_out, photos, path, unedited)


def _measure(case: Case, bench: Bench, request: Testbed, clip, report: Reporter) -> Row:
    out, count = Path(request.out), len(bench.held_out)
    seen = _edit_and_render(case, bench, request, report)
    views, frames = seen.views[:count], seen.views[count:]
    for name, view in zip(bench.held_out, views):
        save_srgb(picture(out, case, name), view.rgb_srgb)
    agreed, shape = None, BEFORE
    if is_exact(bench.editor):
        agreed, truths = compare_with_answers(
            bench.editor, [view.rgb_srgb for view in views], bench.photos, each_own=case.method == OWN_MODE
        )
        settings = ExactSettings.from_name(bench.editor)
        shape = settings.pictures[agreed.mode] if settings.family == SHAPES else BEFORE
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
    return _row(case, seen, scores, _geometry(seen, bench, shape, report), agreed)


def _geometry(seen: Seen, bench: Bench, shape: str, report: Reporter) -> Geometry:
    """Against Blender's geometry of an edit, as far as that was rendered and the method has one of its own."""
    if seen.scene is None:
        return Geometry()
    before, after = bench.depths(BEFORE), bench.depths(shape)
    compared = [(depth, after[name], before[name]) for name, depth in zip(bench.held_out, seen.depths) if name in after]
    if not compared:
        return Geometry()
    return Geometry(
        *depth_scores(*zip(*compared)),
        chamfer_percent(seen.scene, after, bench.training | bench.held_out, _quiet(report)),
    )


@dataclass(frozen=True)
class Seen:
    """What an edited scene looks like, and what that cost.

    Attributes:
        views: of the held-out cameras and, where there are such, along the path, with the depths by which their
            consistency is measured.
        state: the edit's state.json.
        evaluations: of the network.
        cost: of rendering.
        scene: whose geometry it is; None for single pictures, which have none.
        depths: of the scene, in the order of `views`.
    """

    views: list[RenderedView]
    state: dict
    evaluations: int
    cost: CostMeter
    scene: Scene | None = None
    depths: list[np.ndarray] = field(default_factory=list)


def _edit_and_render(case: Case, bench: Bench, request: Testbed, report: Reporter) -> Seen:
    job = Edit(
        workspace=str(bench.workspace.root),
        name=case.edit_name,
        instruction=case.instruction.text,
        editor=bench.editor,
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
    cameras, pictures = bench.cameras, is_exact(bench.editor) and ExactSettings.from_name(bench.editor).pictures
    if pictures and isinstance(edited.scene, PerFrameScene):
        cameras = cameras[: len(bench.held_out)]  # there are no answers between the views
    with CostMeter(request.device) as cost:
        views = render_all(edited, cameras, "Rendering", report)
    depths = [np.asarray(view.depth) for view in views]
    if pictures and ExactSettings.from_name(bench.editor).family == SHAPES:
        measured = views
    else:  # where an edit changes no shapes, all methods are compared by the depth of the unedited scene
        measured = [
            RenderedView(view.rgb_srgb, before.alpha, before.depth) for view, before in zip(views, bench.unedited)
        ]
    scene = edited.scene if isinstance(edited.scene, Scene) else None
    return Seen(measured, edited.state, edited.unet_evaluations, cost, scene, depths)


def _row(case: Case, seen: Seen, scores: Scores, geometry: Geometry, agreed: AnswerScores | None) -> Row:
    """The costs are those of the edit and of rendering all measured frames.

    So a method that edits frames is charged for it.
    """
    state, cost = seen.state, seen.cost
    return Row(
        case.method,
        case.scene,
        case.instruction.text,
        **dataclasses.asdict(scores),
        **dataclasses.asdict(geometry),
        unet_evaluations=seen.evaluations,
        nerf_steps=state.get("step", 0),
        seconds=round(state.get("seconds", 0.0) + cost.seconds, 2),
        cpu_seconds=round(state.get("cpu_seconds", 0.0) + cost.cpu_seconds, 2),
        peak_memory_mb=round(max(state.get("peak_memory_mb", 0), cost.peak_memory_mb)),
        seed=case.seed,
        own_mode_psnr_db=agreed and agreed.own_mode_psnr_db,
        one_mode_share=agreed and agreed.one_mode_share,
    )


def _quiet(report: Reporter) -> Reporter:
    """A reporter for what takes a moment: it cancels, and says nothing."""
    return Reporter(cancelled=report.is_cancelled)


def _within(report: Reporter, prefix: str) -> Reporter:
    """A reporter for one part of the run, which says what part it is."""

    def emit(event) -> None:
        if isinstance(event, Progress):
            report.progress(event.done, event.total, event.unit, f"{prefix}: {event.message}", event.seconds_left)
        elif isinstance(event, str):
            report.log(event)

    return Reporter(emit, report.is_cancelled)
