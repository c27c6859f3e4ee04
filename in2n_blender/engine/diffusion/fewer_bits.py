"""Linear layers whose weights are kept in 8 or 4 bits and widened for the moment in which they are used.

8 bits: a scale for each row, as in the weights of LLM.int8 (Dettmers et al. 2022). 4 bits: NF4 (Dettmers et al. 2023,
"QLoRA"), a scale for each 64 weights, which become the nearest of 16 quantiles of the normal distribution. Activations
and everything else stay as wide as they are. With thousands of tokens an evaluation, widening a layer costs little
beside its product; it is plain torch, on every device, and takes no further package: those that there are slow every
start of the engine by seconds.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

BLOCK = 64  # weights with a scale of their own, in 4 bits
LEAST_FEATURES = 64  # of a layer: smaller ones gain nothing
LARGEST_CODE = 127
OFFSET = 0.9677083  # of the outermost quantile, as in the paper's code book


def normal_codes() -> torch.Tensor:
    """The 16 values of NF4, ascending from -1 to 1, with 0 among them.

    Returns:
        (16,) float32.
    """
    quantiles = lambda count: torch.special.ndtri(torch.linspace(OFFSET, 0.5, count, dtype=torch.float64)[:-1])
    values = torch.cat([quantiles(9), torch.zeros(1, dtype=torch.float64), -quantiles(8)]).sort().values
    return (values / values.max()).float()


class FewerBits(nn.Module):
    """A linear layer. In the place of its weight it has codes and scales, which move and are saved as buffers."""

    def __init__(self, layer: nn.Linear, bits: int):
        """
        Args:
            layer: the one whose place it takes, on any device.
            bits: 8, or 4 for a layer whose number of inputs is a multiple of BLOCK.
        """
        super().__init__()
        self.in_features, self.out_features, self.bits = layer.in_features, layer.out_features, bits
        self.bias = layer.bias
        codes, scales = (_in_8_bits if bits == 8 else _in_4_bits)(layer.weight.detach())
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales.to(layer.weight.dtype))
        self.register_buffer("values", normal_codes().to(layer.weight) if bits == 4 else None)

    @property
    def weight(self) -> torch.Tensor:
        """(outputs, inputs), as wide as it was, made anew each time."""
        if self.bits == 8:
            return self.codes.to(self.scales.dtype) * self.scales
        pairs = torch.stack([self.codes >> 4, self.codes & 15], dim=-1).int()
        return (self.values[pairs].view(-1, BLOCK) * self.scales).view(self.out_features, self.in_features)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return functional.linear(inputs, self.weight.to(inputs.dtype), self.bias)


def keep_in_fewer_bits(network: nn.Module, bits: int) -> None:
    """Replace a network's linear layers, one by one, so that never two copies of all are there.

    Args:
        network: in evaluation mode; layers with few features, and those that share their weight with an embedding,
            stay as they are.
        bits: 8 or 4.
    """
    shared = {module.weight.data_ptr() for module in network.modules() if isinstance(module, nn.Embedding)}
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear) and layer.weight.data_ptr() not in shared and _gains(layer, bits):
                setattr(parent, name, FewerBits(layer, bits).requires_grad_(False).eval())


def _gains(layer: nn.Linear, bits: int) -> bool:
    few = min(layer.in_features, layer.out_features) < LEAST_FEATURES
    return not few and (bits == 8 or layer.in_features % BLOCK == 0)


def _in_8_bits(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scales = weight.float().abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / LARGEST_CODE
    return (weight.float() / scales).round().clamp(-LARGEST_CODE, LARGEST_CODE).to(torch.int8), scales


def _in_4_bits(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    blocks = weight.float().reshape(-1, BLOCK)
    scales = blocks.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    values = normal_codes().to(weight.device)
    borders = (values[1:] + values[:-1]) / 2
    codes = torch.bucketize(blocks / scales, borders).to(torch.uint8).view(-1, 2)
    return codes[:, 0] << 4 | codes[:, 1], scales
