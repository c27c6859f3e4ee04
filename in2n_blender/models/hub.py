"""The models on this computer: in the Hugging Face cache, which other programs share, and in folders.

Standard library only. The cache is <cache>/models--<owner>--<name>/ with blobs/ (the data), refs/ (names of revisions)
and snapshots/<revision>/ (links to the data).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..environment.home import folder_mb
from ..scene.errors import In2nError
from .catalogue import ON_THE_HUB, find, is_hub_name, on_the_hub, read_folder
from .families import UnfitFolder, family_of, read_index
from .model import Model

ALLOW_DOWNLOAD = "IN2N_ALLOW_DOWNLOAD"
# The first is this project's (Blender's online access is off), the others are those of Hugging Face's libraries.
OFFLINE = ("IN2N_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
NO = ("", "0", "NO", "OFF", "FALSE")


@dataclass(frozen=True)
class StoredModel:
    """A model that was found on this computer.

    Attributes:
        name: its name on the hub, or the folder's own.
        folder: where it lies.
        megabytes: how much room it takes.
        complete: whether it can be used as it is.
        downloaded: whether it lies in the Hugging Face cache, from where it can be had again.
    """

    name: str
    folder: Path
    megabytes: int
    complete: bool
    downloaded: bool


def is_offline() -> bool:
    """Whether a variable forbids every connection."""
    return _forbidding() is not None


def may_download() -> bool:
    """Whether weights may be fetched without being asked for: IN2N_ALLOW_DOWNLOAD=1, and nothing forbids it."""
    return os.environ.get(ALLOW_DOWNLOAD) == "1" and not is_offline()


def why_no_download() -> str:
    """Why nothing is fetched, as the end of a sentence; for where `may_download` is False."""
    return f"{_forbidding()} forbids downloads" if is_offline() else f"downloads need {ALLOW_DOWNLOAD}=1"


def how_to_allow() -> str:
    """The beginning of a hint: what to do where nothing is fetched."""
    if is_offline():
        return f"Go online ({_forbidding()}=0; in Blender: Preferences > System > Network)"
    return f"Allow it with {ALLOW_DOWNLOAD}=1"


def _forbidding() -> str | None:
    return next((name for name in OFFLINE if os.environ.get(name, "").upper() not in NO), None)


def hub_cache() -> Path:
    """Where Hugging Face's libraries keep downloads, by the same variables that they read."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser() / "hub"
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache").expanduser() / "huggingface" / "hub"


def hub_folder(name: str) -> Path:
    """The cache's folder of a hub model, there or not.

    Args:
        name: owner/model or owner/model@commit.

    Returns:
        models--<owner>--<name> in `hub_cache`.
    """
    return hub_cache() / f"models--{on_the_hub(name)[0].replace('/', '--')}"


def cached_snapshot(name: str, is_complete: Callable[[Path], bool]) -> Path | None:
    """The files of a hub model in the cache, without asking the network; the folder's name is the revision.

    Args:
        name: owner/model or owner/model@commit.
        is_complete: whether a folder holds all that is needed of the model.

    Returns:
        The named commit alone where one is named; else the one of `catalogue.REVISIONS`, else its main revision, else
        any other that is complete; None where none is.
    """
    snapshots, pinned = hub_folder(name) / "snapshots", on_the_hub(name)[1]
    if "@" in name:
        return snapshots / pinned if is_complete(snapshots / pinned) else None
    try:
        main = (hub_folder(name) / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        main = ""
    order = lambda snapshot: (snapshot.name != pinned, snapshot.name != main, snapshot.name)
    candidates = sorted(snapshots.glob("*"), key=order)
    return next((snapshot for snapshot in candidates if snapshot.is_dir() and is_complete(snapshot)), None)


def has_editor_weights(folder: Path) -> bool:
    """Whether a folder in the diffusers layout holds the weights of an editing model, as safetensors.

    Args:
        folder: the model's, with a folder for each network of its family, such as unet/; there or not.

    Returns:
        False, too, where it is of no known family, or one of the networks lacks a shard.
    """
    try:
        return all(has_safetensors(folder / part) for part in family_of(folder).networks)
    except UnfitFolder:
        return False


def is_whole_editor(folder: Path) -> bool:
    """Whether a folder holds, beside the weights, all else that an edit needs.

    Args:
        folder: the model's, with a folder for each part of its family; there or not.
    """
    return has_editor_weights(folder) and all((folder / part).is_dir() for part in family_of(folder).parts)


def find_model(name_or_folder: str) -> Model:
    """As `catalogue.find`, but a model of the hub that is in the cache is what its own files say that it is.

    Args:
        name_or_folder: as for `catalogue.find`.

    Returns:
        The entry; for a model that is in the catalogue, the catalogue's.

    Raises:
        In2nError: as `catalogue.find`.
    """
    model = find(name_or_folder)
    if model.folder is None and is_hub_name(model.id) and model not in ON_THE_HUB:
        cached = cached_snapshot(model.id, is_whole_editor)
        if cached is not None:
            named = next((known for known in ON_THE_HUB if known.id == on_the_hub(model.id)[0]), None)
            return replace(named or read_folder(cached), id=model.id, label=model.id, folder=None)
    return model


def has_safetensors(folder: Path) -> bool:
    """Whether weights are there, all shards where an index lists them.

    Args:
        folder: of one network, such as unet/; there or not.

    Returns:
        False, too, where the index cannot be read.
    """
    try:
        for index in folder.glob("*.safetensors.index.json"):
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            if not all((folder / shard).is_file() for shard in shards):
                return False
        return any(folder.glob("*.safetensors"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def find_stored(folders=(), cancelled=lambda: False) -> list[StoredModel]:
    """The editing models in the Hugging Face cache and in folders.

    Of the cache those that are in the catalogue, whole or half downloaded, and their relatives that are whole.

    Args:
        folders: each a model in the diffusers layout, or a folder of such.
        cancelled: asked while sizes are added up; once it says yes, they are left as they are.

    Returns:
        Those of the cache by their names, then those of each folder.
    """
    found, known = [], {model.id for model in ON_THE_HUB}
    for cached in sorted(hub_cache().glob("models--*--*")):
        name = cached.name.removeprefix("models--").replace("--", "/", 1)
        complete = any(_is_editor(s) and has_editor_weights(s) for s in cached.glob("snapshots/*"))
        if complete or name in known:
            found.append(StoredModel(name, cached, folder_mb(cached, cancelled), complete, True))
    for folder in dict.fromkeys(Path(f) for f in folders if f):
        candidates = sorted(folder.iterdir()) if folder.is_dir() and not _is_editor(folder) else [folder]
        found += [
            StoredModel(
                candidate.name, candidate, folder_mb(candidate, cancelled), has_editor_weights(candidate), False
            )
            for candidate in candidates
            if _is_editor(candidate)
        ]
    return found


def remove_downloaded(name: str) -> None:
    """Take a model out of the Hugging Face cache, half-downloaded files included.

    Args:
        name: owner/model.

    Raises:
        In2nError: "no_model" where it is not there, "cannot_remove" where a part of it stays.
    """
    folder = hub_folder(name)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or not folder.is_dir():
        raise In2nError("no_model", f"“{name}” is not in {hub_cache()}.", "It may have been removed already.")
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise In2nError(
            "cannot_remove", f"{folder} could not be removed whole.", "Close what is using it and try again."
        )


def _is_editor(folder: Path) -> bool:
    try:
        return bool(read_index(folder)) and family_of(folder) is not None
    except UnfitFolder:
        return False
