"""An edit by an exact editor, measured as the held-out cameras see it: what several benchmarks do."""

from __future__ import annotations

import statistics

from in2n_blender.engine.editing.dataset_update import DatasetUpdate
from in2n_blender.engine.editing.methods import edit
from in2n_blender.engine.evaluation.answers import compare_with_answers
from in2n_blender.engine.measure import psnr
from in2n_blender.engine.nerf.scene import load_scene
from in2n_blender.engine.photos import load_images
from in2n_blender.link.requests import Edit
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.imported import load_capture
from in2n_blender.workspace.layout import Workspace


def edited_and_measured(
    workspace: Workspace,
    label: str,
    method: type[DatasetUpdate],
    editor: str,
    seed: int,
    rounds: int | None = None,
    preset: str = "draft",
    device: str = "auto",
) -> tuple[dict, dict]:
    """Edit a workspace's reconstruction, and measure the held-out views against the answer that they are nearest to.

    Args:
        workspace: With a reconstruction.
        label: Of the edit, whose name it becomes; an edit of that name is made anew.
        method: By which.
        editor: An exact one.
        seed: Of the edit.
        rounds: How often every view is edited; None: the method's own number.
        preset: Of the edit.
        device: What it runs on.

    Returns:
        What the edit's state.json says, and a row: "editor", "seed", "psnr_db" (mean over the views), "one_mode_share"
        (of the pixels, in that answer) and "evaluations" (of the network).
    """
    name = "".join(c if c.isalnum() or c in ".-" else "-" for c in label)
    request = Edit(
        workspace=str(workspace.root),
        name=name,
        instruction="paint it",
        editor=editor,
        seed=seed,
        preset=preset,
        device=device,
        rounds=rounds,
        restart=True,
    )
    state = edit(request, Reporter(), method)
    capture, scene = load_capture(workspace), load_scene(workspace, name, device)
    views = capture.held_out_views
    images = [scene.render(view.camera, Reporter()).rgb_srgb for view in views]
    found, truths = compare_with_answers(editor, images, load_images(workspace, capture, views))
    row = {
        "editor": editor,
        "seed": seed,
        "psnr_db": statistics.mean(float(psnr(image, image.new_tensor(t))) for image, t in zip(images, truths)),
        "one_mode_share": found.one_mode_share,
        "evaluations": state["unet_evaluations"],
    }
    return state, row
