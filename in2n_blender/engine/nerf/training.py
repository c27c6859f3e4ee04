"""Training the NeRF: one optimiser step after another on random rays of the dataset."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from ..device import computes_bfloat16, free_memory, is_out_of_memory
from .checkpoint import bad_checkpoint, diverged, model_weights
from .dataset import RayDataset
from .losses import perceptual_loss, ray_losses, sighting_loss
from .rendering import NerfModel, Rendered
from .sightings import Sightings

PATCH_SIDE = 32
LEAST_RAYS = 64  # of a step: where these do not fit into memory, nothing does
ASKED_EVERY = 16  # steps on a GPU between two looks whether their numbers were finite
GOOD_EVERY = 250  # steps between two states that training goes back to where its numbers are finite no more
MOST_RETREATS = 4  # each at half the learning rates of before
# The last part of an edit's steps: nothing is edited any more and the learning rate falls, so that the noise of its
# steps dies down.
SETTLING = 0.2
# What the loss of sparse points is multiplied by at the last step, falling exponentially: early on they say where
# things are, later the photos say it more finely.
POINTS_DECAY = 0.03
PER_VIEW = ("field.appearance", "refinement.raw")


class Trainer:
    """Trains a model on the rays of a dataset; all that the next step depends on is in `state` and `restore`.

    Args:
        model: Moved to the dataset's device.
        dataset: Gets the model's camera refinement.
        seed: Of the pixels, jitter and backgrounds.
        total_steps: Over which the learning rates fall.
        loss: "mse" while reconstructing, "l1" (with LPIPS on patches where the settings say so) while editing.
        learning_rate: Multiplies the settings' learning rates.
        log: Called with one sentence where LPIPS falls back, where training went back to an earlier step, and where a
            step trains on fewer rays because memory ended.
        sightings: Pixels of known depth, which reconstructing heeds.
    """

    def __init__(
        self,
        model: NerfModel,
        dataset: RayDataset,
        seed: int,
        total_steps: int,
        loss: str = "mse",
        learning_rate: float = 1.0,
        log=print,
        sightings: Sightings | None = None,
    ):
        self.sightings = sightings
        self.model, self.dataset, self.settings = model.to(dataset.device), dataset, model.settings
        dataset.refinement = model.refinement
        self.loss, self.learning_rate, self.total_steps, self.step_count = loss, learning_rate, total_steps, 0
        self.seed, self.generator = seed, torch.Generator(dataset.device).manual_seed(seed)
        self.rays, self.retreats, self._good, self._log = self.settings.rays, 0, None, log
        self._spoilt: torch.Tensor | None = None  # whether a step since the last look was none
        self.waits_for_no_step = dataset.device.type == "cuda"
        model.field.narrow = computes_bfloat16(dataset.device)
        grids = [p for n, p in model.named_parameters() if n.endswith("table")]
        mlps = [p for n, p in model.named_parameters() if not n.endswith("table") and n not in PER_VIEW]
        groups = [
            {"params": grids, "lr": self.settings.learning_rate_grid * learning_rate},
            {"params": mlps, "lr": self.settings.learning_rate_mlp * learning_rate},
        ]
        groups += self._groups_of_views()
        self.fused = dataset.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15, fused=self.fused)
        self._base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.perceptual = None
        if loss == "l1":
            self.perceptual = perceptual_loss(self.settings.perceptual, log)
            if self.perceptual is not None:
                self.perceptual.to(dataset.device)

    def _groups_of_views(self) -> list[dict]:
        """What each view has of its own is learnt while reconstructing.

        Editing keeps the poses and sees the mean appearance.
        """
        rates = {
            "field.appearance": self.settings.learning_rate_appearance,
            "refinement.raw": self.settings.learning_rate_cameras,
        }
        found = {name: parameter for name, parameter in self.model.named_parameters() if name in PER_VIEW}
        for parameter in found.values():
            parameter.requires_grad_(self.loss == "mse")
        return [{"params": [p], "lr": rates[name] * self.learning_rate} for name, p in found.items() if p.requires_grad]

    def step(self) -> torch.Tensor:
        """Train for one optimiser step.

        Returns:
            A scalar on the device, which nobody has to wait for: the photometric loss, the mean squared or mean
            absolute difference of sRGB colours from 0 to 1.
        """
        self._set_learning_rate()
        while True:
            try:
                with self.random_state_kept_on_failure():
                    photometric, loss = self._losses()
                    self.descend(loss)
                return photometric.detach()
            except Exception as error:
                if not is_out_of_memory(error) or self.rays < 2 * LEAST_RAYS:
                    raise
            self._train_on_fewer_rays()

    def _train_on_fewer_rays(self) -> None:
        self.rays //= 2
        self.optimizer.zero_grad(set_to_none=True)
        free_memory(self.dataset.device)
        self._log(f"Memory ended at step {self.step_count}: from now on a step trains on {self.rays:,} rays.")

    @contextmanager
    def random_state_kept_on_failure(self) -> Iterator[None]:
        """Around a step: if it fails or is cancelled, the random numbers that it drew will be drawn again."""
        before = self.generator.get_state()
        try:
            yield
        except BaseException:
            self.generator.set_state(before)
            raise

    def _losses(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The photometric loss of random pixels, and all that is descended."""
        patches = self._patch_pixels()
        random_pixels = max(self.rays - len(patches), self.rays // 2)
        pixels = torch.cat([patches, self.dataset.sample(random_pixels, self.generator)])
        seen = self._replace_by_sightings(pixels)
        rays = self.dataset.rays(pixels)
        if self.loss != "mse":
            rays.views = None
        rendered = self.model(rays, self.generator, self._anneal())
        color, target = self._compared(rendered, self.dataset.targets(pixels), len(patches))
        counts = self.dataset.count(pixels)
        if counts is not None:  # a patch may show something of what is masked
            target = torch.where(counts[:, None], target, color.detach())
        photometric = (color - target).abs().mean() if self.loss == "l1" else self._squared(color - target, pixels)
        loss = photometric
        if len(patches):
            as_images = lambda colors: colors[: len(patches)].view(-1, PATCH_SIDE, PATCH_SIDE, 3).permute(0, 3, 1, 2)
            loss = loss + self.perceptual(as_images(color), as_images(target))
        return photometric, loss + self.regularisers(rendered) + self._sighting_loss(rendered, seen)

    def _squared(self, off: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """The mean square, in which pixels count as much as their views."""
        if self.dataset.importance is None:
            return (off**2).mean()
        counts = self.dataset.importance[self.dataset.view_of(pixels)]
        return (counts[:, None] * off**2).mean() / counts.mean()

    def _replace_by_sightings(self, pixels: torch.Tensor) -> torch.Tensor | None:
        """The last pixels of a step become some that show a sparse point; which sightings these are."""
        if self.sightings is None or self.loss != "mse" or not self.settings.points:
            return None
        count = min(self.settings.point_rays, len(pixels) // 2)
        seen = torch.randint(len(self.sightings), (count,), generator=self.generator, device=pixels.device)
        pixels[len(pixels) - count :] = self.sightings.pixels[seen]
        return seen

    def _sighting_loss(self, rendered: Rendered, seen: torch.Tensor | None) -> torch.Tensor | float:
        if seen is None:
            return 0.0
        last = lambda values: values[len(values) - len(seen) :]
        done = min(1.0, self.step_count / max(self.total_steps, 1))
        return (
            self.settings.points
            * POINTS_DECAY**done
            * sighting_loss(
                last(rendered.weights),
                last(rendered.starts),
                last(rendered.ends),
                self.sightings.distances[seen],
                self.sightings.weights[seen],
            )
        )

    def regularisers(self, rendered: Rendered) -> torch.Tensor:
        """The interlevel loss, and the distortion and nearness losses by the settings' factors.

        Args:
            rendered: Rays as the model renders them.

        Returns:
            A scalar, the mean over the rays.
        """
        interlevel, distortion, nearness = ray_losses(
            rendered.bins, rendered.weights, rendered.proposal_bins, rendered.proposal_weights
        )
        return interlevel + self.settings.distortion * distortion + self.settings.nearness * nearness

    def descend(self, loss: torch.Tensor) -> None:
        """One optimiser step down a loss, counted.

        Where the loss or its gradient is not finite, no step is made: all is as it was up to GOOD_EVERY steps ago, and
        goes on from there at half the learning rates. On a GPU that is found out some steps later, which nothing but
        such a state is lost by: to ask at every step would be to wait for every step.

        Args:
            loss: A scalar with a gradient in the model's parameters.

        Raises:
            In2nError: "diverged" where that happens for more than MOST_RETREATS times.
        """
        if self._good is None or self.step_count % GOOD_EVERY == 0:
            self._good = {name: value.detach().clone() for name, value in self._tensors().items()}, self._numbers()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        spoilt = ~self._is_finite(loss)
        if self.waits_for_no_step:
            self._spoilt = spoilt if self._spoilt is None else self._spoilt | spoilt
            self.optimizer.found_inf = spoilt.float()  # the fused kernel then leaves everything as it is
        elif spoilt:
            self._retreat()
            return
        self.optimizer.step()
        self.step_count += 1
        due = {self.step_count % every for every in (ASKED_EVERY, GOOD_EVERY)} | {self.total_steps - self.step_count}
        if 0 in due:
            self._retreat_where_spoilt()

    def _retreat_where_spoilt(self) -> None:
        """Wait for the steps that were asked for, and go back where one of them was none."""
        spoilt, self._spoilt = self._spoilt, None
        if spoilt is not None and spoilt:
            self._retreat()

    def _is_finite(self, loss: torch.Tensor) -> torch.Tensor:
        """A bool on the device."""
        gradients = [p.grad for p in self._parameters() if p.grad is not None]
        norms = torch._foreach_norm(gradients) if gradients else ()
        return torch.stack([loss.detach(), *norms]).isfinite().all()

    def _retreat(self) -> None:
        """Go back to the last good state with smaller learning rates. Raises In2nError("diverged")."""
        failed, retreats, (tensors, numbers) = self.step_count, self.retreats + 1, self._good
        if retreats > MOST_RETREATS:
            raise diverged()
        self.optimizer.state.clear()
        self.restore(tensors, {**numbers, "retreats": retreats})
        self._log(
            f"At step {failed} the numbers of the training were no longer finite. It goes on from step "
            f"{self.step_count} at {0.5**retreats:.2g} of its learning rates."
        )

    def _patch_pixels(self) -> torch.Tensor:
        if self.perceptual is None:
            return torch.empty(0, dtype=torch.long, device=self.dataset.device)
        return self.dataset.sample_patches(self.settings.patches, PATCH_SIDE, self.generator)

    def _compared(self, rendered: Rendered, target: torch.Tensor, in_patches: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Rendered and target colours over the same background: random where photos have alpha, else the last sample's.

        A patch, of which the first `in_patches` pixels consist, lies over one colour: LPIPS would see noise.
        """
        missing = (1 - rendered.alpha)[:, None]
        if not self.dataset.has_alpha:
            return rendered.color + missing * rendered.last_color, target
        background = torch.rand(target[:, :3].shape, generator=self.generator, device=target.device)
        patches = background[:in_patches].view(-1, PATCH_SIDE**2, 3)
        patches[:] = patches[:, :1].clone()
        alpha = target[:, 3:]
        return rendered.color + missing * background, target[:, :3] * alpha + background * (1 - alpha)

    def _anneal(self) -> float:
        if self.loss != "mse":
            return 1.0
        done = min(1.0, self.step_count / (0.1 * self.total_steps + 1))
        return 10 * done / (9 * done + 1)

    def _set_learning_rate(self) -> None:
        if self.loss == "mse":
            done = min(1.0, self.step_count / max(self.total_steps, 1))
            factor = min(1.0, (self.step_count + 1) / 50) * self.settings.learning_rate_decay**done
        else:
            settling = max(0.0, self.step_count / max(self.total_steps, 1) - (1 - SETTLING)) / SETTLING
            factor = self.settings.learning_rate_decay ** min(1.0, settling)
        for group, base in zip(self.optimizer.param_groups, self._base_rates):
            group["lr"] = base * factor * 0.5**self.retreats

    def state(self) -> tuple[dict[str, torch.Tensor], dict]:
        """All from which `restore` goes on exactly.

        Returns:
            Tensors on the CPU (the model's, the optimiser's moments, the random state), and the numbers of a state.
        """
        self._retreat_where_spoilt()
        return {k: v.detach().cpu().contiguous() for k, v in self._tensors().items()}, self._numbers()

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Those of `state`, where they are."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for index, parameter in enumerate(self._parameters()):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
        return tensors | {"generator": self.generator.get_state()}

    def _numbers(self) -> dict:
        """Those of `state`."""
        return {
            "step": self.step_count,
            "total_steps": self.total_steps,
            **({"retreats": self.retreats} if self.retreats else {}),
            **({"rays": self.rays} if self.rays != self.settings.rays else {}),
            **({"random": self._kind} if self._kind != "cpu" else {}),
        }

    @property
    def _kind(self) -> str:
        """Of the device, and so of the random state."""
        return self.dataset.device.type

    def restore(self, tensors: dict[str, torch.Tensor], numbers: dict) -> None:
        """Go on from what `state` returned; on another kind of device with other random numbers.

        Args:
            tensors: As `read_checkpoint` returns them; others than the trainer's are ignored.
            numbers: With "step", the optimiser steps that are done.

        Raises:
            In2nError: "bad_checkpoint" where tensors are missing or do not fit this trainer, which stays as it was.
        """
        weights = model_weights(tensors)
        shapes = lambda values: {name: value.shape for name, value in values.items()}
        if shapes(weights) != shapes(self.model.state_dict()):
            raise bad_checkpoint("The weights in the checkpoint are another model's.")
        moments = [self._moments(tensors, index, p) for index, p in enumerate(self._parameters())]
        random_state, before = tensors.get("generator"), self.generator.get_state()
        try:
            if random_state is not None and numbers.get("random", "cpu") != self._kind:
                self.generator.manual_seed(_seed_after(self.seed, int(numbers["step"])))
            else:
                self.generator.set_state(torch.empty(0) if random_state is None else random_state)
        except (RuntimeError, TypeError):
            self.generator.set_state(before)
            raise bad_checkpoint("The checkpoint holds no random state for this kind of device.") from None
        self.model.load_state_dict(weights)
        for parameter, found in zip(self._parameters(), moments):
            if found:
                self.optimizer.state[parameter] = found
        self.step_count, self.retreats, self._good = int(numbers["step"]), int(numbers.get("retreats", 0)), None
        self._spoilt = None
        self.rays = min(max(1, int(numbers.get("rays", self.settings.rays))), self.settings.rays)

    def _moments(self, tensors: dict[str, torch.Tensor], index: int, parameter: nn.Parameter) -> dict:
        """Adam's state of a parameter as saved, checked; none before its first step."""
        prefix = f"optimizer.{index}."
        found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        # As torch's own load_state_dict: a step counter is on the device only where Adam is fused.
        counter_device = parameter.device if self.fused else torch.device("cpu")
        wanted = {"step": ((), counter_device)} | dict.fromkeys(
            ("exp_avg", "exp_avg_sq"), (parameter.shape, parameter.device)
        )
        shapes = {name: (value.shape, value.dtype) for name, value in found.items()}
        if found and shapes != {name: (shape, torch.float32) for name, (shape, _) in wanted.items()}:
            raise bad_checkpoint("The optimiser's state in the checkpoint does not fit the model.")
        return {name: value.to(wanted[name][1]).clone() for name, value in found.items()}

    def _parameters(self):
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def _seed_after(seed: int, step: int) -> int:
    """The seed of what is left of a training after a step."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
