"""What `gpu` measures of the 2D models: full-size networks with random weights, which need no download."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2Transformer2DModel,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, Qwen3Config

from in2n_blender.engine.diffusion.editor import join_originals, noise_generator
from in2n_blender.engine.diffusion.flux2_klein import Flux2Klein
from in2n_blender.engine.diffusion.instruct_pix2pix import InstructPix2Pix
from in2n_blender.engine.diffusion.network_editor import NetworkEditor
from in2n_blender.engine.diffusion.placement import plan_for
from in2n_blender.engine.nerf.training import Trainer
from in2n_blender.models import catalogue, families, memory
from in2n_blender.models.model import Model
from in2n_blender.scene.errors import Cancelled
from in2n_blender.scene.reporting import Reporter
from tests.benchmarks.gpu_parts import DEMO, INSTRUCTION, Measuring, free, seconds_of, synchronised
from tests.benchmarks.gpu_scene import imported, peak_mb, presets
from tests.engine.small_editor import small_editor_folder, small_tokenizer
from tests.engine.small_models import small_klein_folder, small_qwen_tokenizer
from tests.engine.test_catalogue_sizes import KLEIN, QWEN3_4B

# The checkpoints' own configurations, where they are not the classes' defaults.
BLOCKS = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}


class OfRandomWeights:
    """In the place of a folder's weights, random ones of its configurations, made on the device."""

    def _network(self, part: str, network_class: type) -> torch.nn.Module:
        with _made_on(self.device, self.dtype):
            network = network_class.from_config(json.loads((self.folder / part / "config.json").read_text()))
        network = network.to(self.placement.first).eval().requires_grad_(False)
        put = self.placement.put_autoencoder if part == "vae" else self.placement.put
        self._ask_in(network)
        return put(network)

    def _text_encoder(self, part: str, encoder_class: type) -> torch.nn.Module:
        with _made_on(self.device, self.dtype):
            encoder = encoder_class(encoder_class.config_class.from_pretrained(self.folder / part))
        encoder = encoder.to(self.placement.first).eval().requires_grad_(False)
        self._ask_in(encoder)
        self._encoders.append(self.placement.put(encoder))
        return encoder


@contextmanager
def _made_on(device: torch.device, dtype: torch.dtype):
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def full_pix2pix(folder: Path) -> Path:
    """The configurations of timbrooks/instruct-pix2pix, and a small tokenizer.

    Args:
        folder: made.

    Returns:
        The folder.
    """
    with torch.device("meta"):
        UNet2DConditionModel(sample_size=64, in_channels=8, out_channels=4, cross_attention_dim=768).save_config(
            folder / "unet"
        )
        AutoencoderKL(**BLOCKS, latent_channels=4, scaling_factor=0.18215).save_config(folder / "vae")
    CLIPTextConfig(**CLIP_L, vocab_size=49408, max_position_embeddings=77).save_pretrained(folder / "text_encoder")
    DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    ).save_pretrained(folder / "scheduler")
    small_tokenizer().save_pretrained(folder / "tokenizer")
    return folder


def full_klein(folder: Path) -> Path:
    """The configurations of black-forest-labs/FLUX.2-klein-4B, and a small tokenizer.

    Args:
        folder: made.

    Returns:
        The folder.
    """
    with torch.device("meta"):
        Flux2Transformer2DModel(**KLEIN, guidance_embeds=False).save_config(folder / "transformer")
        AutoencoderKLFlux2().save_config(folder / "vae")
    Qwen3Config(**QWEN3_4B).save_pretrained(folder / "text_encoder")
    FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True).save_pretrained(folder / "scheduler")
    small_qwen_tokenizer().save_pretrained(folder / "tokenizer")
    return folder


def pix2pix(m: Measuring) -> None:
    """A full-size InstructPix2Pix: an edit of 512 x 512, beside the standard reconstruction of the bundled capture.

    Args:
        m: notes seconds, milliseconds an evaluation, memory, and whether pictures are finite, batched and cancelled.
    """
    make = small_editor_folder if m.tiny else full_pix2pix
    folder = make(m.work / "pix2pix")
    model = catalogue.find(str(folder)) if m.tiny else catalogue.INSTRUCT_PIX2PIX
    editor = _editor(m, InstructPix2Pix, model, folder, plan_for(model, m.device))
    size = (32, 48) if m.tiny else (512, 512)
    _edits(m, editor, size, "")
    m.attempt("batch_against_single", _batch_against_single, m, editor, size)
    if not m.tiny:
        m.attempt("views_at_once", editor.views_at_once, size)
        m.attempt("batch_of_4_ms_a_view", _batch_ms, m, editor, size)
        m.attempt("half_against_single", _half_against_single, m, editor, model, folder)
    m.attempt("cancelled_s", _cancel, m, editor, size)
    m.attempt("beside_a_reconstruction_mb", _beside_a_reconstruction, m, editor, size)


def klein(m: Measuring) -> None:
    """A full-size FLUX.2 klein: edits of 512 x 512 and of a megapixel, whole and offloaded.

    Args:
        m: notes seconds, milliseconds an evaluation and memory.
    """
    folder = (small_klein_folder if m.tiny else full_klein)(m.work / "klein")
    model = catalogue.find(str(folder)) if m.tiny else catalogue.KLEIN
    plan = plan_for(model, m.device)
    editor = _editor(m, Flux2Klein, model, folder, plan)
    for size in [(32, 48)] if m.tiny else [(512, 512), (1024, 1024)]:
        _edits(m, editor, size, f"_{size[0]}")
    m.attempt("cancelled_s", _cancel, m, editor, (32, 48) if m.tiny else (1024, 1024))
    del editor
    free(m.device)
    offloaded = next(plan for plan in memory.PLANS if plan.offload)
    if m.device.type == "cuda" and m.left > 25:
        m.attempt("offloaded", _offloaded, m, model, folder, offloaded)


def _editor(m: Measuring, kind: type, model: Model, folder: Path, plan) -> NetworkEditor:
    """An editor with random weights, prepared; how long that took, and its memory, is noted."""
    made = type(f"{kind.__name__}OfRandomWeights", (OfRandomWeights, kind), {})
    began = time.perf_counter()
    peak_mb(m.device)
    editor = made(model, folder, m.device, plan, lambda text: m.note(said=[*m.found.get("said", []), text]))
    m.note(
        plan=memory.in_words(model, plan),
        needed_mb=memory.needed_mb(model, plan),
        made_s=round(synchronised(m.device) - began, 1),
        dtype=str(editor.dtype),
        family=families.INSTRUCT_PIX2PIX.label if kind is InstructPix2Pix else families.FLUX2_KLEIN.label,
    )
    began = time.perf_counter()
    editor.prepare(INSTRUCTION)
    m.note(text_s=round(synchronised(m.device) - began, 2), loading_mb=peak_mb(m.device))
    free(m.device)
    if m.tiny:
        editor.working_side = 32
    return editor


def pictures(count: int, size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """(count, 3, *size) smooth colours in [0, 1].

    Args:
        count: how many.
        size: (height, width).
        seed: of the colours.
    """
    coarse = torch.rand(count, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)


def _edit(editor: NetworkEditor, size, count: int = 1, steps: int | None = None, report=None) -> torch.Tensor:
    originals = join_originals([editor.encode_original(photo[None]) for photo in pictures(count, size, 1)])
    generators = [noise_generator(0, view, 0) for view in range(count)]
    return editor.edit(
        pictures(count, size), originals, noise_level=0.9, generators=generators, steps=steps, report=report
    )


def _edits(m: Measuring, editor: NetworkEditor, size: tuple[int, int], name: str) -> None:
    """Seconds of an edit and of its parts at one size, its memory, and whether what comes out are numbers."""
    steps = 1 if m.tiny else None
    _edit(editor, size, steps=1)
    peak_mb(m.device)
    began = synchronised(m.device)
    edited = _edit(editor, size, steps=steps)
    seconds = synchronised(m.device) - began
    finite = bool(torch.isfinite(edited).all())
    m.note(**{f"edit{name}_s": round(seconds, 3), f"edit{name}_mb": peak_mb(m.device), f"finite{name}": finite})
    original = editor.encode_original(pictures(1, size, 1))
    times = 1 if m.tiny else 5
    m.note(
        **{
            f"encode{name}_ms": _ms(m, lambda: editor.encode_original(pictures(1, size)), times),
            f"evaluation{name}_ms": _evaluation_ms(m, editor, size, original, times),
        }
    )


def _ms(m: Measuring, work: Callable, times: int) -> float:
    work()
    return round(1000 * seconds_of(m.device, work, times), 2)


@torch.no_grad()
def _evaluation_ms(m: Measuring, editor: NetworkEditor, size, original, times: int) -> float:
    """One guided prediction, of all its branches."""
    guidance = (editor.guidance_text, editor.guidance_image)
    latent = editor._sample_latent(pictures(1, size), [noise_generator(0, 0, 0)])
    editor._set_schedule(latent.shape, 4)
    condition = editor._condition(original, guidance)
    now = torch.from_numpy(editor.schedule.timesteps(0.8, 2))[:1]
    return _ms(m, lambda: editor._guided(latent, now, condition, guidance), times)


def _batch_against_single(m: Measuring, editor: NetworkEditor, size) -> float:
    """The mean difference of two edits made together from the same made one by one, of colours from 0 to 1."""
    together = _edit(editor, size, 2, steps=2)
    alone = editor.edit(
        pictures(2, size)[:1],
        editor.encode_original(pictures(2, size, 1)[:1]),
        noise_level=0.9,
        generators=[noise_generator(0, 0, 0)],
        steps=2,
    )
    return round(float((together[:1] - alone).abs().mean()), 6)


def _batch_ms(m: Measuring, editor: NetworkEditor, size) -> float:
    _edit(editor, size, 4, steps=2)
    return round(1000 * seconds_of(m.device, lambda: _edit(editor, size, 4)) / 4, 1)


def _half_against_single(m: Measuring, editor: NetworkEditor, model: Model, folder: Path) -> float:
    """The mean difference of an edit in half precision from the same in single, the weights alike."""
    half = _edit(editor, (256, 256), steps=4)
    single = type("Single", (type(editor),), {"_dtype": lambda self: torch.float32})
    other = single(model, folder, m.device, memory.FULL)
    for part in ("unet", "vae"):
        getattr(other, part).load_state_dict(getattr(editor, part).state_dict())
    other._text = tuple(words.float() for words in editor._text)
    return round(float((half - _edit(other, (256, 256), steps=4)).abs().mean()), 5)


def _cancel(m: Measuring, editor: NetworkEditor, size) -> float:
    """Seconds from a cancel in the middle of an evaluation to its end."""
    asked: list[float] = []
    evaluated = editor.unet_evaluations

    def cancelled() -> bool:
        if editor.unet_evaluations > evaluated and not asked:
            asked.append(time.perf_counter())
        return bool(asked)

    try:
        _edit(editor, size, steps=4, report=Reporter(cancelled=cancelled))
    except Cancelled:
        return round(synchronised(m.device) - asked[0], 3)
    raise RuntimeError("it was not cancelled")


def _beside_a_reconstruction(m: Measuring, editor: NetworkEditor, size) -> int | None:
    """Peak memory of an edit, of the networks, the scene, its optimiser and its photos, all of the standard preset."""
    from in2n_blender.engine.nerf.reconstruction import load_capture_and_images, start

    workspace = imported(m, DEMO, "draft" if m.tiny else "standard")
    capture, images = load_capture_and_images(workspace)
    settings = presets(m.device)["draft" if m.tiny else "standard"]
    trainer, scene, _ = start(capture, images, settings, 0, m.device, Reporter())
    trainer = Trainer(trainer.model, trainer.dataset, 0, 1000, loss="l1")
    if not m.tiny:
        trainer.step()
    peak_mb(m.device)
    _edit(editor, size, steps=1 if m.tiny else 2)
    if not m.tiny:
        trainer.step()
        scene.render(capture.training_views[0].camera)
    return peak_mb(m.device)


def _offloaded(m: Measuring, model: Model, folder: Path, plan) -> dict:
    made = type("Offloaded", (OfRandomWeights, Flux2Klein), {})
    editor = made(model, folder, m.device, plan)
    editor.prepare(INSTRUCTION)
    free(m.device)
    peak_mb(m.device)
    began = synchronised(m.device)
    _edit(editor, (1024, 1024))
    seconds = round(synchronised(m.device) - began, 2)
    return {"plan": memory.in_words(model, plan), "edit_s": seconds, "edit_mb": peak_mb(m.device)}
