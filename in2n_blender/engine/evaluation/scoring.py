"""An edit's quality in numbers, from rendered views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...scene.camera import Camera
from ...scene.camera_path import nearest_neighbour_order
from ...scene.reporting import Reporter
from ..measure import psnr
from ..photos import opaque
from .clip_metrics import Clip, direction_consistency, direction_consistency_printed, direction_similarity
from .metrics import LARGEST_PSNR, edit_region, lpips, lpips_map, sequence_consistency, ssim, ssim_map

# A region of a view counts from this share of its pixels on: of a few pixels a mean says nothing.
SMALLEST_REGION = 0.01


@dataclass(frozen=True)
class Scores:
    """Means over views, or over pairs of neighbouring frames, as in `results.Row`. None: not measured."""

    psnr_db: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    psnr_edited_db: float | None = None
    psnr_kept_db: float | None = None
    ssim_edited: float | None = None
    ssim_kept: float | None = None
    lpips_edited: float | None = None
    lpips_kept: float | None = None
    consistency: float | None = None
    clip_direction: float | None = None
    clip_consistency: float | None = None
    clip_consistency_printed: float | None = None


def score_views(
    views: Sequence,
    cameras: Sequence[Camera],
    truths: Sequence[np.ndarray | None] | None,
    *,
    originals: Sequence[np.ndarray] | None = None,
    sequence: tuple[Sequence, Sequence[Camera]] | None = None,
    sequence_originals: Sequence[np.ndarray] | None = None,
    clip: Clip | None = None,
    captions: tuple[str, str] | None = None,
    note: Callable[[str], None] = lambda text: None,
    report: Reporter | None = None,
) -> Scores:
    """Score an edit's views of the held-out cameras.

    Args:
        views: RenderedViews (rgb_srgb (height, width, 3), alpha, depth) of `cameras`.
        cameras: the held-out ones.
        truths: what each should look like, (height, width, 3) sRGB; None, as a whole or for a view, where nobody knows.
            The means are over the views with a truth; equal images count as LARGEST_PSNR.
        originals: the unedited photos of the same cameras, for CLIP and for where the truth is another than they are.
        sequence: rendered frames and cameras along a path of small steps, on which both consistencies are measured.
            Without a sequence the held-out views are taken instead, from neighbour to neighbour: they may be far apart
            and see little in common.
        sequence_originals: the unedited scene's frames along the path, for CLIP.
        clip: from `clip_metrics.load_clip`.
        captions: (of the original, of the edited scene), for the direction similarity.
        note: receives, in a sentence each, what is not measured and why.
        report: asked between views whether the job was cancelled.

    Returns:
        The means; None for what is not measured.

    Raises:
        Cancelled.
        ValueError: a truth is not of its view's size.
    """
    report, note = report or Reporter(), _once(note)
    if sequence is None:
        order = neighbour_order(cameras)
        sequence = [views[i] for i in order], [cameras[i] for i in order]
        sequence_originals = originals and [originals[i] for i in order]
    return Scores(
        **_against_truth(views, truths, note, report),
        **_edited_and_kept(views, truths, originals, note, report),
        consistency=score_sequence(*sequence, report=report),
        **(_by_clip(clip, views, originals, captions, sequence[0], sequence_originals, note, report) if clip else {}),
    )


def score_sequence(views: Sequence, cameras: Sequence[Camera], report: Reporter | None = None) -> float | None:
    """`sequence_consistency` of frames with small steps between them.

    Args:
        views: RenderedViews (rgb_srgb (height, width, 3), alpha, depth) of `cameras`.
        cameras: along a path, as many.
        report: asked between pairs whether the job was cancelled.

    Returns:
        dB; None where no two neighbours see the same.

    Raises:
        Cancelled.
    """
    return sequence_consistency(views, list(cameras), report=report)


def neighbour_order(cameras: Sequence[Camera]) -> list[int]:
    """An order of small steps through cameras, from one end: always on to the nearest that is left.

    Args:
        cameras: in any order; near is in position, over the cameras' extent, and in direction.

    Returns:
        The cameras' numbers.
    """
    poses = np.stack([np.asarray(camera.camera_to_world, np.float64) for camera in cameras])
    away = poses[:, :3, 3] - poses[:, :3, 3].mean(0)
    size = max(float(np.linalg.norm(away, axis=1).max()), 1e-9)
    return [int(i) for i in nearest_neighbour_order(np.concatenate([away / size, 0.5 * poses[:, :3, 2]], 1))]


def _against_truth(views, truths, note, report: Reporter) -> dict:
    values: dict[str, list] = {"psnr_db": [], "ssim": [], "lpips": []}
    for view, truth in zip(views, truths or ()):
        if truth is None:
            continue
        report.check()
        image, truth = np.asarray(view.rgb_srgb), np.asarray(truth)
        if image.shape != truth.shape:
            raise ValueError(f"the truth is {truth.shape}, the view {image.shape}")
        values["psnr_db"].append(min(psnr(image, truth), LARGEST_PSNR))
        values["ssim"].append(ssim(image, truth))
        values["lpips"].append(lpips(image, truth, note))
    return {name: _mean(found) for name, found in values.items()}


def _edited_and_kept(views, truths, originals, note, report: Reporter) -> dict:
    """The scores against the truth where the edit has to change a view, and where it has to keep it."""
    values: dict[str, list] = {}
    for view, truth, original in zip(views, truths or (), originals or ()):
        if truth is None:
            continue
        report.check()
        image, truth = np.asarray(view.rgb_srgb), np.asarray(truth)
        edited = edit_region(opaque(original), truth)
        similarity, distance = ssim_map(image, truth), lpips_map(image, truth, note)
        for name, where in (("edited", edited), ("kept", ~edited)):
            if where.mean() >= SMALLEST_REGION:
                values.setdefault(f"psnr_{name}_db", []).append(min(psnr(image[where], truth[where]), LARGEST_PSNR))
                values.setdefault(f"ssim_{name}", []).append(float(similarity[where].mean()))
                values.setdefault(f"lpips_{name}", []).append(distance if distance is None else distance[where].mean())
    return {name: _mean(found) for name, found in values.items()}


def _by_clip(clip: Clip, views, originals, captions, frames, frame_originals, note, report: Reporter) -> dict:
    scores: dict = {}
    if captions is None:
        note("The CLIP direction is not measured: it needs a caption of the original and one of the edited scene.")
    elif originals is None:
        note("The CLIP direction is not measured: there are no photos of the unedited scene to compare with.")
    else:
        edited, unedited = clip.embed_images([v.rgb_srgb for v in views], report), clip.embed_images(originals, report)
        scores["clip_direction"] = _mean(direction_similarity(edited, unedited, *clip.embed_texts(captions)))
    if frame_originals is None:
        note("The CLIP consistency is not measured: there are no frames of the unedited scene to compare with.")
    else:
        edited, unedited = (
            clip.embed_images([v.rgb_srgb for v in frames], report),
            clip.embed_images(frame_originals, report),
        )
        scores["clip_consistency"] = _mean(direction_consistency(edited, unedited))
        scores["clip_consistency_printed"] = _mean(direction_consistency_printed(edited, unedited))
    return scores


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _once(note: Callable[[str], None]) -> Callable[[str], None]:
    """Every sentence once, however many views it concerns."""
    noted = set()

    def note_once(text: str) -> None:
        if text not in noted:
            noted.add(text)
            note(text)

    return note_once
