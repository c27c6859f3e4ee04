"""What an edit is made from, and whether a checkpoint that lies under its name is of that."""

from __future__ import annotations

import json

from ...link.requests import Edit
from ...scene.errors import In2nError
from ...workspace.edits import segment_of
from ...workspace.files import read_json, write_json
from ...workspace.hashes import checkpoint_state, model_revision, scene_hash
from ...workspace.layout import Workspace
from ...workspace.provenance import (
    PARENT,
    PHOTOS,
    RECONSTRUCTION,
    Provenance,
    photos_hash,
)
from ...workspace.successor import making_folder
from ..diffusion.editor import Editor
from ..nerf.checkpoint import read_checkpoint
from .crewed import CrewedEditor
from .schedule import Schedule

# What edit.json says beside its settings.
NAMES = ("name", "editor", "parent", "reconstruction")


def read_ground(request: Edit, workspace: Workspace):
    """What an edit is made on.

    Args:
        request: Its `parent` is the edit to build on; None: the reconstruction alone.
        workspace: Where both are.

    Returns:
        The reconstruction's checkpoint and the parent's, (tensors, state) each; None for the latter without a parent.

    Raises:
        In2nError: "not_trained", "no_parent", "other_reconstruction", "bad_checkpoint".
    """
    reconstruction = read_checkpoint(workspace.reconstruction)
    if reconstruction is None or not reconstruction[1]["done"]:
        raise In2nError(
            "not_trained",
            f"The capture in {workspace.root} has not been reconstructed to the end.",
            "Run the reconstruction first.",
        )
    if request.parent is None:
        return reconstruction, None
    parent = read_checkpoint(workspace.edit(request.parent))
    if parent is None or not parent[1]["done"]:
        raise In2nError(
            "no_parent",
            f"The edit “{request.parent}” to build on is not there or not finished.",
            "Finish that edit first, or choose another.",
        )
    made = Provenance.from_json(parent[1].get("provenance"))
    of_this = (
        made.inputs.get(RECONSTRUCTION) == scene_hash(workspace.reconstruction)
        if made
        else parent[1]["reconstruction"] == _last_versions_identity(reconstruction[1])
    )
    if not of_this:
        raise In2nError(
            "other_reconstruction",
            f"The edit “{request.parent}” was made from an earlier reconstruction.",
            "Edit it again before you build on it.",
        )
    return reconstruction, parent


def edit_record(
    request: Edit,
    editor: Editor,
    reconstruction: dict,
    schedule: Schedule,
    method: str,
    region: dict | None = None,
    key_view: dict | None = None,
) -> dict:
    """edit.json without its provenance: every setting, with the editor's own where none was chosen.

    Args:
        request: What the user chose.
        editor: Gives its name and its guidance scales.
        reconstruction: The state of the reconstruction's checkpoint.
        schedule: Gives the rounds and the noise schedule.
        method: The method's name, as in `baselines.METHODS`.
        region: What is noted of the region that limits the edit.
        key_view: What is noted of the picture that the user chose for a view.

    Returns:
        The record, as JSON would give it back.
    """
    choose = lambda given, default: default if given is None else given
    record = {
        "name": request.name,
        "method": method,
        "instruction": request.instruction.strip(),
        "editor": editor.name,
        "seed": request.seed,
        "guidance_text": choose(request.guidance_text, editor.guidance_text),
        "guidance_image": choose(request.guidance_image, editor.guidance_image),
        "rounds": schedule.rounds,
        "noise_schedule": schedule.noise,
        "perceptual": request.perceptual,
        "preset": request.preset,
        "parent": request.parent,
        "reconstruction": _last_versions_identity(reconstruction),
        "region": region,
    }
    if request.negative_prompt.strip():
        record["negative_prompt"] = request.negative_prompt.strip()
    if key_view:
        record["key_view"] = key_view
    if request.views_together:  # an edit that does not say it is of as many as a GPU edits at once
        record["views_together"] = request.views_together
    record["segments"] = [segment_of(record)]
    return json.loads(json.dumps(record))


def edit_provenance(workspace: Workspace, editor: Editor, record: dict) -> Provenance:
    """What an edit of this record is made from; its name and those of its parent and editor play no part.

    Args:
        workspace: Where the photos, the reconstruction and the parent are.
        editor: Whose weights' revision counts.
        record: As `edit_record` gives it.

    Returns:
        With the hashes of the photos, the reconstruction and, where there is one, the parent.

    Raises:
        In2nError: As `photos_hash`.
        OSError: A checkpoint cannot be read.
    """
    inputs = {PHOTOS: photos_hash(workspace), RECONSTRUCTION: scene_hash(workspace.reconstruction)}
    if record["parent"] is not None:
        inputs[PARENT] = scene_hash(workspace.edit(record["parent"]))
    # One segment alone says what the record says; so said edits of before there were any.
    unsaid = (*NAMES, "provenance") if len(record["segments"]) > 1 else (*NAMES, "provenance", "segments")
    settings = {key: value for key, value in record.items() if key not in unsaid}
    return Provenance("edit", settings, inputs, editor_revision(editor))


def editor_revision(editor: Editor) -> str:
    """The revision of an editor's weights; its name where these do not lie in a folder.

    Args:
        editor: Loaded.

    Returns:
        As `model_revision` gives it.
    """
    if isinstance(editor, CrewedEditor):  # its weights lie where its workers are
        return editor.revision
    folder = getattr(editor, "folder", None)
    return model_revision(folder) if folder else editor.name


def checkpoint_to_go_on_from(workspace: Workspace, record: dict, restart: bool):
    """The checkpoint of an edit where it is of this record's provenance.

    The checkpoint itself says what it is of: edit.json may be that of an edit which was begun anew and killed before
    its first save.

    Args:
        workspace: Where the edit is.
        record: edit.json as it should be, with its provenance.
        restart: Whether the user wants it anew.

    Returns:
        (tensors, state), or None where the edit begins anew.

    Raises:
        In2nError: "edit_exists" when the name belongs to an edit that was made from something else.
    """
    folder = workspace.edit(record["name"])
    if restart or not (folder / "edit.json").is_file():
        return None
    noted = read_json(folder / "edit.json")
    noted = noted if isinstance(noted, dict) else {}
    state = checkpoint_state(folder)
    reason = _why_not(noted, record, noted, workspace)
    if state is not None and _why_not(state, record, noted, workspace) is None:
        if reason:
            write_json(folder / "edit.json", {**record, "provenance": state.get("provenance")})
        return read_checkpoint(folder)
    if reason is None:  # begun anew and killed before it saved
        if state is None and (folder / "checkpoint.safetensors").is_file():
            return read_checkpoint(folder)  # which says what is wrong with it
        return None
    begun = making_folder(workspace, folder) / "edit.json"
    if begun.is_file() and read_json(begun).get("provenance") == record["provenance"]:
        return None  # what is there was to be replaced, and is
    raise In2nError(
        "edit_exists",
        f"There already is an edit named “{record['name']}”: {reason[0].lower()}{reason[1:]}",
        "Choose another name, or restart the edit to replace it.",
    )


def _why_not(made: dict, record: dict, noted: dict, workspace: Workspace) -> str | None:
    """Why a record or a checkpoint's state is not of this record's provenance, in one sentence; None where it is."""
    provenance = Provenance.from_json(made.get("provenance"))
    if provenance:
        return Provenance.from_json(record["provenance"]).why_not(provenance, record["parent"])
    unsaid = ("name", "parent", "provenance", "segments")
    same = all(made.get(key) == value for key, value in record.items() if key not in unsaid)
    parent = made.get("parent")
    renamed = parent is not None and noted.get("parent") == record["parent"] and parent not in workspace.edits()
    return None if same and (parent == record["parent"] or renamed) else "Made with other settings."


def _last_versions_identity(reconstruction: dict) -> dict:
    """By what the last version knew a reconstruction again."""
    return {key: reconstruction[key] for key in ("capture", "seed", "total_steps")}
