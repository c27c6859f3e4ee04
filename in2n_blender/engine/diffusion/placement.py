"""Where a model's networks are and how wide their weights: what a memory plan means for them."""

from __future__ import annotations

import torch
from accelerate.hooks import CpuOffload, add_hook_to_module
from torch import nn

from ...link.requests import AUTOMATIC
from ...models import memory
from ...models.memory import Plan
from ...models.model import Model
from ..device import free_bytes
from .fewer_bits import keep_in_fewer_bits

CPU = torch.device("cpu")
TILE = 512  # pixels a side


def free_mb(device: torch.device) -> int:
    """What is free on a CUDA device: what the driver says, and what torch holds without use.

    Args:
        device: a CUDA device.

    Returns:
        MB (2^20 bytes).
    """
    return free_bytes(device) // memory.MEGABYTE


def plan_for(model: Model, device: torch.device, wanted: str = AUTOMATIC) -> Plan:
    """How a model is kept on a device.

    Args:
        model: the catalogue's entry.
        device: what it runs on.
        wanted: one of `requests.MEMORY_PLANS`.

    Returns:
        By what is free on a CUDA device; 32 bits, whole, on any other.
    """
    if device.type != "cuda":
        return memory.FULL
    return memory.choose(model, free_mb(device), wanted)


class OneAtATime(CpuOffload):
    """Brings a network to the device when it is evaluated, and takes the others back to main memory before."""

    def __init__(self, device: torch.device, others: list[nn.Module]):
        """
        Args:
            device: on which it is evaluated.
            others: networks with such a hook, and maybe the one that it is for.
        """
        super().__init__(execution_device=device)
        self.others = others

    def pre_forward(self, module: nn.Module, *args, **kwargs):
        for other in self.others:
            if other is not module and next(other.parameters()).device != CPU:
                other.to(CPU)
        return super().pre_forward(module, *args, **kwargs)


class Placement:
    """Puts networks where a plan says.

    Attributes:
        device: on which they are evaluated.
        plan: how they are kept.
        first: the device on which a network is loaded, before it is put where it belongs.
    """

    def __init__(self, device: torch.device, plan: Plan):
        """
        Args:
            device: on which networks are evaluated.
            plan: how they are kept.
        """
        self.device, self.plan = device, plan
        self.first = CPU if plan.offload or plan.bits < 16 else device
        self._networks: list[nn.Module] = []

    def put(self, network: nn.Module, large: bool = True) -> nn.Module:
        """Put a network that was loaded on `first` where it belongs.

        Args:
            network: in evaluation mode.
            large: whether its weights may be of fewer bits.

        Returns:
            The same network.
        """
        weights = sum(weight.numel() for weight in network.parameters())
        if self.plan.bits < 16 and large and weights >= memory.QUANTISED_FROM * 1e6:
            keep_in_fewer_bits(network, self.plan.bits)
        if self.plan.offload:
            add_hook_to_module(network, OneAtATime(self.device, self._networks))
            self._networks.append(network)
            return network
        return network.to(self.device)

    def forget(self, networks: list[nn.Module]) -> None:
        """Let go of networks that are not needed any more.

        Args:
            networks: some that were put.
        """
        self._networks[:] = [kept for kept in self._networks if all(kept is not network for network in networks)]

    def put_autoencoder(self, network: nn.Module) -> nn.Module:
        """Put an autoencoder, in tiles where the plan says so.

        Args:
            network: one of diffusers' autoencoders, or one that has no tiles.

        Returns:
            The same network.
        """
        if self.plan.tiles and hasattr(network, "enable_tiling"):
            network.enable_tiling()
            network.enable_slicing()
            if hasattr(network, "tile_latent_min_size"):  # by default as large as what it was trained on
                factor = network.tile_sample_min_size // network.tile_latent_min_size
                network.tile_sample_min_size, network.tile_latent_min_size = TILE, TILE // factor
        return self.put(network, large=False)
