"""Checkpoints: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...scene.errors import In2nError
from ...workspace.files import atomic_path, write_json


def save_checkpoint(folder: Path, tensors: dict[str, torch.Tensor], state: dict) -> None:
    """checkpoint.safetensors, which holds the state that belongs to it, and a readable copy of the state in
    state.json."""
    with atomic_path(folder / "checkpoint.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"state": json.dumps(state)})
    write_json(folder / "state.json", state)


def read_checkpoint(folder: Path) -> tuple[dict[str, torch.Tensor], dict] | None:
    """(tensors, state) of the last checkpoint in a folder, None where there is none. Raises
    In2nError("bad_checkpoint")."""
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["state"])
    except (SafetensorError, TypeError, KeyError, json.JSONDecodeError) as error:
        raise In2nError(
            "bad_checkpoint", f"{path} cannot be read ({error}).", "Run this step again with a restart."
        ) from None


def model_weights(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The model's part of a checkpoint's tensors, under the names that the model gives them."""
    return {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}


class Saver:
    """Saves every `seconds`, and once more when a job is cancelled or fails, so that little is ever lost."""

    def __init__(self, save, seconds: float = 60):
        self._save, self._seconds, self._last = save, seconds, time.monotonic()

    def maybe(self) -> None:
        if time.monotonic() - self._last > self._seconds:
            self.now()

    def now(self) -> None:
        self._save()
        self._last = time.monotonic()
