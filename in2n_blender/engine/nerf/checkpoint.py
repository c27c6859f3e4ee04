"""Checkpoints: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...scene.errors import In2nError
from ...workspace.files import atomic_path, write_json
from ...workspace.provenance import hash_of_bytes


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
    with atomic_path(folder / "checkpoint.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"state": text})
    write_json(folder / "state.json", state)


def diverged() -> In2nError:
    """What training says when its numbers have become infinite or no numbers at all."""
    return In2nError(
        "diverged",
        "Training diverged: its numbers are no longer finite.",
        "What was saved before is kept. Check the photos and cameras, or use another seed or preset, and start anew.",
    )


def weights_hash(tensors: dict[str, torch.Tensor]) -> str:
    """The content hash of what a scene is rendered from and built upon: the model's weights and an edit's photos."""
    chosen = {name: value.contiguous() for name, value in tensors.items() if name.startswith("model.")}
    if "dataset" in tensors:
        chosen["dataset"] = tensors["dataset"].contiguous()
    blocks = []
    for name, value in sorted(chosen.items()):
        blocks.append(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        blocks.append(value.reshape(-1).view(torch.uint8).numpy() if value.numel() else b"")
    return hash_of_bytes(blocks)


def read_checkpoint(folder: Path) -> tuple[dict[str, torch.Tensor], dict] | None:
    """(tensors, state) of the last checkpoint in a folder, None where there is none. Raises
    In2nError("bad_checkpoint")."""
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            # Cloned: what safetensors returns lies in a memory map, over which Windows replaces no file.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
            return tensors, json.loads(file.metadata()["state"])
    except (SafetensorError, TypeError, KeyError, json.JSONDecodeError) as error:
        raise In2nError(
            "bad_checkpoint", f"{path} cannot be read ({error}).", "Run this step again with a restart."
        ) from None


def model_weights(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The model's part of a checkpoint's tensors, under the names that the model gives them."""
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
        seconds: The time between two saves by `maybe`.
    """

    def __init__(self, save: Callable[[], object], seconds: float = 60):
        self._save, self._seconds, self._last = save, seconds, time.monotonic()

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
        """Save if the last save is long enough ago."""
        if time.monotonic() - self._last > self._seconds:
            self.now()

    def now(self) -> None:
        """Save."""
        self._save()
        self._last = time.monotonic()
