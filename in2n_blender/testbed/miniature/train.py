"""Train the miniature: `python3 -m in2n_blender train-miniature`. Renders its pairs, trains, evaluates, exports.

The run folder holds `checkpoint.safetensors` and `state.json` (written every few minutes, replaced whole), `log.jsonl`
and `weights/`, the diffusers folder of the averaged weights. Started again, it goes on from its checkpoint.
"""

import argparse
import json
import math
import os
import signal
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import CLIPTokenizer

from ...engine.device import pick_device
from ...engine.diffusion.miniature.autoencoder import measure_band_deviations
from ...models.catalogue import DESCRIPTION_FILE, MINIATURE
from ...scene.errors import In2nError
from . import pairs
from .evaluate import evaluate_to_folder, photo_sheet
from .instructions import INSTRUCTIONS
from .networks import Miniature, build_miniature, build_tokenizer

# The editor's defaults. The network predicts the edit itself, so it needs no guidance and few steps.
GUIDANCE_TEXT, GUIDANCE_IMAGE = 1.0, 1.0
DENOISING_STEPS = 2

PREPARING_THREADS = 6
# How far beyond the edit a drifted latent may lie, as a share of the way from the original to the edit.
OVERSHOOT = 0.6
LONGEST_STEP = 60.0


@dataclass
class TrainingConfig:
    """Hyper-parameters of a run; kept in its `state.json`.

    dropout: share of samples that lose their text, their image, and both, each (InstructPix2Pix: 5%).
    large_share: share of the steps at `large_size` (with fewer samples), so that it also sees whole pictures.
    drift: share of samples whose noisy latent is made from a drifted edit (`Trainer._drifted`).
    decay_from: progress in [0, 1] from which the learning rate falls to zero along a cosine.
    """

    steps: int = 20_000
    batch: int = 16
    size: int = 64
    large_size: int = 128
    large_share: float = 0.75
    learning_rate: float = 6e-4
    warmup: int = 200
    decay_from: float = 0.5
    gradient_norm: float = 1.0
    average: float = 0.998
    dropout: float = 0.05
    drift: float = 0.85
    bfloat16: bool = False
    seed: int = 0


@dataclass
class Progress:
    """How far a run is: steps and seconds over all its sessions."""

    step: int = 0
    seconds: float = 0.0


class BatchSource:
    """Training batches of both sizes, prepared on demand or, for a fast device, by threads ahead of it.

    A batch of the large size holds as many pixels as one of the small size.
    """

    def __init__(self, sampler: pairs.PairSampler, config: TrainingConfig, threads: int):
        self.config = config
        self._sampler = sampler
        self._pool = ThreadPoolExecutor(threads) if threads else None
        self._ahead = deque((each, self._pool.submit(self._draw, each)) for each in sampler.spawn(threads))

    def __enter__(self) -> "BatchSource":
        return self

    def __exit__(self, *_) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def next(self) -> pairs.Batch:
        if not self._ahead:
            return self._draw(self._sampler)
        sampler, future = self._ahead.popleft()
        batch = future.result()
        self._ahead.append((sampler, self._pool.submit(self._draw, sampler)))
        return batch

    def _draw(self, sampler: pairs.PairSampler) -> pairs.Batch:
        config = self.config
        size = config.large_size if sampler.random.random() < config.large_share else config.size
        return sampler.batch(max(1, config.batch * config.size**2 // size**2), size)


class Trainer:
    """The networks, their averages and their optimiser, with one training step."""

    def __init__(self, miniature: Miniature, config: TrainingConfig, device: torch.device):
        self.miniature, self.config, self.device = miniature.to(device), config, device
        self.miniature.unet.to(memory_format=torch.channels_last)
        self.parameters = dict(self._named_parameters())
        self.averages = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=1e-3,
            fused=device.type != "mps",
        )
        self.alphas = miniature.scheduler.alphas_cumprod.float().to(device)
        self.band_weights = miniature.vae.deviations.clamp(0.15, 3.0).to(device)
        self.band_weights = (self.band_weights / self.band_weights.mean())[:, None, None]
        self.progress = Progress()
        self.random = torch.Generator(device).manual_seed(config.seed)

    def _named_parameters(self):
        for part in ("unet", "text_encoder"):
            for name, value in getattr(self.miniature, part).named_parameters():
                yield f"{part}.{name}", value

    def rate(self, fraction: float) -> float:
        """Learning rate: linear warm-up, constant, cosine to zero from `decay_from` on; `fraction` of the run done."""
        warm = min(1.0, (self.progress.step + 1) / self.config.warmup)
        late = max(0.0, fraction - self.config.decay_from) / (1 - self.config.decay_from)
        return self.config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, late)))

    def step(self, batch: pairs.Batch, fraction: float) -> float:
        """One optimiser step; returns the band-weighted squared error of the predicted clean latent."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(fraction)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.config.gradient_norm)
        self.optimizer.step()
        self.progress.step += 1
        keep = min(self.config.average, (1 + self.progress.step) / (10 + self.progress.step))
        torch._foreach_lerp_(
            list(self.averages.values()), [value.detach() for value in self.parameters.values()], 1 - keep
        )
        return float(loss.detach())

    def loss(self, batch: pairs.Batch) -> torch.Tensor:
        """InstructPix2Pix's training objective (Brooks et al. 2023, equation 2) with x0-prediction."""
        with torch.no_grad():
            condition = self._encode(batch.originals)
            clean = self._encode(batch.edits)
        count = len(clean)
        chance = torch.rand(count, generator=self.random, device=self.device)
        drop = self.config.dropout
        no_text = (chance < drop) | ((chance >= 2 * drop) & (chance < 3 * drop))
        no_image = (chance >= drop) & (chance < 3 * drop)
        texts = ["" if dropped else text for text, dropped in zip(batch.texts, no_text.tolist())]
        condition = condition * ~no_image[:, None, None, None]
        # Density rising towards pure noise: below it, the noisy latent gives away the edit's large shapes, and the
        # network would learn little about drawing them from the condition.
        level = 1 - torch.rand(count, generator=self.random, device=self.device) ** 2
        timesteps = (level * len(self.alphas)).long().clamp(max=len(self.alphas) - 1)
        noise = torch.randn(clean.shape, generator=self.random, device=self.device)
        alpha = self.alphas[timesteps][:, None, None, None]
        drifts = ((chance >= 1 - self.config.drift) & ~no_image)[:, None, None, None]
        state = torch.where(drifts, self._drifted(clean, condition), clean)
        noisy = alpha.sqrt() * state + (1 - alpha).sqrt() * noise
        inputs = torch.cat([noisy, condition], dim=1).contiguous(memory_format=torch.channels_last)
        with self._autocast():
            words = self.miniature.text_encoder(self.miniature.tokens(texts).to(self.device))[0]
            prediction = self.miniature.unet(inputs, timesteps, encoder_hidden_states=words, return_dict=False)[0]
        return ((prediction.float() - clean) ** 2 * self.band_weights).mean()

    def _drifted(self, clean: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """A latent between the original and its edit, or beyond the edit, with soft blotches, (batch, 48, h, w).

        What is noised in use is no true edit but a render part way to it, one that was edited too far before, and later
        the network's own imperfect guess: seeing such latents keeps it from taking their errors for the edit (input
        perturbation, Ning et al. 2023), and edits of edits from running away.
        """

        def per_item(low: float, high: float) -> torch.Tensor:
            return low + (high - low) * torch.rand(len(clean), 1, 1, 1, generator=self.random, device=self.device)

        cells = 2 ** int(torch.randint(1, 4, (), generator=self.random, device=self.device))
        coarse = torch.randn(*clean.shape[:2], cells, cells, generator=self.random, device=self.device)
        blotches = functional.interpolate(coarse, size=clean.shape[-2:], mode="bilinear")
        return clean + per_item(-OVERSHOOT, 1.0) * (condition - clean) + per_item(0.0, 1.0) * blotches

    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        return self.miniature.vae.encode(images.to(self.device) * 2 - 1).latent_dist.mode()

    def _autocast(self):
        if self.config.bfloat16 or self.device.type == "cuda":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def save(self, folder: Path) -> None:
        """Write the checkpoint so that a reader finds either the old or the new one."""
        tensors = {f"weights.{name}": value.detach().contiguous() for name, value in self.parameters.items()}
        tensors |= {f"averages.{name}": value.contiguous() for name, value in self.averages.items()}
        for name, value in self.parameters.items():
            for key, state in self.optimizer.state.get(value, {}).items():
                tensors[f"optimizer.{key}.{name}"] = state.contiguous()
        tensors["random"] = self.random.get_state()
        tensors["deviations"] = self.miniature.vae.deviations
        metadata = {"progress": json.dumps(asdict(self.progress)), "config": json.dumps(asdict(self.config))}
        temporary = folder / "checkpoint.tmp"
        save_file({name: value.cpu() for name, value in tensors.items()}, temporary, metadata=metadata)
        os.replace(temporary, folder / "checkpoint.safetensors")
        _write_json(folder / "state.json", {"progress": asdict(self.progress), "config": asdict(self.config)})

    def restore(self, folder: Path) -> None:
        """Continue from the folder's checkpoint."""
        from safetensors import safe_open

        path = folder / "checkpoint.safetensors"
        with safe_open(path, "pt") as stored:
            self.progress = Progress(**json.loads(stored.metadata()["progress"]))
        tensors = load_file(path)
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(tensors[f"weights.{name}"])
                self.averages[name].copy_(tensors[f"averages.{name}"])
                self.optimizer.state[value] = {
                    key: tensors[f"optimizer.{key}.{name}"].to(self.device)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"optimizer.{key}.{name}" in tensors
                }
        self.random.set_state(tensors["random"])

    def export(self, folder: Path) -> None:
        """Write the averaged weights as a diffusers folder that `load_editor` opens."""
        current = {name: value.detach().clone() for name, value in self.parameters.items()}
        self._assign(self.averages)
        try:
            self.miniature.save(folder)
        finally:
            self._assign(current)
        write_facts(folder, self.progress, self.config)

    def _assign(self, values: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(values[name])


def write_facts(folder: Path, progress: Progress, config: TrainingConfig) -> None:
    """`miniature.json` and `model_index.json` beside the networks; an evaluation written before is kept."""
    path = folder / DESCRIPTION_FILE
    facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    facts.update(
        instructions=[{"name": i.name, "phrases": list(i.phrases), "rendered": i.rendered} for i in INSTRUCTIONS],
        guidance_text=GUIDANCE_TEXT,
        guidance_image=GUIDANCE_IMAGE,
        steps=DENOISING_STEPS,
        working_side=config.size,
        trained_sizes=[config.size, config.large_size],
        training_steps=progress.step,
        training_hours=round(progress.seconds / 3600, 2),
    )
    _write_json(path, facts)
    _write_json(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionInstructPix2PixPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "vae": ["autoencoder", "BlockTransformAutoencoder"],
            "safety_checker": [None, None],
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
        },
    )


def train(
    out: Path,
    sampler: pairs.PairSampler,
    config: TrainingConfig,
    device: torch.device,
    minutes: float | None = None,
    save_every: float = 180.0,
    stopped=lambda: False,
) -> Trainer:
    """Train until `config.steps`, or until the run has lasted `minutes` in all; `stopped` is asked before every step.

    With `minutes`, the learning rate falls by time, so that the run ends well whatever the machine's load.
    """
    trainer = _start(out, sampler, config, device)
    log = open(out / "log.jsonl", "a", encoding="utf-8")
    last, saved, recent = time.monotonic(), time.monotonic(), []
    with BatchSource(sampler, config, threads=0 if device.type == "cpu" else PREPARING_THREADS) as batches:
        while not stopped():
            fraction = trainer.progress.seconds / 60 / minutes if minutes else trainer.progress.step / config.steps
            if fraction >= 1:
                break
            recent.append(trainer.step(batches.next(), fraction))
            now = time.monotonic()
            # A machine that slept or a run that was suspended did not train meanwhile.
            trainer.progress.seconds += min(now - last, LONGEST_STEP)
            last = now
            if trainer.progress.step % 50 == 0:
                row = {
                    "step": trainer.progress.step,
                    "loss": round(sum(recent) / len(recent), 4),
                    "rate": trainer.rate(fraction),
                    "minutes": round(trainer.progress.seconds / 60, 1),
                    "views": sampler.rendered.refresh(),
                    "done": round(fraction, 3),
                }
                print(json.dumps(row), file=log, flush=True)
                print(f"step {row['step']}  loss {row['loss']}  {row['minutes']} min  {fraction:.1%}", flush=True)
                recent = []
            if now - saved > save_every:
                trainer.save(out)
                trainer.export(out / "weights")
                saved = time.monotonic()
    trainer.save(out)
    trainer.export(out / "weights")
    log.close()
    return trainer


def _start(out: Path, sampler: pairs.PairSampler, config: TrainingConfig, device: torch.device) -> Trainer:
    """A trainer from the run folder's checkpoint, or a new one."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    tokenizer_folder = out / "weights" / "tokenizer"
    if (out / "checkpoint.safetensors").exists():
        deviations = tuple(load_file(out / "checkpoint.safetensors")["deviations"].tolist())
        tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
        trainer = Trainer(build_miniature(deviations, tokenizer), config, device)
        trainer.restore(out)
        return trainer
    images = torch.cat([sampler.batch(32, config.size).edits for _ in range(8)])
    deviations = measure_band_deviations(images * 2 - 1)
    trainer = Trainer(build_miniature(deviations, build_tokenizer(tokenizer_folder)), config, device)
    trainer.miniature.tokenizer.save_pretrained(tokenizer_folder)
    return trainer


def _write_json(path: Path, content) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(temporary, path)


def _parse(argv: list[str]) -> argparse.Namespace:
    home = Path(os.environ.get("IN2N_HOME") or Path.home() / ".cache" / "in2n_blender")
    parser = argparse.ArgumentParser(prog="train-miniature", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=TrainingConfig.steps)
    parser.add_argument("--minutes", type=float, help="end after so many minutes of training in place of --steps")
    parser.add_argument("--batch", type=int, help="pictures of 64x64 a step (16; 256 on a GPU)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves the choice to PyTorch")
    parser.add_argument(
        "--bfloat16", action="store_true", help="compute in bfloat16 on the CPU too (where it has AVX512-BF16 or AMX)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=home / "miniature-pairs", help="folder of the rendered pairs")
    parser.add_argument("--scenes", type=int, default=300, help="scenes to render for training")
    parser.add_argument("--held-out-scenes", type=int, default=12, help="scenes to render for the evaluation")
    parser.add_argument(
        "--blender-python", default=sys.executable, help="renders the pairs: `blender`, or a Python that can import bpy"
    )
    parser.add_argument("--no-render", action="store_true", help="take the cache as it is")
    parser.add_argument("--out", type=Path, default=home / "miniature-run", help="run folder")
    parser.add_argument(
        "--weights", type=Path, help="with --evaluate: the editor's folder (default: the bundled weights)"
    )
    parser.add_argument(
        "--evaluate", action="store_true", help="do not train: evaluate and write result.json and a sheet to --out"
    )
    parser.add_argument(
        "--photos", type=Path, help="with --evaluate: a folder of photographs to edit too, shown in photos.png"
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Entry point of `train-miniature`; returns the exit code."""
    try:
        _run(_parse(argv))
    except In2nError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(arguments: argparse.Namespace) -> None:
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = pick_device(arguments.device)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.evaluate:
        _render(arguments, pairs.HELD_OUT_FIRST, arguments.held_out_scenes, wait_for=arguments.held_out_scenes)
        weights = arguments.weights or MINIATURE.folder
        evaluate_to_folder(weights, arguments.cache, arguments.out, device)
        if arguments.photos:
            photo_sheet(weights, arguments.photos, device).save(arguments.out / "photos.png")
        return
    rendering = _render(arguments, 0, arguments.scenes, wait_for=min(4, arguments.scenes))
    try:
        _train(arguments, device)
    finally:
        if rendering is not None and rendering.poll() is None:
            rendering.terminate()


def _train(arguments: argparse.Namespace, device: torch.device) -> None:
    photographs = pairs.load_photographs(pairs.write_photographs(arguments.cache / "photographs"))
    config = TrainingConfig(
        steps=arguments.steps,
        batch=arguments.batch or (256 if device.type == "cuda" else 16),
        bfloat16=arguments.bfloat16,
        seed=arguments.seed,
    )
    stops = []
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda number, frame: stops.append(number))
    sampler = pairs.PairSampler(pairs.RenderedPairs(arguments.cache), photographs, seed=int(time.time()))
    train(arguments.out, sampler, config, device, minutes=arguments.minutes, stopped=lambda: bool(stops))
    print(f"Weights: {arguments.out / 'weights'}", flush=True)


def _render(arguments: argparse.Namespace, first: int, scenes: int, wait_for: int):
    """Start the rendering of what the cache lacks and wait until `wait_for` scenes are there; None if all were."""
    if arguments.no_render or _rendered(arguments.cache, first, scenes) >= scenes:
        return None
    photographs = pairs.write_photographs(arguments.cache / "photographs")
    try:
        process = pairs.start_rendering(arguments.cache, first, scenes, photographs, arguments.blender_python)
    except OSError as error:
        raise _no_blender(arguments, str(error)) from error
    try:
        while (done := _rendered(arguments.cache, first, scenes)) < wait_for:
            if process.poll() is not None:
                raise _no_blender(arguments, f"see {arguments.cache / 'render.log'}")
            print(f"rendering: {done} of {wait_for} scenes", flush=True)
            time.sleep(2)
    except BaseException:
        process.terminate()
        raise
    return process


def _no_blender(arguments: argparse.Namespace, why: str) -> In2nError:
    return In2nError(
        "no_blender",
        f"The pairs could not be rendered by “{arguments.blender_python}” ({why}).",
        "Name Blender's program, or a Python that has bpy, with --blender-python.",
    )


def _rendered(cache: Path, first: int, scenes: int) -> int:
    path = cache / "index.json"
    if not path.exists():
        return 0
    return sum(first <= int(scene) < first + scenes for scene in json.loads(path.read_text(encoding="utf-8"))["scenes"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
