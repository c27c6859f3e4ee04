"""Checkpoints: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import json
import reprlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...scene.errors import In2nError
from ...scene.region import Region
from ...workspace.files import atomic_path, read_json, write_json
from ...workspace.hashes import hash_of_bytes
from .constants import FAR
from .rendering import NerfModel
from .settings import NerfSettings

MOST_UNSAVED = 25.0  # seconds of work that a kill may cost: 30 with what comes between the clock and the disk
WORK_FOR_A_SAVE = 4  # times as long as a save takes is worked before the next one
FORGETTING = 0.9  # of how long a piece of work took, with every shorter one after it


def save_checkpoint(folder: Path, tensors: dict[str, torch.Tensor], state: dict) -> None:
    """Write checkpoint.safetensors, which holds the state that belongs to it, and a readable copy in state.json.

    Args:
        folder: Where; made if it is not there.
        tensors: By name, on the CPU.
        state: JSON.

    Raises:
        In2nError: "diverged" where a tensor or number is not finite; what was saved before is as it was. "disk_full",
            "cannot_write".
    """
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values() if tensor.is_floating_point()):
        raise diverged()
    try:
        text = json.dumps(state, allow_nan=False)
    except ValueError:
        raise diverged() from None
    with atomic_path(folder / "checkpoint.safetensors", alone=True) as temporary:
        save_file(tensors, temporary, metadata={"state": text})
    write_json(folder / "state.json", state)


def settle_state(folder: Path, state: dict) -> None:
    """After a kill between the two files of a save, let state.json say what the checkpoint says.

    Args:
        folder: Where both are.
        state: The checkpoint's.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    try:
        noted = read_json(folder / "state.json")
    except In2nError:
        noted = None
    if noted != state:
        write_json(folder / "state.json", state)


def diverged() -> In2nError:
    """What training says when its numbers have become infinite or no numbers at all."""
    return In2nError(
        "diverged",
        "Training diverged: its numbers are no longer finite.",
        "What was saved before is kept. Check the photos and cameras, or use another seed or preset, and start anew.",
    )


def weights_hash(tensors: dict[str, torch.Tensor]) -> str:
    """The content hash of what a scene is rendered from and built upon.

    Args:
        tensors: A checkpoint's, on the CPU. Those of the model ("model.*"), of what it is limited to and stands on
            ("region.*", "ground.*") and an edit's photos ("dataset") count.

    Returns:
        As `hash_of_bytes` gives it, of names, types, shapes and values.
    """
    chosen = {name: value.contiguous() for name, value in scene_tensors(tensors).items()}
    chosen |= {name: tensors[name].contiguous() for name in ("dataset", "dataset.views") if name in tensors}
    blocks = []
    for name, value in sorted(chosen.items()):
        blocks.append(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        blocks.append(value.reshape(-1).view(torch.uint8).numpy() if value.numel() else b"")
    return hash_of_bytes(blocks)


def read_checkpoint(folder: Path) -> tuple[dict[str, torch.Tensor], dict] | None:
    """The last checkpoint in a folder, checked.

    Its state is complete, the model's tensors fit its settings, and all numbers are finite. A damaged file costs
    neither time nor memory.

    Args:
        folder: Where `save_checkpoint` wrote it.

    Returns:
        (tensors, state), None where there is none. The tensors own their memory.

    Raises:
        In2nError: "bad_checkpoint" for a file that is no checkpoint or whose content does not fit together,
            "cannot_read" where the system does not let it be read.
    """
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            state = _state_of(file.metadata())
            _check_scene(file, NerfSettings.from_json(state.get("settings")))
            # Cloned: what safetensors returns lies in a memory map, over which Windows replaces no file.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
        for name, values in tensors.items():
            if values.is_floating_point() and not values.isfinite().all():
                raise ValueError(f"{reprlib.repr(name)} holds numbers that are not finite")
        _check_regions(tensors)
    except OSError as error:
        raise In2nError(
            "cannot_read", f"{path} cannot be read ({error.strerror or error}).", "Check that you may read the file."
        ) from None
    except (SafetensorError, TypeError, ValueError, RuntimeError) as error:
        raise bad_checkpoint(f"{path} cannot be read ({error}).") from None
    return tensors, state


def bad_checkpoint(message: str) -> In2nError:
    """The error of a checkpoint that is damaged or belongs to something else.

    Args:
        message: What is wrong, in a sentence.

    Returns:
        In2nError "bad_checkpoint", to be raised.
    """
    return In2nError("bad_checkpoint", message, "Run this step again with a restart.")


def _state_of(metadata: dict[str, str] | None) -> dict:
    """The state in a file's metadata. Raises ValueError for one that no model and no training can be made from."""
    try:
        state = json.loads((metadata or {}).get("state", "null"))
    except RecursionError:
        raise ValueError("its state is nested too deeply") from None
    if not isinstance(state, dict):
        raise ValueError("it holds no state")
    wanted = _STATE | _EDIT_STATE if "instruction" in state else _STATE
    for name in ("retreats", "rays"):
        if not _is_count(state.get(name, 1)):
            raise ValueError(f"“{name}” is {reprlib.repr(state[name])}, not a whole number from 0 upwards")
    for names, (is_right, expected) in wanted.items():
        for name in names:
            if not is_right(state.get(name)):
                raise ValueError(f"“{name}” is {reprlib.repr(state.get(name))}, not {expected}")
    return state


def _is_number(value: object) -> bool:
    """Whether it is a number whose square a float holds; not NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e150


def _is_amount(value: object) -> bool:
    return _is_number(value) and value >= 0


def _is_count(value: object) -> bool:
    return isinstance(value, int) and _is_amount(value) and value < 2**53


def _is_transform(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("center"), list):
        return False
    center, scale = value["center"], value.get("scale")
    return len(center) == 3 and all(map(_is_number, center)) and _is_number(scale) and scale > 0


_STATE = {
    ("done", "has_alpha"): (lambda value: isinstance(value, bool), "true or false"),
    ("step", "total_steps"): (_is_count, "a whole number from 0 upwards"),
    ("seconds",): (_is_amount, "a number from 0 upwards"),
    ("near",): (lambda value: _is_number(value) and 0 < value < FAR, "a distance along a ray"),
    ("transform",): (_is_transform, "a center and a scale"),
}
_EDIT_STATE = {
    ("edits_done",): (_is_count, "a whole number from 0 upwards"),
    ("cpu_seconds", "unet_evaluations", "peak_memory_mb"): (_is_amount, "a number from 0 upwards"),
}


def _check_scene(file, settings: NerfSettings) -> None:
    """Raise ValueError unless the tensors of the model, and of all that it stands on, have the names, shapes and type
    that these settings give them.

    Before anything of their size is in memory.
    """
    with torch.device("meta"):
        model = {f"model.{name}": list(value.shape) for name, value in NerfModel(settings).state_dict().items()}
    names, expected, prefix = {name for name in file.keys() if name.startswith(SCENE)}, dict(model), ""
    while any(name.startswith(f"{prefix}region.") for name in names):
        expected |= {f"{prefix}{name}": None for name in REGION}
        prefix += "ground."
        expected |= {f"{prefix}{name}": shape for name, shape in model.items()}
    if names != expected.keys():
        raise ValueError(f"{reprlib.repr(min(names ^ expected.keys()))} is missing or unknown")
    for name, shape in expected.items():
        stored = file.get_slice(name)
        if shape is not None and (stored.get_shape() != shape or stored.get_dtype() != "F32"):
            raise ValueError(f"“{name}” is {stored.get_dtype()} {stored.get_shape()}, not F32 {shape}")


def _check_regions(tensors: dict[str, torch.Tensor]) -> None:
    """Raise ValueError for a region that is none."""
    while "region.vertices" in tensors:
        try:
            region_of(tensors)
        except In2nError as error:
            raise ValueError(error.message) from None
        tensors = ground_of(tensors)


SCENE = ("model.", "region.", "ground.")  # how the names of tensors begin that a scene is rendered from
REGION = ("region.vertices", "region.faces", "region.soft_edge")


def scene_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a scene is rendered from.

    Args:
        tensors: A checkpoint's, by name.

    Returns:
        Those of the model ("model.*"), and of an edit that was limited to a region also that ("region.*") and the scene
        that it stands on ("ground.*", the same again).
    """
    return {name: value for name, value in tensors.items() if name.startswith(SCENE)}


def limited_to(region: Region, ground: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a checkpoint holds of an edit that is limited to a region, beside its own model.

    It is enough to render the edit whatever becomes of what it was made from.

    Args:
        region: In capture coordinates.
        ground: The checkpoint's tensors of the scene that shows outside of the region.

    Returns:
        By name, on the CPU.
    """
    arrays = region.vertices, region.faces, np.array(region.soft_edge)
    return {
        **{name: torch.from_numpy(array.copy()) for name, array in zip(REGION, arrays)},
        **{f"ground.{name}": value for name, value in scene_tensors(ground).items()},
    }


def region_of(tensors: dict[str, torch.Tensor]) -> Region | None:
    """What a checkpoint's edit is limited to.

    Args:
        tensors: The checkpoint's.

    Returns:
        In capture coordinates; None where it is not.

    Raises:
        In2nError: "bad_region".
    """
    if "region.vertices" not in tensors:
        return None
    vertices, faces, soft_edge = (tensors[name].numpy() for name in REGION)
    return Region.of(vertices, faces, soft_edge.item() if soft_edge.size == 1 else None)


def ground_of(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of the scene that shows outside of a checkpoint's region.

    Args:
        tensors: The checkpoint's.

    Returns:
        Under the names that they had in their own checkpoint.
    """
    return {name.removeprefix("ground."): value for name, value in tensors.items() if name.startswith("ground.")}


def model_weights(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The model's part of a checkpoint's tensors.

    Args:
        tensors: A checkpoint's, by name.

    Returns:
        Those named "model.*", under the names that the model gives them.
    """
    return {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}


class Saver:
    """Saves a job's work every so often, and once more when the job ends before its time.

    Used around the loop, with the save after the last step left to the job itself, which knows what is then different:

        with Saver(save) as saver:
            while trainer.step_count < trainer.total_steps:
                trainer.step()
                saver.maybe()
        save_as_done()

    Whatever exception leaves the block, Cancelled and KeyboardInterrupt among them, `save` is called first and the
    exception goes on. If that save fails, its error is added to the first one as a note. A `save` that must not
    overwrite a good checkpoint, such as after training has diverged, raises.

    Args:
        save: Called without arguments.
        seconds: The most work, in seconds, that may be unsaved; it is only more where a single piece of work between
            two calls of `maybe` takes longer, or where saving itself takes a fifth of the time.
    """

    def __init__(self, save: Callable[[], object], seconds: float = MOST_UNSAVED):
        self._save, self._seconds, self._last = save, seconds, time.monotonic()
        self._asked, self._piece, self._cost = self._last, 0.0, 0.0

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind, error: BaseException | None, traceback) -> None:
        if error is None:
            return
        try:
            self.now()
        except Exception as failure:
            error.add_note(f"Saving failed, too: {type(failure).__name__}: {failure}")

    def maybe(self) -> None:
        """Save if one more piece of work as long as the last ones would leave too much unsaved."""
        now = time.monotonic()
        self._piece = max(now - self._asked, FORGETTING * self._piece)
        self._asked = now
        if now + self._piece - self._last > max(self._seconds, WORK_FOR_A_SAVE * self._cost):
            self.now()

    def now(self) -> None:
        """Save."""
        began = time.monotonic()
        self._save()
        self._last = self._asked = time.monotonic()
        self._cost = self._last - began
