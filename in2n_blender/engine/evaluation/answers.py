"""Measuring with an exact editor, whose right answers are known: any of them is right, a mixture is not.

The scores of a whole scene are those of the one answer that all its views together come nearest to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ...link.requests import Edit
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ..device import pick_device
from ..diffusion.editor import noise_generator
from ..diffusion.exact import BLOCK, ExactEditor
from ..diffusion.loading import load_editor
from ..editing.baselines import PURE_NOISE, EditedScene, OneTimeUpdate
from ..editing.methods import edit
from ..measure import psnr
from ..nerf.scene import RenderedView, load_scene
from ..photos import opaque
from .metrics import LARGEST_PSNR

CEILING, OWN_MODE = "ceiling", "own-mode"
# Answers that differ by less than this, in root mean square over a block and its channels, are one to the eye: black
# stays black under every tint.
DISTINCT = 8 / 255


@dataclass(frozen=True)
class AnswerScores:
    """How far the views of a scene show one and the same answer.

    Attributes:
        mode: the answer, counted from 0, whose mean PSNR over the views is the highest: one for the whole scene.
        own_mode_psnr_db: the mean over the views of each one's PSNR to the answer that is nearest to it alone.
        one_mode_share: the share of pixels, of all views together, that lie nearest to the scene's most frequent
            answer. A pixel's answer is that of its 8x8 block, by the squared error over the block; blocks where two
            answers look alike are left out. None where all are.
        own_modes: each view's own answer.
    """

    mode: int
    own_mode_psnr_db: float
    one_mode_share: float | None
    own_modes: tuple[int, ...]


def score_answers(images: Sequence[np.ndarray], answers: Sequence[torch.Tensor]) -> AnswerScores:
    """Measure how far views agree.

    Args:
        images: what the views show, (height, width, 3) sRGB in [0, 1] each.
        answers: what each may show, (K, 3, height, width); the k-th answers of all views are of one scene.

    Returns:
        The scene's answer, each view's, and the share of pixels in one.

    Raises:
        ValueError: an image is not of its answers' size, or there is none.
    """
    if not images or len(images) != len(answers):
        raise ValueError(f"{len(images)} images and answers for {len(answers)}")
    scores = torch.zeros(len(images), len(answers[0]))
    pixels = torch.zeros(len(answers[0]))
    for view, (image, right) in enumerate(zip(images, answers)):
        image = torch.as_tensor(np.asarray(image)).permute(2, 0, 1)
        if image.shape != right.shape[1:]:
            raise ValueError(f"an image is {tuple(image.shape)}, its answers {tuple(right.shape[1:])}")
        scores[view] = torch.tensor([min(psnr(image, answer), LARGEST_PSNR) for answer in right])
        pixels += _pixels_of_each(image, right)
    return AnswerScores(
        mode=int(scores.mean(0).argmax()),
        own_mode_psnr_db=float(scores.amax(1).mean()),
        one_mode_share=float(pixels.max() / pixels.sum()) if pixels.sum() else None,
        own_modes=tuple(scores.argmax(1).tolist()),
    )


def compare_with_answers(
    editor: str, images: Sequence[np.ndarray], photos: Sequence[np.ndarray], each_own: bool = False
) -> tuple[AnswerScores, list[np.ndarray]]:
    """Compare views with the right answers of an exact editor.

    Args:
        editor: its name.
        images: what the views show, (height, width, 3) sRGB in [0, 1] each.
        photos: the original photos of the same views, (height, width, 3 or 4).
        each_own: whether each is to be compared with the answer that is nearest to it alone.

    Returns:
        How far they agree, and what to compare them with, (height, width, 3) each: the scene's answer, or each's own.

    Raises:
        In2nError: "unknown_editor" where it is no exact editor.
        ValueError: As `score_answers`.
    """
    exact = load_exact(editor, "cpu")
    answers = [exact.answers(torch.from_numpy(opaque(photo)).permute(2, 0, 1)) for photo in photos]
    found = score_answers(images, answers)
    modes = found.own_modes if each_own else (found.mode,) * len(answers)
    return found, [right[mode].permute(1, 2, 0).numpy() for right, mode in zip(answers, modes)]


def _pixels_of_each(image: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """(K,) how many pixels of an image (3, height, width) lie in a block that is nearest to each answer."""
    errors = _block_errors(image[None] - answers)
    first, second = torch.triu_indices(len(answers), len(answers), 1)
    alike = _block_errors(answers[first] - answers[second]) < DISTINCT**2
    distinct = ~alike.any(0)
    sizes = functional.avg_pool2d(
        torch.ones(1, 1, *image.shape[1:]), BLOCK, ceil_mode=True, count_include_pad=True, divisor_override=1
    )[0, 0]
    nearest = functional.one_hot(errors.argmin(0), len(answers))
    return (nearest * (distinct * sizes)[..., None]).sum((0, 1))


def _block_errors(difference: torch.Tensor) -> torch.Tensor:
    """(n, 3, height, width) to the mean squares over 8x8 blocks and channels, (n, rows, columns)."""
    return functional.avg_pool2d(difference**2, BLOCK, ceil_mode=True, count_include_pad=False).mean(1)


def load_exact(editor: str, device) -> ExactEditor:
    """The exact editor of a name.

    Args:
        editor: "exact" or "exact:K=8,s=0.25".
        device: what it runs on.

    Raises:
        In2nError: "unknown_editor" where it is none.
    """
    loaded = load_editor(editor, device)
    if not isinstance(loaded, ExactEditor):
        raise In2nError("unknown_editor", f"“{editor}” is no exact editor.", "Choose “exact”.")
    return loaded


class Ceiling(OneTimeUpdate):
    """What training alone reaches: all photos are replaced by one and the same answer of theirs."""

    name = CEILING
    editor: ExactEditor

    in_batches = False

    @torch.no_grad()
    def edit_next_views(self, count: int = 1) -> None:
        view = self.state["edits_done"]
        answers = self.editor.answers(self.photo(view).permute(2, 0, 1))
        answer = answers[self.request.seed % len(answers)].permute(1, 2, 0)
        self.trainer.dataset.replace(view, self.as_photo(view, answer))
        self.state["edits_done"] = view + 1


def run_ceiling(request: Edit, report: Reporter) -> EditedScene:
    """Train the reconstruction on one answer's views. Goes on from its checkpoint.

    Args:
        request: An edit by an exact editor; its seed chooses the answer.
        report: Told of every step, and asked whether the job was cancelled.

    Returns:
        The trained scene.

    Raises:
        In2nError: As an edit.
        Cancelled: After saving.
    """
    state = edit(request, report, Ceiling)
    return EditedScene(load_scene(request.workspace, request.name, request.device), state)


def edit_photos(
    request: Edit, photos: Sequence[np.ndarray], like: Sequence[RenderedView], report: Reporter
) -> tuple[list[RenderedView], int]:
    """Edit photos each by itself and from pure noise: what one edit of the editor is worth.

    Args:
        request: Its editor, seed and device.
        photos: (height, width, 3) sRGB in [0, 1] each.
        like: Views of the same cameras, for their alpha and depth.
        report: Asked between photos whether the job was cancelled.

    Returns:
        The edited views, and the network evaluations that they took.

    Raises:
        Cancelled: When the user asked to stop.
    """
    editor = load_exact(request.editor, pick_device(request.device))
    editor.prepare(request.instruction)
    views = []
    for number, (photo, view) in enumerate(zip(photos, like)):
        report.check()
        image = torch.from_numpy(opaque(photo)).permute(2, 0, 1)[None]
        edited = editor.edit(
            image, image, noise_level=PURE_NOISE, generators=[noise_generator(request.seed, number, 0)]
        )
        views.append(RenderedView(edited[0].permute(1, 2, 0), view.alpha, view.depth))
    return views, editor.unet_evaluations
