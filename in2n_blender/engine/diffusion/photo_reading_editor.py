"""Flow matching with a text encoder that sees the photo: the instruction is encoded anew for every view."""

from __future__ import annotations

import hashlib
from abc import abstractmethod

import torch
from PIL import Image

from .editor import OriginalLatent
from .flow_editor import FlowEditor
from .reading import reading


class PhotoReadingEditor(FlowEditor):
    """An editor whose text encoder, a vision-language model, reads the instruction and the photo together.

    So it cannot be let go of after the instruction was read. What it made of a photo is kept in main memory for as long
    as the instruction stays: each is read once.
    """

    keeps_photos = True
    _reader = None

    @abstractmethod
    def _load_reader(self):
        """diffusers' pipeline of the family with what reads texts, and nothing else."""

    @abstractmethod
    def _read(self, text: str, photo: Image.Image) -> tuple[torch.Tensor | None, ...]:
        """What the transformer is given of a text beside a photo: tensors, (1, ...) each."""

    @property
    @abstractmethod
    def _empty(self) -> str:
        """The text that stands for none."""

    def _encode_text(self, phrase: str, negative_prompt: str) -> tuple[str, str]:
        self._ensure_reader()
        self._kept: dict[bytes, list[tuple]] = {}
        return phrase, negative_prompt or self._empty

    def _ensure_reader(self) -> None:
        if self._reader is None:
            self._reader = self._load_reader()
            self._encoders = []  # it stays where the plan put it

    def rest(self) -> bool:
        """Without what reads, which is as large as all the rest: the next job has other words."""
        if self._reader is not None:
            self.placement.forget([self._reader.text_encoder])
        self._reader, self._kept = None, {}
        return super().rest()

    def _drop_networks(self) -> None:
        super()._drop_networks()
        self._reader = None

    def _texts(self, original: OriginalLatent, scale: float | None) -> tuple:
        texts = self._text if self._unconditional(scale) else self._text[:1]
        of_photos = [self._of_photo(photo, texts) for photo in original.photo]
        return tuple(self._joined(branch) for branch in zip(*of_photos))

    def _of_photo(self, photo: torch.Tensor, texts: tuple[str, ...]) -> list[tuple]:
        """What was made of texts beside a photo (3, height, width)."""
        pixels = photo.permute(1, 2, 0).contiguous().numpy()
        found = self._kept.setdefault(hashlib.sha256(pixels.tobytes() + str(pixels.shape).encode()).digest(), [])
        for text in texts[len(found) :]:
            with reading("text_encoder", self._unfit):
                self._ensure_reader()
                read = self._read(text, Image.fromarray(pixels))
            found.append(tuple(None if tensor is None else tensor.cpu() for tensor in read))
        return found[: len(texts)]

    def _joined(self, texts: list[tuple]) -> tuple:
        """One batch of several photos' texts, on the device."""
        joined = (None if parts[0] is None else torch.cat(parts).to(self.device) for parts in zip(*texts))
        return tuple(joined)
