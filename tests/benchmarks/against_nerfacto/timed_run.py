"""The loop that both sides of the comparison are trained by. Needs numpy alone, since it runs in two environments."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

WARM_UP = 3  # steps that are not counted in rays a second: caches fill, kernels compile


class TimedRun:
    """Trains by the clock and keeps what the held-out views look like at given times; evaluating does not count.

    step: one optimiser step of rays_a_step rays. render: the held-out views, {name: {"rgb": (h, w, 3), "depth": (h,
    w)}}. checkpoints: seconds of training after which the views are rendered; they are rendered at the end in any case.
    Ends after `seconds` of training or `steps` steps, whichever comes first (None: never).
    """

    def __init__(
        self,
        out: Path,
        step: Callable[[], None],
        render: Callable[[], dict[str, dict[str, np.ndarray]]],
        rays_a_step: int,
        checkpoints: list[float],
        seconds: float | None = None,
        steps: int | None = None,
    ):
        self.out, self.step, self.render, self.rays_a_step = out, step, render, rays_a_step
        self.left, self.most_seconds, self.most_steps = sorted(checkpoints), seconds, steps
        self.elapsed, self.made, self.warm_seconds, self.points = 0.0, 0, 0.0, []
        self._said = time.monotonic()

    def run(self) -> dict:
        """Returns what `result` says."""
        while not self._over():
            started = time.perf_counter()
            self.step()
            self.elapsed += time.perf_counter() - started
            self.made += 1
            if self.made == WARM_UP:
                self.warm_seconds = self.elapsed
            if self.left and self.elapsed >= self.left[0] and not self._over():
                while self.left and self.elapsed >= self.left[0]:
                    self.left.pop(0)
                self._evaluate()
            self._say()
        self._evaluate()
        return self.result()

    def _over(self) -> bool:
        return (self.most_seconds is not None and self.elapsed >= self.most_seconds) or (
            self.most_steps is not None and self.made >= self.most_steps
        )

    def _evaluate(self) -> None:
        started = time.perf_counter()
        views = self.render()
        taken = time.perf_counter() - started
        rays = sum(view["depth"].size for view in views.values())
        name = f"{self.made:06d}.npz"
        self.out.mkdir(parents=True, exist_ok=True)
        np.savez(
            self.out / name,
            **{
                f"{view}/{kind}": values.astype(np.float32)
                for view, kinds in views.items()
                for kind, values in kinds.items()
            },
        )
        self.points.append(
            {
                "seconds": round(self.elapsed, 2),
                "steps": self.made,
                "file": name,
                "render_rays_per_second": round(rays / taken, 1) if rays else None,
            }
        )
        self._say(always=True)

    def result(self) -> dict:
        """points: [{"seconds", "steps", "file", "render_rays_per_second"}], rays_per_second, seconds, steps,
        peak_memory_mb of this process."""
        warm, warm_seconds = (WARM_UP, self.warm_seconds) if self.made > WARM_UP else (0, 0.0)
        return {
            "points": self.points,
            "seconds": round(self.elapsed, 2),
            "steps": self.made,
            "rays_a_step": self.rays_a_step,
            "rays_per_second": round((self.made - warm) * self.rays_a_step / (self.elapsed - warm_seconds), 1),
            "peak_memory_mb": round(peak_memory_mb()),
        }

    def _say(self, always: bool = False) -> None:
        if always or time.monotonic() - self._said > 10:
            self._said = time.monotonic()
            print(f"  {self.elapsed:.0f} s, step {self.made}, {len(self.points)} evaluations", flush=True)


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of `count` indices, evenly spread."""
    wanted = min(count, wanted)
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]


def peak_memory_mb() -> float:
    """The largest resident memory that this process has had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def read_job() -> dict:
    """The job whose file is the script's only argument."""
    return json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))


def write_result(job: dict, result: dict) -> None:
    """result.json in the job's folder, written last: where it is, the run is whole."""
    file = Path(job["out"]) / "result.json"
    file.with_suffix(".part").write_text(json.dumps(result, indent=1), encoding="utf-8")
    file.with_suffix(".part").replace(file)
