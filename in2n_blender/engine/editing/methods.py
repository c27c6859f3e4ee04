"""The job `edit`: which method makes it, what it begins or goes on with, and what is noted of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from ...link.requests import Edit
from ...scene.reporting import Reporter
from ...workspace.files import write_json
from ...workspace.hashes import checkpoint_state
from ...workspace.layout import KEY_VIEW, REGION_FILE, Workspace
from ...workspace.successor import Successor, settle
from ..device import describe_device, pick_device, scene_device
from ..diffusion.editor import Editor
from ..diffusion.loading import load_editor
from ..hiring import crew_for
from ..nerf.checkpoint import limited_to, model_weights, settle_state
from ..nerf.dataset import training_rays
from ..nerf.reconstruction import load_capture_and_images
from ..nerf.scene import LocalScene, Scene, build_model, scene_of
from ..nerf.settings import NerfSettings, kinds_for, settings_for
from ..nerf.training import Trainer
from ..pictures import save_srgb
from .agreement import Agreement
from .crewed import CrewedEditor, editing_role
from .dataset_update import COSTS, DatasetUpdate, Faithful
from .key_picture import read_key_picture
from .lineage import checkpoint_to_go_on_from, edit_provenance, edit_record, read_ground
from .regions import Limit, asked_region, region_record
from .schedule import Schedule
from .segments import Saved, apply_from_here, was_applying, with_saved_segments

METHODS = {method.name: method for method in (Agreement, Faithful, DatasetUpdate)}
# Of the request's preset, on the device that the edit is made on; all else of the NeRF is the reconstruction's.
OF_THE_EDIT = ("edit_rounds", "edit_rate", "edit_learning_rate", "rays", "perceptual", "patches")


def edit(request: Edit, report: Reporter, method: type[DatasetUpdate] | None = None) -> dict:
    """Edit the workspace's reconstruction by an instruction, from the edit's checkpoint if there is one.

    With a parent, its scene and its edited photos take the place of the reconstruction and the original photos.
    With `apply_from_here`, an edit that is not done goes on with this instruction, guidance and region (`segments`).
    An edit that is made anew (`restart`) takes its name when it first saves; the earlier one goes when it is done (see
    `workspace.successor`).

    Args:
        request: What to edit, and how.
        report: Told of every step, with pictures in between, and asked whether the job was cancelled.
        method: One of those that the request's are measured against (`baselines`); None: the request's.

    Returns:
        edits/<name>/state.json: rounds, unet_evaluations, seconds, cpu_seconds, peak_memory_mb, editor, instruction,
        device, provenance.

    Raises:
        In2nError: "edit_exists" where the name belongs to an edit that was made from something else, "edit_done" and
            "no_edit" where there is none to go on with, "not_finite", "diverged" and others; what was made is saved.
        Cancelled: After saving.
    """
    request.check()
    method = method or METHODS[request.editing_method]
    if request.cluster is None:
        load = lambda: load_editor(request.editor, pick_device(request.device), report, request.memory_plan)
        return _edit_by(load, request, report, method)
    with crew_for(editing_role(request), request.cluster, request.workers, report) as crew:
        return _edit_by(lambda: CrewedEditor(crew, request.editor, report), request, report, method)


def _edit_by(load: Callable[[], Editor], request: Edit, report: Reporter, method: type[DatasetUpdate]) -> dict:
    workspace, device = Workspace(request.workspace), scene_device(request.device, report.log)
    region = asked_region(request)
    reconstruction, parent = read_ground(request, workspace)
    editor = load()
    editor.model.check_scales(request.guidance_text, request.guidance_image)
    editor.model.check_negative_prompt(request.negative_prompt, request.guidance_text)
    editor.prepare(request.instruction, request.negative_prompt)
    capture, images = load_capture_and_images(workspace, reconstruction[1].get("light"))
    begun = None if request.restart else checkpoint_state(workspace.edit(request.name))
    settings = _settings(NerfSettings.from_json(reconstruction[1]["settings"]), request, device, begun or {})
    schedule = _schedule(method, settings, request, len(images))
    key_picture = read_key_picture(request.key_view, capture) if request.key_view is not None else None
    chosen = region_record(region), key_picture and key_picture.to_json()
    record = edit_record(request, editor, reconstruction[1], schedule, method.name, *chosen)
    ground = (parent or reconstruction)[0]
    fixed = limited_to(region, ground) if region else {}
    folder = workspace.edit(request.name)
    settle(workspace, folder)
    provenance_of = lambda record: edit_provenance(workspace, editor, record)
    if not request.restart:
        has_edits_left = lambda state: method.has_edits_left(state, schedule)
        go_on = apply_from_here if request.apply_from_here or was_applying(folder, record) else with_saved_segments
        record = go_on(Saved(folder, has_edits_left, provenance_of, region, fixed), record)
    record["provenance"] = provenance_of(record).to_json()
    found = checkpoint_to_go_on_from(workspace, record, request.restart)
    if found and found[1]["done"]:
        settle_state(folder, found[1])
        Successor(workspace, folder, anew=False, keep=False).done()
        return found[1]

    dataset = training_rays(capture, images, device, images.masks())
    if parent:
        dataset.restore(parent[0])
        dataset.changed.clear()
        images = [dataset.image(view).cpu().numpy() for view in range(len(dataset))]
    state = {
        **{k: reconstruction[1][k] for k in ("transform", "near", "has_alpha")},
        **record,
        "settings": settings.to_json(),
        "device": describe_device(device),
        **dict.fromkeys(COSTS, 0),
        "edits_done": 0,
        "done": False,
    }
    model, transform = build_model(state)
    trainer = Trainer(
        model,
        dataset,
        request.seed,
        schedule.steps,
        loss="l1",
        learning_rate=settings.edit_learning_rate,
        log=report.log,
    )
    successor = Successor(workspace, folder, anew=found is None, keep=False)
    if found:
        trainer.restore(*found)
        dataset.restore(found[0])
        state.update({key: found[1][key] for key in (*COSTS, *method.progress) if key in found[1]})
    else:
        model.load_state_dict(model_weights(ground))
        if region:
            write_json(successor.folder / REGION_FILE, region.to_json())
        if key_picture:
            save_srgb(successor.folder / KEY_VIEW, key_picture.image)
        write_json(successor.folder / "edit.json", record)
    scene = Scene(model, transform, capture, device, dataset.has_alpha)
    if region:
        scene = LocalScene(model, scene_of(ground, state, capture, device), region)
    limit = Limit(region, scene, dataset.cameras, report) if region else None
    if limit and found:
        limit.restore(found[0])
    del reconstruction, parent, found, ground
    about = request, report, successor, editor, schedule, trainer, scene, images, state
    method(*about, limit, fixed, key_picture).run()
    return state


def _settings(reconstructed: NerfSettings, request: Edit, device: torch.device, begun: dict) -> NerfSettings:
    """The preset's, of the kind of device on which the edit was begun where there is one."""
    possible = []
    for kind in kinds_for(device.type):
        own = settings_for(request.preset, kind)
        settings = replace(reconstructed, **{name: getattr(own, name) for name in OF_THE_EDIT})
        if request.perceptual != "auto":
            settings = replace(settings, perceptual=request.perceptual)
        possible.append(settings)
    return next((settings for settings in possible if settings.to_json() == begun.get("settings")), possible[0])


def _schedule(method: type[DatasetUpdate], settings: NerfSettings, request: Edit, views: int) -> Schedule:
    rounds = request.rounds or method.default_rounds(settings)
    noise = request.noise_schedule or method.noise
    return method.Schedule(views, rounds, method.edit_rate(settings), request.seed, noise)
