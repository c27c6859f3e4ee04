"""Training the miniature: the objective, the checkpoint, the exported folder.

The run folder holds `checkpoint.safetensors` and `state.json` (written every few minutes, replaced whole), `log.jsonl`
and `weights/`, the diffusers folder of the averaged weights. Started again, it goes on from its checkpoint.
"""

import json
import math
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from transformers import CLIPTokenizer

from ...engine.diffusion.miniature.autoencoder import measure_band_deviations
from ...models.catalogue import DESCRIPTION_FILE
from ...workspace.files import atomic_path, write_json
from . import pairs
from .instructions import INSTRUCTIONS
from .networks import Miniature, build_miniature, build_tokenizer
from .settings import DENOISING_STEPS, GUIDANCE_IMAGE, GUIDANCE_TEXT, TrainingConfig

PREPARING_THREADS = 6
# How far beyond the edit a drifted latent may lie, as a share of the way from the original to the edit.
OVERSHOOT = 0.6
LONGEST_STEP = 60.0


class ShapeHead(nn.Module):
    """Reads the shape of what is seen from the UNet's last features, and is left behind when training is over.

    Where snow lies follows from which way a surface looks. Asked for that too, the features learn it sooner than from
    the snow alone, whose brightness depends on the light as well.

    Args:
        unet: Its last features are kept at every evaluation.
    """

    def __init__(self, unet: UNet2DConditionModel):
        super().__init__()
        self.read = nn.Conv2d(unet.conv_out.in_channels, 3, 3, padding=1)
        unet.conv_out.register_forward_pre_hook(self._keep)
        self._features: torch.Tensor | None = None

    def _keep(self, module: nn.Module, inputs: tuple) -> None:
        self._features = inputs[0]

    def forward(self) -> torch.Tensor:
        """What the features tell of the shapes, (batch, 3, h, w) float32 at the latent's resolution."""
        features, self._features = self._features, None
        return self.read(features).float()


@dataclass
class TrainingProgress:
    """How far a run is: steps and seconds over all its sessions."""

    step: int = 0
    seconds: float = 0.0


class Trainer:
    """The networks, their averages and their optimiser, with one training step."""

    def __init__(self, miniature: Miniature, config: TrainingConfig, device: torch.device):
        self.miniature, self.config, self.device = miniature.to(device), config, device
        self.miniature.unet.to(memory_format=torch.channels_last)
        # PyTorch's fused attention is slow to differentiate in bfloat16 on a CPU.
        self.miniature.unet.set_attn_processor(AttnProcessor())
        self.shape_head = ShapeHead(miniature.unet).to(device)
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
        self.progress = TrainingProgress()
        self.random = torch.Generator(device).manual_seed(config.seed)

    def _named_parameters(self):
        parts = {
            "unet": self.miniature.unet,
            "text_encoder": self.miniature.text_encoder,
            "shape_head": self.shape_head,
        }
        for part, network in parts.items():
            for name, value in network.named_parameters():
                yield f"{part}.{name}", value

    def rate(self, fraction: float) -> float:
        """The learning rate: linear warm-up, constant, cosine to zero from the configuration's `decay_from` on.

        Args:
            fraction: How much of the run is done, from 0 to 1.
        """
        warm = min(1.0, (self.progress.step + 1) / self.config.warmup)
        late = max(0.0, fraction - self.config.decay_from) / (1 - self.config.decay_from)
        return self.config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, late)))

    def step(self, batch: pairs.Batch, fraction: float) -> float:
        """Take one optimiser step, and let the averages follow.

        Args:
            batch: The pairs to learn from.
            fraction: How much of the run is done, from 0 to 1.

        Returns:
            The loss before the step.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(fraction)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.config.gradient_norm)
        self.optimizer.step()
        self.progress.step += 1
        decay = min(self.config.average, (1 + self.progress.step) / (10 + self.progress.step))
        torch._foreach_lerp_(
            list(self.averages.values()), [value.detach() for value in self.parameters.values()], 1 - decay
        )
        return float(loss.detach())

    def loss(self, batch: pairs.Batch) -> torch.Tensor:
        """InstructPix2Pix's training objective (Brooks et al. 2023, equation 2) with x0-prediction.

        Args:
            batch: The pairs to learn from.

        Returns:
            Scalar: the mean over the pictures of the root of the band-weighted mean squared error of the predicted
            clean latent, and `shape_weight` times the mean absolute error of the shapes where they are known. The root,
            since quality is judged in decibels: otherwise the few views that cannot be guessed would rule the batch.
        """
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
            shapes = self.shape_head()
        error = ((prediction.float() - clean) ** 2 * self.band_weights).mean(dim=(1, 2, 3))
        return (error + 1e-5).sqrt().mean() + self.config.shape_weight * self._shape_error(shapes, batch, ~no_image)

    def _shape_error(self, shapes: torch.Tensor, batch: pairs.Batch, seen: torch.Tensor) -> torch.Tensor:
        """Scalar: the mean absolute error of the pictures whose shapes are known and whose original is seen."""
        counts = (batch.shape_known.to(self.device) & seen).float()
        truth = functional.adaptive_avg_pool2d(batch.shapes.to(self.device), shapes.shape[-2:])
        return ((shapes - truth).abs().mean(dim=(1, 2, 3)) * counts).sum() / counts.sum().clamp(min=1)

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
        """Write the checkpoint so that a reader finds either the old or the new one.

        Args:
            folder: The run folder.
        """
        tensors = {f"weights.{name}": value.detach().contiguous() for name, value in self.parameters.items()}
        tensors |= {f"averages.{name}": value.contiguous() for name, value in self.averages.items()}
        for name, value in self.parameters.items():
            for key, state in self.optimizer.state.get(value, {}).items():
                tensors[f"optimizer.{key}.{name}"] = state.contiguous()
        tensors["random"] = self.random.get_state()
        tensors["deviations"] = self.miniature.vae.deviations
        metadata = {"progress": json.dumps(asdict(self.progress)), "config": json.dumps(asdict(self.config))}
        with atomic_path(folder / "checkpoint.safetensors", alone=True) as temporary:
            save_file({name: value.cpu() for name, value in tensors.items()}, temporary, metadata=metadata)
        write_json(folder / "state.json", {"progress": asdict(self.progress), "config": asdict(self.config)})

    def restore(self, folder: Path) -> None:
        """Continue from a checkpoint.

        Args:
            folder: The run folder that `save` wrote to.
        """
        path = folder / "checkpoint.safetensors"
        with safe_open(path, "pt") as stored:
            self.progress = TrainingProgress(**json.loads(stored.metadata()["progress"]))
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
        """Write the averaged weights as a diffusers folder that `load_editor` opens.

        Args:
            folder: Made where it is missing.
        """
        current = {name: value.detach().clone() for name, value in self.parameters.items()}
        self._assign(self.averages)
        try:
            self.miniature.save(folder)
        finally:
            self._assign(current)
        write_description(folder, self.progress, self.config)

    def _assign(self, values: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(values[name])


def write_description(folder: Path, progress: TrainingProgress, config: TrainingConfig) -> None:
    """Write miniature.json and model_index.json beside the networks; an evaluation written before is kept.

    Args:
        folder: In the diffusers layout.
        progress: How long the networks were trained.
        config: How they were trained.
    """
    path = folder / DESCRIPTION_FILE
    description = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    description.update(
        instructions=[{"name": i.name, "phrases": list(i.phrases), "rendered": i.rendered} for i in INSTRUCTIONS],
        guidance_text=GUIDANCE_TEXT,
        guidance_image=GUIDANCE_IMAGE,
        steps=DENOISING_STEPS,
        working_side=config.size,
        trained_sizes=[config.size, config.large_size],
        training_steps=config.earlier_steps + progress.step,
        training_hours=round(config.earlier_hours + progress.seconds / 3600, 2),
    )
    write_json(path, description)
    write_json(
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
    initial: Path | None = None,
) -> Trainer:
    """Train, from the run folder's checkpoint if there is one.

    Args:
        out: The run folder, made where it is missing.
        sampler: Draws the batches.
        config: How to train, and for how many steps.
        device: Where.
        minutes: How long the run lasts over all its sessions, in place of `config.steps`. The learning rate then falls
            by time, so that the run ends well whatever the machine's load.
        save_every: Seconds between two checkpoints.
        stopped: Asked before every step whether to end now.
        initial: An editor's folder whose weights a new run starts from; None: from random ones.

    Returns:
        The trainer, saved and exported.
    """
    trainer = _start(out, sampler, config, device, initial)
    log = open(out / "log.jsonl", "a", encoding="utf-8")
    last, saved, recent = time.monotonic(), time.monotonic(), []
    with pairs.BatchSource(sampler, config, threads=0 if device.type == "cpu" else PREPARING_THREADS) as batches:
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


def _start(
    out: Path, sampler: pairs.PairSampler, config: TrainingConfig, device: torch.device, initial: Path | None
) -> Trainer:
    """A trainer from the run folder's checkpoint, or a new one, from `initial`'s weights where there are such."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    tokenizer_folder = out / "weights" / "tokenizer"
    if (out / "checkpoint.safetensors").exists():
        deviations = tuple(load_file(out / "checkpoint.safetensors")["deviations"].tolist())
        tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
        trainer = Trainer(build_miniature(deviations, tokenizer), config, device)
        trainer.restore(out)
        return trainer
    if initial is not None:
        trainer = Trainer(Miniature.load(initial), config, device)
        trainer.miniature.tokenizer.save_pretrained(tokenizer_folder)
        return trainer
    images = torch.cat([sampler.batch(32, config.size).edits for _ in range(8)])
    deviations = measure_band_deviations(images * 2 - 1)
    trainer = Trainer(build_miniature(deviations, build_tokenizer(tokenizer_folder)), config, device)
    trainer.miniature.tokenizer.save_pretrained(tokenizer_folder)
    return trainer
