"""What workers of a cluster gain, on this machine: a part of `tests.benchmarks.scale`.

Small whole jobs, which compute, on one and on two workers; and a round of edits by an editor that sleeps for a second
an edit in place of a GPU, so that what is left of the time is what handing the work out costs.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import matplotlib
import torch

from in2n_blender.cli.batch import plan_of, read_table
from in2n_blender.engine.batch import run_batch
from in2n_blender.engine.crew import Role
from in2n_blender.engine.diffusion.editor import noise_generator
from in2n_blender.engine.editing.crewed import CrewedEditor
from in2n_blender.engine.hiring import crew_for
from in2n_blender.link.requests import RunBatch
from in2n_blender.scene.reporting import Reporter

matplotlib.use("agg")
from matplotlib import pyplot

CAPTURE = Path(__file__).resolve().parents[2] / "in2n_blender" / "data" / "demo_capture"
JOBS = 6
WORKERS = (2, 4, 8, 16)
VIEWS, SIZE, SECONDS = 64, 512, 1.0  # of a round of edits


def side_by_side(out: Path) -> list[dict]:
    """All bars.

    Args:
        out: Gets the plot, and what the jobs make.

    Returns:
        Lines of the result.
    """
    found = efficiencies()
    plot(found, out / "efficiency.png")
    seconds = {workers: batch_seconds(out / f"batch-{workers}", workers) for workers in (1, 2)}
    share = seconds[2] / seconds[1]
    return [
        *(at_least(f"efficiency_of_{workers}_workers", found[workers], 0.9) for workers in WORKERS),
        {
            "name": f"{JOBS}_jobs_on_2_workers_as_a_share_of_1",
            "value": round(share, 3),
            "bar": "<= 0.6",
            "holds": share <= 0.6,
            "seconds": {str(workers): round(value, 1) for workers, value in seconds.items()},
            "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        },
    ]


def at_least(name: str, value: float, least: float) -> dict:
    """A line of the result."""
    return {"name": name, "value": round(value, 3), "bar": f">= {least:g}", "holds": value >= least}


def efficiencies() -> dict[int, float]:
    """Number of workers -> the share of their time in which they edit: edits x seconds / (workers x time)."""
    found = {}
    photo = torch.rand(1, 3, SIZE, SIZE)
    calls = [
        {"render": photo, "original": photo, "noise_level": [0.5], "generators": [noise_generator(0, view, 0)]}
        for view in range(VIEWS)
    ]
    for workers in WORKERS:
        role = Role("tests.scale.roles:Sleeping", {"seconds": SECONDS}, needs_gpu=False)
        with crew_for(role, "auto", workers, Reporter()) as crew:
            editor = CrewedEditor(crew, "miniature", Reporter())
            editor.edit_all(calls[:workers], Reporter())  # until all are there
            began = time.monotonic()
            editor.edit_all(calls, Reporter())
            found[workers] = VIEWS * SECONDS / (workers * (time.monotonic() - began))
        print(f"{workers} workers: {found[workers]:.3f}", flush=True)
    return found


def plot(found: dict[int, float], file: Path) -> None:
    """Efficiency by the number of workers.

    Args:
        found: As `efficiencies` gives it.
        file: Becomes a PNG.
    """
    figure, axes = pyplot.subplots(figsize=(5, 3.4), layout="constrained")
    axes.plot(list(found), list(found.values()), "o-", color="#2a6f97")
    axes.axhline(0.9, color="#999999", linestyle="--", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(found), [str(workers) for workers in found])
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("workers")
    axes.set_ylabel("share of the time spent editing")
    axes.set_title(f"A round of {VIEWS} views, {SECONDS:g} s an edit", fontsize=10)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


def batch_seconds(out: Path, workers: int) -> float:
    """Seconds that small jobs take, each with a reconstruction of its own.

    Args:
        out: The batch's folder, which is made anew.
        workers: How many do them, of one thread each.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    rows = [f"{CAPTURE},make it sunset,miniature,draft,cpu,{200 + n},1,2,24,job{n}" for n in range(JOBS)]
    heading = "capture,instruction,model,preset,device,steps,rounds,frames,mesh-resolution,name"
    (out / "table.csv").write_text("\n".join([heading, *rows]) + "\n")
    os.environ["OMP_NUM_THREADS"] = "1"
    plan = plan_of(read_table(out / "table.csv"), out)
    began = time.monotonic()
    run_batch(RunBatch(out=str(out), plan=plan, cluster="auto", workers=workers), Reporter(print))
    seconds = time.monotonic() - began
    assert all(row["state"] == "done" for row in json.loads((out / "batch.json").read_text())["runs"])
    return seconds
