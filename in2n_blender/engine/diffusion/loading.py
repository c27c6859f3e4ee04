"""Loading an editor by its name: finding its folder, and which of the editors can run it."""

from __future__ import annotations

from pathlib import Path

import torch

from ...models import catalogue, hub
from ...models.download import EDITOR_FILES, EDITOR_UNWANTED, download
from ...models.exact import ExactSettings, is_exact
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from .editor import Editor
from .picture_answers import Pictures
from .reading import UnfitFiles, check_layout, reading, stated_class


def load_editor(name_or_folder: str, device: torch.device | str, report: Reporter | None = None) -> Editor:
    """Load the bundled miniature, a model of the Hugging Face hub, a folder in the diffusers layout, or an exact
    editor.

    Args:
        name_or_folder: as for `models.catalogue.find`. A hub model comes from the local cache; it is downloaded only
            where `models.hub.may_download`.
        device: what it runs on.
        report: told of a download, and asked whether the job was cancelled.

    Returns:
        An editor whose `prepare` was not called yet.

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
    folder = find_weights(model, report or Reporter())

    # Here, because diffusers and transformers take seconds to import: a model that is missing is refused at once.
    from .instruct_pix2pix import InstructPix2Pix
    from .miniature.editor import MiniatureEditor

    editors = {editor.autoencoder_class.__name__: editor for editor in (InstructPix2Pix, MiniatureEditor)}
    with reading("vae", lambda reason: catalogue.unfit(model.id, reason)):
        check_layout(folder)
        autoencoder = stated_class(folder / "vae")
        if autoencoder not in editors:
            raise UnfitFiles(f"its vae is a {autoencoder}")
    return editors[autoencoder](model, folder, torch.device(device))


def find_weights(model: catalogue.Model, report: Reporter) -> Path:
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
    size = f" (some {model.download_mb / 1000:.0f} GB, once)" if model.download_mb else ""
    raise In2nError(
        "editor_missing",
        f"The model “{model.id}” is not on this machine, and {hub.why_no_download()}.",
        f"{hub.how_to_allow()}{size}, or choose a folder that holds the model, or “miniature”.",
    )
