"""What a 2D editing model is to the panel, the command line and the engine. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..scene.errors import In2nError
from .exact import is_exact
from .families import INSTRUCT_PIX2PIX, Family

FILLERS = ("a", "an", "the", "please", "just", "now")


@dataclass(frozen=True)
class Instruction:
    """An edit that a model was trained on.

    Attributes:
        name: what the edit is called, "snow".
        phrases: the wordings that mean it; the first is the canonical one.
        rendered: whether Blender renders its truth (snow, sunset); else a function of the picture is its truth.
    """

    name: str
    phrases: tuple[str, ...]
    rendered: bool = False

    @property
    def text(self) -> str:
        return self.phrases[0]


@dataclass(frozen=True)
class Sizes:
    """How large a model's networks are, in millions of weights, and what an edit needs beside them.

    Attributes:
        denoiser, text, vae: the denoising network, all text encoders together, the autoencoder.
        evaluation_mb: activations of one evaluation of one image at the model's size, in half precision.
        decoding_mb: activations of the autoencoder at that size, whole; in tiles it is TILE_MB at most.
    """

    denoiser: float
    text: float
    vae: float
    evaluation_mb: int
    decoding_mb: int


@dataclass(frozen=True)
class Model:
    """A 2D editing model.

    Attributes:
        id: what the engine and the command line call it: "miniature", a name on the Hugging Face hub, or a folder.
        label, description: what an interface calls it and says about it.
        folder: where its weights are; None: in the Hugging Face cache, once they are downloaded.
        guidance_text, guidance_image: its own guidance scales s_T and s_I (Brooks et al. 2023, equation 3); None: it
            has no such scale.
        steps: its own number of denoising steps.
        working_side: images are enlarged until their shorter side has so many pixels.
        most_pixels: larger images are reduced until they have so many; None: they are edited as they are.
        family: of which kind it is.
        half_precision: whether it runs in half precision on CUDA; float32 everywhere else.
        sizes: of its networks; None: not known.
        download_mb: what is fetched for it, once; 0: nothing.
        licence: of its weights, as an SPDX identifier or its own name; None: whatever its folder says.
        note: what has to be known before it is chosen, such as that it is not for commercial use.
        instructions: all that it knows; empty: it takes free text.
        examples: free text that it follows well.
    """

    id: str
    label: str
    description: str
    folder: Path | None
    guidance_text: float | None
    guidance_image: float | None
    steps: int
    working_side: int
    most_pixels: int | None = None
    family: Family = INSTRUCT_PIX2PIX
    half_precision: bool = True
    sizes: Sizes | None = None
    download_mb: int = 0
    licence: str | None = None
    note: str = ""
    instructions: tuple[Instruction, ...] = ()
    examples: tuple[str, ...] = ()

    def check_scales(self, text: float | None, image: float | None) -> None:
        """Refuse a guidance scale that the model has not.

        Args:
            text: s_T, None where none was chosen.
            image: s_I, likewise.

        Raises:
            In2nError: "no_such_scale".
        """
        for name, own, chosen in (("text", self.guidance_text, text), ("image", self.guidance_image, image)):
            if own is None and chosen is not None:
                raise In2nError(
                    "no_such_scale",
                    f"The model “{shortened(self.id)}” has no scale for {name} guidance.",
                    "Leave it out.",
                )

    @property
    def takes_negative_prompt(self) -> bool:
        """Whether it is evaluated without the instruction, too, so that another text can stand there."""
        free_text = not self.instructions and not is_exact(self.id)
        return free_text and self.guidance_text is not None and not self.family.is_told_guidance

    def check_negative_prompt(self, text: str, scale: float | None) -> None:
        """Refuse a negative prompt that would change nothing.

        Args:
            text: as the user typed it; empty: none.
            scale: s_T, None where none was chosen.

        Raises:
            In2nError: "no_negative_prompt".
        """
        if not text.strip():
            return
        if not self.takes_negative_prompt:
            raise In2nError(
                "no_negative_prompt",
                f"The model “{shortened(self.id)}” takes no negative prompt.",
                "Leave it out, or choose another model.",
            )
        scale = self.guidance_text if scale is None else scale
        if scale <= 1 and not self.family.has_image_scale:
            raise In2nError(
                "no_negative_prompt",
                f"At a text guidance of {scale:g} the model “{shortened(self.id)}” heeds no negative prompt.",
                "Choose a text guidance above 1, or leave the negative prompt out.",
            )

    @property
    def suggestions(self) -> tuple[str, ...]:
        """Instructions to choose from, each beginning with a capital letter."""
        known = [instruction.text for instruction in self.instructions] or self.examples
        return tuple(text[:1].upper() + text[1:] for text in known)

    def find_instruction(self, text: str) -> tuple[Instruction, str]:
        """The instruction that a text means, and the phrase of it that the text is.

        Case, punctuation, articles and fillers do not matter. The network reads the phrase, not the canonical one.

        Args:
            text: as the user typed it.

        Returns:
            The instruction, and the one of its phrases.

        Raises:
            In2nError: "unknown_instruction", which names the known ones and the model that takes all others.
        """
        for instruction in self.instructions:
            for phrase in instruction.phrases:
                if normalised(text) == normalised(phrase):
                    return instruction, phrase
        listed = ", ".join(f"“{instruction.text}”" for instruction in self.instructions)
        raise In2nError(
            "unknown_instruction",
            f"The model “{self.id}” does not know “{text.strip()}”; it knows {listed}.",
            "Choose one of these, or the model “timbrooks/instruct-pix2pix” (or a folder that holds it) for free text.",
        )

    def check_instruction(self, text: str) -> str:
        """What the network reads for an instruction: the phrase it was trained on, or the text itself.

        Args:
            text: as the user typed it.

        Returns:
            One of the model's phrases; without a fixed list the text, stripped.

        Raises:
            In2nError: "empty_instruction"; "unknown_instruction" where the model knows a fixed list of others.
        """
        if not text.strip():
            raise In2nError(
                "empty_instruction", "The instruction is empty.", "Say what to change, for example “make it night”."
            )
        return self.find_instruction(text)[1] if self.instructions else text.strip()


def unfit(model_id: str, reason: str) -> In2nError:
    """The error for a folder that is no usable model.

    Args:
        model_id: as the user chose it.
        reason: the end of the sentence "... cannot be used as a model:", without its full stop.

    Returns:
        In2nError "editor_unfit", to be raised.
    """
    return In2nError(
        "editor_unfit",
        f"“{shortened(model_id)}” cannot be used as a model: {reason}.",
        "Choose a folder in the diffusers layout with safetensors weights, of a kind that `models` lists.",
    )


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles, fillers and doubled spaces: what instructions are compared by.

    Args:
        text: in English; letters beyond a to z count as punctuation.

    Returns:
        Words with a space between them; may be empty.
    """
    words = re.sub(r"[^a-z0-9 ]+", " ", text.lower()).split()
    return " ".join(word for word in words if word not in FILLERS)


def shortened(text: str, length: int = 80) -> str:
    """A text for a sentence: in one line, cut off where it is long.

    Args:
        text: any.
        length: at most so many characters.

    Returns:
        With an ellipsis at the end where something was cut off.
    """
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"
