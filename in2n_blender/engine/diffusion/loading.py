"""Loading an editor by its name: finding its folder, and which of the editors can run it."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import torch

from ...link.requests import AUTOMATIC
from ...models import catalogue, families, hub
from ...models.download import EDITOR_FILES, EDITOR_UNWANTED, download
from ...models.exact import ExactSettings, is_exact
from ...models.memory import in_words
from ...models.model import Model, unfit
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ...workspace.hashes import model_revision
from ..kept import KEPT
from .editor import Editor
from .picture_answers import Pictures
from .reading import UnfitFiles, check_layout, reading, stated_class

# The editor of each family, by its name: diffusers and transformers take seconds to import, and only one is wanted.
EDITORS = {
    families.INSTRUCT_PIX2PIX: "instruct_pix2pix:InstructPix2Pix",
    families.SDXL_INSTRUCT_PIX2PIX: "sdxl_instruct_pix2pix:SdxlInstructPix2Pix",
    families.FLUX2_KLEIN: "flux2_klein:Flux2Klein",
    families.FLUX_KONTEXT: "flux_kontext:FluxKontext",
    families.QWEN_IMAGE_EDIT: "qwen_image_edit:QwenImageEdit",
    families.LONGCAT_IMAGE_EDIT: "longcat_image_edit:LongCatImageEdit",
}
PLAN_FOR = "placement:plan_for"
MINIATURE_EDITOR = "miniature.editor:MiniatureEditor"


def load_editor(
    name_or_folder: str, device: torch.device | str, report: Reporter | None = None, memory_plan: str = AUTOMATIC
) -> Editor:
    """Load the bundled miniature, a model of the Hugging Face hub, a folder in the diffusers layout, or an exact
    editor.

    Args:
        name_or_folder: as for `models.catalogue.find`. A hub model comes from the local cache; it is downloaded only
            where `models.hub.may_download`.
        device: what it runs on.
        report: told of a download and, in its log, how the model is kept in a GPU's memory; asked whether the job was
            cancelled.
        memory_plan: one of `requests.MEMORY_PLANS`.

    Returns:
        An editor whose `prepare` was not called yet, as far as anybody can tell: a worker keeps the one of its last
        job.

    Raises:
        In2nError: "unknown_editor", "editor_missing", "editor_unfit", "no_network", "missing_truth".
        Cancelled.
    """
    model = catalogue.find(name_or_folder)
    if is_exact(model.id):
        # Here, because diffusers takes a second to import, as below.
        from .exact import ExactEditor

        settings = ExactSettings.from_name(model.id)
        return ExactEditor(settings, torch.device(device), Pictures.of(settings) if settings.pictures else None)
    report, device = report or Reporter(), torch.device(device)
    folder = find_weights(model, report)

    refuse = lambda reason: unfit(model.id, reason)
    with reading(families.INDEX_FILE, refuse):
        family = families.family_of(folder)
        check_layout(folder, family)
    if family != model.family:  # of the hub, and not in the catalogue
        model = replace(catalogue.read_folder(folder, model.id), folder=None)
    editors = [_named(EDITORS[family])]
    if family == families.INSTRUCT_PIX2PIX:
        editors.append(_named(MINIATURE_EDITOR))
    with reading("vae", refuse):
        autoencoder = stated_class(folder / "vae")
        editor = next((editor for editor in editors if editor.autoencoder_class.__name__ == autoencoder), None)
        if editor is None:
            raise UnfitFiles(f"its vae is a {autoencoder}")
    key = (model.id, str(folder), model_revision(folder), str(device), memory_plan) if KEPT.wanted else None
    if kept := KEPT.take(key):
        kept.resume(report.log)
        return kept
    plan = _named(PLAN_FOR)(model, device, memory_plan)
    if device.type == "cuda":
        report.log(f"{in_words(model, plan)}.")
    loaded = editor(model, folder, device, plan, report.log)
    KEPT.keep(key, loaded, loaded.rest)
    return loaded


def _named(place: str):
    """An editor's class, or a function beside them, by its file and name."""
    module, name = place.split(":")
    return getattr(importlib.import_module(f".{module}", __package__), name)


def find_weights(model: Model, report: Reporter) -> Path:
    """The folder of a model's weights, downloaded first where it has to and that is allowed.

    Args:
        model: the catalogue's entry.
        report: told of a download, and asked whether the job was cancelled.

    Returns:
        The entry's own folder, else one in the Hugging Face cache.

    Raises:
        In2nError: "editor_missing", "no_network".
        Cancelled.
    """
    if model.folder is not None:
        if model == catalogue.MINIATURE and not (model.folder / "unet").is_dir():
            raise In2nError(
                "editor_missing",
                "The miniature model's weights are not in this installation.",
                "Reinstall the package, or make them with `python3 -m in2n_blender train-miniature`.",
            )
        return model.folder
    cached = hub.cached_snapshot(model.id, hub.is_whole_editor)
    if cached is not None:
        return cached
    if hub.may_download():
        return download(model.id, report, EDITOR_FILES, EDITOR_UNWANTED)
    facts = [f"some {model.download_mb / 1000:.0f} GB, once"] if model.download_mb else []
    facts += [model.note] if model.note else []
    in_brackets = f" ({'; '.join(facts)})" if facts else ""
    raise In2nError(
        "editor_missing",
        f"The model “{model.id}” is not on this machine, and {hub.why_no_download()}.",
        f"{hub.how_to_allow()}{in_brackets}, or choose a folder that holds the model, or “miniature”.",
    )
