"""What the engine measures everywhere: how near two images are (PSNR), and what a block of work costs."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
import psutil
import torch

from .device import pick_device

SAMPLE_SECONDS = 0.02
MB = 1e6


class CostMeter:
    """Measures the block it is a context manager of; its numbers can be read inside the block and after it.

        with CostMeter(device) as cost:
            work()
        cost.seconds, cost.cpu_seconds, cost.peak_memory_mb

    On CUDA blocks on one device cannot be nested, for each resets torch's own counter. Elsewhere the system's own
    high-water mark (ru_maxrss) never falls, so that a block after a larger one would inherit its peak: a thread samples
    the current size instead, and misses peaks shorter than SAMPLE_SECONDS.

    Args:
        device: What the block computes on.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = pick_device(str(device))
        self._process = psutil.Process()
        self._stop, self._sampling = threading.Event(), threading.Lock()
        self._peak = 0
        self._ended: tuple[float, float] | None = None

    @property
    def seconds(self) -> float:
        """Seconds of wall clock."""
        return (self._ended or self._clocks())[0] - self._began[0]

    @property
    def cpu_seconds(self) -> float:
        """Seconds of user and system time of all threads of this process."""
        return (self._ended or self._clocks())[1] - self._began[1]

    @property
    def peak_memory_mb(self) -> float:
        """Peak memory in 10^6 bytes.

        On CUDA the most that torch had allocated on the device, exactly; elsewhere the largest resident set of this
        process (with MPS: plus what Metal holds), libraries and all.
        """
        if self._ended is None:
            self._sample()
        return self._peak / MB

    def __enter__(self) -> CostMeter:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._sample()
            threading.Thread(target=self._keep_sampling, name="memory", daemon=True).start()
        self._began = self._clocks()
        return self

    def __exit__(self, *_) -> None:
        self._sample()
        self._ended = self._clocks()
        self._stop.set()

    def _clocks(self) -> tuple[float, float]:
        return time.monotonic(), time.process_time()

    def _keep_sampling(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        if self.device.type == "cuda":
            self._peak = torch.cuda.max_memory_allocated(self.device)
            return
        metal = torch.mps.driver_allocated_memory() if self.device.type == "mps" else 0
        with self._sampling:  # two threads sample, and the lower of their peaks must not be the last that is noted
            self._peak = max(self._peak, self._process.memory_info().rss + metal)


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio, 10 log10(1 / mean((image - truth)^2)).

    Args:
        image: Of any shape, in [0, 1].
        truth: Of the same shape.

    Returns:
        In dB; inf for equal images.
    """
    error = float(np.mean((np.asarray(image, np.float64) - np.asarray(truth, np.float64)) ** 2))
    return math.inf if error == 0 else -10 * math.log10(error)


def psnr_after_color_fit(image: np.ndarray, truth: np.ndarray, counts: np.ndarray | None = None) -> float:
    """PSNR of an image whose own exposure and white balance nobody can know.

    Each half of it is scored with colours fitted on the other: a factor and an offset a channel, by least squares. So
    nothing of what is scored tells how it is to be coloured.

    Args:
        image: (height, width, 3) sRGB in [0, 1].
        truth: Of the same shape.
        counts: (height, width) bool, which pixels count; None: all.

    Returns:
        dB over both halves; that without a fit where a half has nothing that counts.
    """
    counts = np.ones(image.shape[:2], bool) if counts is None else counts
    left = np.zeros_like(counts)
    left[:, : image.shape[1] // 2] = True
    halves = [counts & left, counts & ~left]
    if not all(half.any() for half in halves):
        return psnr(image[counts], truth[counts])
    fitted = np.array(image, np.float64)
    for own, other in (halves, halves[::-1]):
        for channel in range(3):
            terms = np.stack([image[other][:, channel], np.ones(other.sum())], 1)
            factors = np.linalg.lstsq(terms, truth[other][:, channel], rcond=None)[0]
            fitted[own, channel] = np.clip(image[own][:, channel] * factors[0] + factors[1], 0, 1)
    return psnr(fitted[counts], truth[counts])
