"""The 2D editor on the workers of a crew: each loads the model by its name, and edits whole batches.

A batch goes there as arrays (what is edited, the original photos, the noise levels, the state of each image's source of
noise) and comes back as one. What it gives depends on nothing else, so that it does not matter who makes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ...link.requests import Edit
from ...models import catalogue
from ...scene.reporting import Reporter
from ...workspace.hashes import model_revision
from ..crew import Crew, Role
from ..device import free_memory, is_out_of_memory, pick_device
from ..diffusion.editor import Editor, OriginalLatent, join_originals
from ..diffusion.loading import load_editor

FACTS, EDIT = "facts", "edit"  # what a worker is asked for
OF_THE_MODEL = ("id", "guidance_text", "guidance_image", "steps")  # what a folder says of it, where it is one


def editing_role(request: Edit) -> Role:
    """What the workers of an edit are.

    Args:
        request: Names the model, what it is told and the device.
    """
    names = ("editor", "instruction", "negative_prompt", "device", "memory_plan")
    return Role(
        ".editing.crewed:EditingRole", {name: getattr(request, name) for name in names}, request.device != "cpu"
    )


class EditingRole:
    """A worker that edits pictures.

    Args:
        editor: The model's name, as for `load_editor`.
        instruction: What the model is told.
        negative_prompt: What it is told instead where it is asked without the instruction.
        device: As for `pick_device`.
        memory_plan: As for `load_editor`.

    Raises:
        In2nError: As `load_editor` and `Editor.prepare`.
    """

    def __init__(self, editor: str, instruction: str, negative_prompt: str, device: str, memory_plan: str):
        self.editor = load_editor(editor, pick_device(device), None, memory_plan)
        self.editor.prepare(instruction, negative_prompt)
        self._originals: dict[bytes, OriginalLatent] = {}  # a view is edited several times, and encoded once

    def do(self, piece: dict, report: Reporter) -> dict:
        """Edit a batch, or tell of the model.

        Args:
            piece: As `CrewedEditor` makes it.
            report: Asked whether the job was cancelled.

        Returns:
            What `CrewedEditor` reads.

        Raises:
            Cancelled.
        """
        if piece["asked"] == FACTS:
            return self._facts(piece)
        before = self.editor.unet_evaluations
        pictures = self._edited(piece, range(len(piece["photos"])), report)
        return {"pictures": packed(pictures), "evaluations": self.editor.unet_evaluations - before}

    def _facts(self, piece: dict) -> dict:
        folder = getattr(self.editor, "folder", None)
        return {
            "model": {name: getattr(self.editor.model, name) for name in OF_THE_MODEL},
            "revision": model_revision(folder) if folder else self.editor.name,
            "at_once": self.editor.views_at_once(tuple(piece["size"])) if piece["size"] else 1,
        }

    def _edited(self, piece: dict, numbers: Sequence[int], report: Reporter) -> torch.Tensor:
        """Where memory does not suffice for all at once, one half after the other."""
        renders = unpacked(piece["renders"])
        try:
            return self.editor.edit(
                renders if len(numbers) == len(renders) else renders[list(numbers)],
                join_originals([self._original(piece["photos"][number]) for number in numbers]),
                noise_level=[piece["levels"][number] for number in numbers],
                generators=[_generator(piece["noise"][number]) for number in numbers],
                report=report,
                **piece["settings"],
            )
        except Exception as error:
            if len(numbers) == 1 or not is_out_of_memory(error):
                raise
        free_memory("cuda" if torch.cuda.is_available() else "cpu")
        middle = len(numbers) // 2
        halves = [self._edited(piece, half, report) for half in (numbers[:middle], numbers[middle:])]
        return torch.cat(halves)

    def _original(self, photo: np.ndarray) -> OriginalLatent:
        mark = hashlib.blake2b(np.ascontiguousarray(photo), digest_size=16).digest() + bytes(str(photo.shape), "ascii")
        if mark not in self._originals:
            image = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None]
            self._originals[mark] = self.editor.encode_original(image).to("cpu")
        return self._originals[mark]


class CrewedEditor(Editor):
    """What an edit has in place of a model of its own, which it does not load.

    Args:
        crew: Of `editing_role`.
        name: The model's, as the user chose it.
        report: Asked whether the job was cancelled.

    Attributes:
        revision: Of the model's weights, as the workers have them.

    Raises:
        In2nError: "unknown_editor", and what the workers raise.
        Cancelled.
    """

    def __init__(self, crew: Crew, name: str, report: Reporter):
        self._crew, self._report = crew, report
        facts = self._facts(None)
        self.model, self.revision = replace(catalogue.find(name), **facts["model"]), facts["revision"]

    def _facts(self, size: tuple[int, int] | None) -> dict:
        return self._crew.do_all([{"asked": FACTS, "size": size}], self._report)[0]

    def views_at_once(self, size: tuple[int, int]) -> int:
        return self._facts(tuple(int(side) for side in size))["at_once"]

    def prepare(self, instruction: str, negative_prompt: str = "") -> None:
        """The workers have prepared theirs when they are asked for the first time.

        Args:
            instruction: That of the crew's role.
            negative_prompt: Likewise.

        Raises:
            In2nError: "empty_instruction", "unknown_instruction".
        """
        self.model.check_instruction(instruction)

    def encode_original(self, image: torch.Tensor) -> OriginalLatent:
        """The photo itself, which a worker encodes.

        Args:
            image: (batch, 3, height, width) sRGB in [0, 1].

        Returns:
            With the photo in the latent's place, in main memory.
        """
        return OriginalLatent(image.cpu(), tuple(image.shape[-2:]))

    def edit(self, render, original, *, noise_level, generators, report=None, **settings) -> torch.Tensor:
        call = {"render": render, "original": original, "noise_level": noise_level, "generators": generators}
        return self.edit_all([{**call, **settings}], report or self._report)[0]

    def edit_all(
        self, calls: Sequence[dict], report: Reporter, done: Callable[[int, int], None] = lambda done, total: None
    ) -> list[torch.Tensor]:
        """Several batches, by as many workers as there are.

        Args:
            calls: What `edit` takes, each.
            report: Asked whether the job was cancelled, and told of workers.
            done: Called with how many batches are made, and of how many.

        Returns:
            What `edit` returns, on the CPU, for each.

        Raises:
            In2nError: What the workers raise, "worker_died".
            Cancelled.
        """
        made = []
        results = self._crew.do_all(
            [_piece(**call) for call in calls],
            report,
            ended=lambda number, result: (made.append(number), done(len(made), len(calls))),
        )
        self.unet_evaluations += sum(result["evaluations"] for result in results)
        return [unpacked(result["pictures"]) for result in results]

    def distillation_loss(self, render, original, **settings) -> torch.Tensor:
        """No gradient travels from a worker.

        Raises:
            NotImplementedError: Always; methods that need it are measured in one process.
        """
        raise NotImplementedError("Score distillation needs the model in this process.")


def _piece(render, original, noise_level, generators, **settings) -> dict:
    photos = original.latent if isinstance(original, OriginalLatent) else original
    levels = [noise_level] * len(render) if isinstance(noise_level, float) else list(noise_level)
    return {
        "asked": EDIT,
        "renders": packed(render),
        "photos": photos.float().cpu().permute(0, 2, 3, 1).contiguous().numpy(),
        "levels": levels,
        "noise": [generator.get_state().numpy() for generator in generators],
        "settings": settings,
    }


def packed(pictures: torch.Tensor) -> dict:
    """Pictures as an array, in the order in which they lie in memory: on it a network's last bits depend.

    Args:
        pictures: (batch, 3, height, width).

    Returns:
        For `unpacked`.
    """
    pictures = pictures.detach().float().cpu()
    last = not pictures.is_contiguous() and pictures.is_contiguous(memory_format=torch.channels_last)
    array = (pictures.permute(0, 2, 3, 1) if last else pictures.contiguous()).numpy()
    return {"array": array, "channels_last": last}


def unpacked(found: dict) -> torch.Tensor:
    """The inverse of `packed`.

    Args:
        found: What it returned.

    Returns:
        (batch, 3, height, width) float32, on the CPU.
    """
    pictures = torch.from_numpy(np.array(found["array"], order="C"))
    return pictures.permute(0, 3, 1, 2) if found["channels_last"] else pictures


def _generator(state: np.ndarray) -> torch.Generator:
    generator = torch.Generator("cpu")
    generator.set_state(torch.from_numpy(state.copy()))
    return generator
