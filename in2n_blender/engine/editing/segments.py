"""Segments: an edit whose instruction, guidance or region the user changed while it was on its way.

edit.json and the checkpoint's state hold them as a list, each from the number of edited views at which it began:

    "segments": [{"from_edit": 0, "instruction": "make it snow", …},
                 {"from_edit": 20, "instruction": "make it night", …}]

What the record says itself of these settings is what its last segment says: with that the edit goes on. An edit of one
segment is an edit like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ...scene.errors import In2nError
from ...scene.region import Region
from ...workspace.edits import CHANGEABLE, segment_of, segments_in
from ...workspace.files import read_json, write_json
from ...workspace.hashes import checkpoint_state
from ...workspace.layout import REGION_FILE
from ...workspace.provenance import Provenance
from ..nerf.checkpoint import read_checkpoint, save_checkpoint, weights_hash

LIMIT = ("region.", "ground.")  # how the names of the tensors begin of what an edit is limited to


@dataclass(frozen=True)
class Saved:
    """Where an edit is saved, and how what it says of itself is noted there.

    Attributes:
        folder: The edit's.
        has_edits_left: Whether a view is still to be edited, by the checkpoint's state.
        provenance_of: Of a record.
        region: What it is limited to from now on.
        fixed: The tensors that a checkpoint holds of that, as `limited_to` gives them.
    """

    folder: Path
    has_edits_left: Callable[[dict], bool]
    provenance_of: Callable[[dict], Provenance]
    region: Region | None
    fixed: dict[str, torch.Tensor]

    def note(self, record: dict) -> dict:
        """The record with its provenance, in edit.json, beside it the region's surface.

        Args:
            record: With its segments.

        Raises:
            In2nError: "disk_full", "cannot_write".
        """
        record = {**record, "provenance": self.provenance_of(record).to_json()}
        if self.region is not None:
            write_json(self.folder / REGION_FILE, self.region.to_json())
        write_json(self.folder / "edit.json", record)
        return record


def with_saved_segments(saved: Saved, record: dict) -> dict:
    """A record with the segments of what is saved under its name, where the last of these has the record's settings.

    Args:
        saved: Where.
        record: As edit.json should be, with one segment.

    Returns:
        The record, or one that differs in its segments alone.
    """
    state = checkpoint_state(saved.folder)
    segments = segments_in(state) if state else []
    return {**record, "segments": segments} if segments and _same(segments[-1], record) else record


def was_applying(folder: Path, record: dict) -> bool:
    """Whether `apply_from_here` was killed after it had noted these settings in edit.json.

    Args:
        folder: The edit's.
        record: As edit.json should be, with one segment.
    """
    state = checkpoint_state(folder)
    try:
        noted = read_json(folder / "edit.json")
    except In2nError:
        return False
    if state is None or state.get("done") or not isinstance(noted, dict):
        return False
    *before, last = segments_in(noted)
    return bool(before) and _same(last, record) and not _same(segments_in(state)[-1], record)


def apply_from_here(saved: Saved, record: dict) -> dict:
    """Let the edit that is saved in a folder go on with a record's settings from its next edited view on.

    What is saved says so when this returns, and nothing else in it has changed.

    Args:
        saved: Where, and with which region from now on.
        record: As edit.json should be, with one segment: the new settings.

    Returns:
        The record with all segments: one where no edited view is saved yet.

    Raises:
        In2nError: "no_edit", "edit_done" where no view is left to be edited, "edit_exists" where other settings differ
            than can be changed, "bad_checkpoint", "disk_full", "cannot_write".
    """
    name, folder = record["name"], saved.folder
    if not (folder / "edit.json").is_file():
        raise In2nError("no_edit", f"There is no edit “{name}” to go on with.", "Give the name of one that was begun.")
    found = read_checkpoint(folder)
    if found is None:
        return saved.note(record)
    tensors, state = found
    segments = segments_in(state)
    if _same(segments[-1], record):
        return {**record, "segments": segments}
    before = {**record, **_settings(segments[-1]), "segments": segments}
    made = Provenance.from_json(state.get("provenance"))
    reason = saved.provenance_of(before).why_not(made, record["parent"]) if made else None
    if reason:
        raise In2nError(
            "edit_exists",
            f"“{name}” cannot go on with these settings: {reason[0].lower()}{reason[1:]}",
            "On its way an edit can change its instruction, guidance and region alone. Restart it for others.",
        )
    if state["done"] or not saved.has_edits_left(state):
        raise In2nError(
            "edit_done",
            f"All views of “{name}” are edited already: nothing is left that could be edited otherwise.",
            "Start another edit that builds on it.",
        )
    kept = [segment for segment in segments if segment["from_edit"] < state["edits_done"]]
    if not kept or not _same(kept[-1], record):
        kept.append(segment_of(record, state["edits_done"]))
    record = saved.note({**record, "segments": kept})
    tensors = {name: value for name, value in tensors.items() if not name.startswith(LIMIT)} | saved.fixed
    save_checkpoint(folder, tensors, {**state, **record, "weights": weights_hash(tensors)})
    return record


def _settings(segment: dict) -> dict:
    return {key: segment[key] for key in CHANGEABLE}


def _same(segment: dict, record: dict) -> bool:
    return _settings(segment) == _settings(segment_of(record))
