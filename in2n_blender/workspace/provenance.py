"""What every result is made from, so that a result of something else is never taken for it. Standard library only.

A result's `Provenance` lies with its data: in the checkpoint's metadata (and in state.json and edit.json, for people),
in a frame's and a preview's own file, in meshes/<edit>.json. Same provenance: done, reused. Other: kept, called
outdated, made anew beside it, or over it where the user says so. A result of the last version has none: it can be used
and gone on with, and is not called outdated, because nobody knows.

For a panel, cheap enough for every redraw (files' times are looked at, photos are never read):

    outdated(workspace: Workspace, edit: str | None) -> str | None    why it is outdated, in one sentence, or None
    is_done(workspace: Workspace, edit: str | None) -> bool           whether it was computed to its end

edit None: the reconstruction.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..scene.errors import In2nError
from .files import read_json, write_json
from .hashes import file_hash, hash_of
from .layout import Workspace

NUMERIC_VERSION = 1
"""To be raised whenever the engine computes other numbers from the same inputs."""

PHOTO_HASHES = ".photos.json"
LOOK_SECONDS = 1.0  # between two looks at the photos' times

PHOTOS, RECONSTRUCTION, PARENT, SCENE = "photos", "reconstruction", "parent", "scene"


@dataclass(frozen=True)
class Provenance:
    """What a result is made from.

    Attributes:
        kind: "reconstruction", "edit", "preview", "frame", "mesh" or "splats".
        settings: All that was chosen and changes the result, as JSON.
        inputs: Content hashes by role: "photos" (pixels, cameras and points), "reconstruction", "parent", "scene".
        model: The revision of the 2D model, where one had a part in it.
        engine: NUMERIC_VERSION of the engine that made it.
    """

    kind: str
    settings: dict
    inputs: dict[str, str | None]
    model: str | None = None
    engine: int = NUMERIC_VERSION

    @property
    def hash(self) -> str:
        """40 hexadecimal digits, equal for equal provenances."""
        return hash_of(self.to_json())

    def to_json(self) -> dict:
        return {
            "kind": self.kind,
            "settings": json.loads(json.dumps(self.settings)),
            "inputs": dict(self.inputs),
            "model": self.model,
            "engine": self.engine,
        }

    @staticmethod
    def from_json(data: object) -> Provenance | None:
        """The provenance that a result's metadata holds.

        Args:
            data: As `to_json` writes it; anything else is no mistake.

        Returns:
            The provenance, or None for what is none, such as that of a result of the last version.
        """
        if not isinstance(data, dict):
            return None
        kind, settings, inputs = (data.get(key) for key in ("kind", "settings", "inputs"))
        if not (isinstance(kind, str) and isinstance(settings, dict) and isinstance(inputs, dict)):
            return None
        return Provenance(kind, settings, inputs, data.get("model"), data.get("engine"))

    def why_not(self, made: Provenance, parent: str | None = None) -> str | None:
        """Why a result made from `made` is not one of this provenance, in one sentence; None where it is.

        Args:
            made: What the result was made from.
            parent: The name of the edit that it builds on.
        """
        return (
            why_outdated(made, self.inputs, self.engine, parent)
            or ("Made with other weights of the model." if made.model != self.model else None)
            or ("Made for another region." if made.settings.get("region") != self.settings.get("region") else None)
            or ("Made with other settings." if made.to_json() != self.to_json() else None)
        )


def why_outdated(made: Provenance, inputs: dict, engine: int, parent: str | None) -> str | None:
    """Why a result is not one of these inputs; an input of which nothing is known is no reason.

    Args:
        made: What the result was made from.
        inputs: Content hashes by role as they are now, None where that is not known.
        engine: NUMERIC_VERSION of the engine that would make it now.
        parent: The name of the edit that it builds on, if any.

    Returns:
        One sentence, or None where it is one of them.
    """
    reasons = {
        PHOTOS: "The photos changed after this was made.",
        RECONSTRUCTION: "Made from an earlier reconstruction.",
        PARENT: f"“{parent}”, which it builds on, was made again.",
        SCENE: "Made from an earlier state of the scene.",
    }
    for role, reason in reasons.items():
        if inputs.get(role) and made.inputs.get(role) and inputs[role] != made.inputs[role]:
            return reason
    return "Made by another version of the engine." if made.engine != engine else None


# --- results in a workspace


def result_folder(workspace: Workspace, edit: str | None) -> Path:
    """Where the checkpoint of a reconstruction or an edit lies.

    Args:
        workspace: Whose result it is.
        edit: The edit's name, or None for the reconstruction.

    Raises:
        In2nError: "bad_name".
    """
    return workspace.edit(edit) if edit else workspace.reconstruction


def is_done(workspace: Workspace, edit: str | None) -> bool:
    """Whether a reconstruction or an edit was computed to its end, as its state.json tells.

    An edit whose record says otherwise than its state was begun anew and stopped before it saved: it is not done.

    Args:
        workspace: Whose result it is.
        edit: The edit's name, or None for the reconstruction.

    Raises:
        In2nError: "bad_name".
    """
    folder = result_folder(workspace, edit)
    state = _seen(folder / "state.json")
    if not state.get("done"):
        return False
    return edit is None or _agree(_seen(folder / "edit.json"), state)


def outdated(workspace: Workspace, edit: str | None) -> str | None:
    """Why a result is not what would be made now from the same settings.

    Args:
        workspace: Whose result it is.
        edit: The edit's name, or None for the reconstruction.

    Returns:
        One sentence, or None where the result is up to date, and where nothing is known.

    Raises:
        In2nError: "bad_name".
    """
    folder = result_folder(workspace, edit)
    state = _seen(folder / "state.json")
    made = Provenance.from_json(state.get("provenance"))
    if made is None:
        return None
    inputs = {PHOTOS: _photos_now(workspace, made.inputs.get(PHOTOS))}
    parent = None
    if edit is not None:
        inputs[RECONSTRUCTION] = _seen(workspace.reconstruction / "state.json").get("weights")
        parent = _seen(folder / "edit.json").get("parent")
        if isinstance(parent, str):
            inputs[PARENT] = _seen(workspace.root / "edits" / parent / "state.json").get("weights")
    return why_outdated(made, inputs, NUMERIC_VERSION, parent)


def _agree(record: dict, state: dict) -> bool:
    if "provenance" in record or "provenance" in state:
        return record.get("provenance", state.get("provenance")) == state.get("provenance")
    shared = [key for key in record if key in state and key not in ("name", "parent")]
    return all(record[key] == state[key] for key in shared)


# --- photos


def photos_hash(workspace: Workspace) -> str | None:
    """The content hash of a workspace's capture: its photos' files, their cameras, split, sparse points and tracks.

    Photos are read once; .photos.json keeps each one's hash with its size and time. None where there is no capture.

    Raises:
        In2nError: "bad_json", "disk_full", "cannot_write".
    """
    if not workspace.capture_json.is_file():
        return None
    before = _read_object(workspace.root / PHOTO_HASHES)
    known = before.get("photos") if isinstance(before.get("photos"), dict) else {}
    photos = {}
    for name in _photo_names(workspace):
        found, old = _size_and_time(workspace.root / name), known.get(name)
        try:
            if found is not None:
                same = isinstance(old, list) and len(old) == 3 and old[:2] == found
                photos[name] = old if same else [*found, file_hash(workspace.root / name)]
        except OSError:
            continue  # whoever loads it says what is wrong
    capture = read_json(workspace.capture_json)
    tracks = {"tracks": capture["tracks"]} if "tracks" in capture else {}  # what has none has the hash that it had
    cameras = hash_of({key: capture.get(key) for key in ("views", "points")} | tracks)
    result = hash_of([cameras, {name: entry[2] for name, entry in photos.items()}])
    record = {"hash": result, "capture": _size_and_time(workspace.capture_json), "photos": photos}
    if record != before:
        write_json(workspace.root / PHOTO_HASHES, record)
    return result


def _photo_names(workspace: Workspace) -> list[str]:
    capture = read_json(workspace.capture_json)
    views = capture.get("views") if isinstance(capture, dict) else None
    names = [view.get(part) for view in views or () if isinstance(view, dict) for part in ("image", "mask")]
    return [name for name in names if isinstance(name, str) and name and _stays_inside(name)]


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and not {"\\", ":", "\0"} & set(name)


_looks: dict[Path, tuple[float, str | None, bool | None]] = {}


def _photos_now(workspace: Workspace, made_from: str | None) -> str | None:
    """The photos' hash where it is known without reading them, else None; "changed" where they are surely no longer
    those of `made_from`."""
    looked, known, same = _looks.get(workspace.root, (-LOOK_SECONDS, None, None))
    if time.monotonic() - looked >= LOOK_SECONDS:
        known, same = _look_at_photos(workspace)
        _looks[workspace.root] = time.monotonic(), known, same
    if same is False:
        return "changed" if known == made_from else None
    return known if same else None


def _look_at_photos(workspace: Workspace) -> tuple[str | None, bool | None]:
    """The hash that was last computed, and whether the photos are still those: None where their times alone differ."""
    record = _seen(workspace.root / PHOTO_HASHES)
    known, photos = record.get("hash"), record.get("photos")
    if not isinstance(known, str) or not isinstance(photos, dict):
        return None, None
    entries = [(workspace.root / name, entry) for name, entry in photos.items() if isinstance(entry, list)]
    same: bool | None = True
    for file, entry in [(workspace.capture_json, record.get("capture")), *entries]:
        found = _size_and_time(file)
        if found is None or not isinstance(entry, list):
            return known, None
        if found[0] != entry[0]:
            return known, False if file != workspace.capture_json else None
        same = same and (True if found == entry[:2] else None)
    return known, same


# --- files


def _size_and_time(path: Path) -> list[int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


_read: dict[Path, tuple[list[int], dict]] = {}


def _seen(path: Path) -> dict:
    """A JSON object, read again only where its file changed; empty where it is missing or damaged."""
    found = _size_and_time(path)
    if found is None:
        return {}
    if path not in _read or _read[path][0] != found:
        _read[path] = found, _read_object(path)
    return _read[path][1]


def _read_object(path: Path) -> dict:
    try:
        found = read_json(path)
    except (In2nError, OSError):
        return {}
    return found if isinstance(found, dict) else {}
