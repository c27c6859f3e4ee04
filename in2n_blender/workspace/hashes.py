"""Content hashes of what results are made from. Standard library only."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

SMALL_MODEL = 256 * 2**20  # bytes; of a larger one's files the beginning, middle and end are read
BLOCK = 2**20


def hash_of(data: object) -> str:
    """The BLAKE2b hash of JSON, 40 hexadecimal digits.

    Args:
        data: What JSON can hold; the order of an object's keys does not count.
    """
    return hash_of_bytes([json.dumps(data, sort_keys=True).encode()])


def hash_of_bytes(blocks: Iterable) -> str:
    """The BLAKE2b hash of bytes, 40 hexadecimal digits.

    Args:
        blocks: The bytes in order, cut anywhere.
    """
    digest = hashlib.blake2b(digest_size=20)
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """The BLAKE2b hash of a file's content, 40 hexadecimal digits.

    Args:
        path: The file.

    Raises:
        OSError: When it cannot be read.
    """
    with open(path, "rb") as file:
        return hash_of_bytes(iter(lambda: file.read(BLOCK), b""))


def checkpoint_state(folder: Path) -> dict | None:
    """The state that lies in a checkpoint beside its tensors, without reading these.

    Args:
        folder: Where checkpoint.safetensors lies.

    Returns:
        The state, or None where there is none that can be read.
    """
    try:
        with open(folder / "checkpoint.safetensors", "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > 100 * BLOCK:  # what safetensors itself allows
                return None
            state = json.loads(json.loads(file.read(length))["__metadata__"]["state"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return state if isinstance(state, dict) else None


def scene_hash(folder: Path) -> str | None:
    """The content hash of a checkpoint's weights; of the whole file where its state does not tell it.

    Args:
        folder: Where checkpoint.safetensors lies.

    Returns:
        40 hexadecimal digits, or None without a file.

    Raises:
        OSError: When the file cannot be read.
    """
    state = checkpoint_state(folder)
    if state and isinstance(state.get("weights"), str):
        return state["weights"]
    file = folder / "checkpoint.safetensors"
    return file_hash(file) if file.is_file() else None


def model_revision(folder: Path) -> str:
    """Tells a 2D model's weights from any others.

    Args:
        folder: In the diffusers layout. One of the Hugging Face cache is named after its revision.

    Returns:
        The hub's revision, else a hash of the files' names, sizes and contents, of a large model's a part of these.
    """
    folder = Path(folder)
    if folder.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", folder.name):
        return folder.name
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix in (".json", ".safetensors"))
    sizes = [file.stat().st_size for file in files]
    whole = sum(sizes) <= SMALL_MODEL
    digest = hashlib.blake2b(digest_size=20)
    for file, size in zip(files, sizes):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{size}\0".encode())
        with open(file, "rb") as stream:
            for start in range(0, size, BLOCK) if whole else (0, max(0, size // 2), max(0, size - BLOCK)):
                stream.seek(start)
                digest.update(stream.read(BLOCK))
    return digest.hexdigest()
