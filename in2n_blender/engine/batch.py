"""The job `batch`: whole runs, each by one worker of a cluster from its photos to its summary.

What runs share (a capture's import, its reconstruction, its camera paths) is a piece of work of its own, and those runs
wait for it. A run whose worker died goes on elsewhere from what was saved. Edits of one reconstruction are made side by
side in one workspace: each writes into folders of its own.
"""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path

from ..link.requests import RunBatch, from_params
from ..scene.errors import Cancelled, In2nError
from ..scene.reporting import Progress, Reporter
from ..workspace.chain import BATCH_RECORD, CANCELLED, DONE, FAILED, Stage, ask_for, results_of, run_chain
from ..workspace.files import read_json, write_json
from ..workspace.stages import Stages
from .alone import alone_in
from .crew import Role
from .hiring import crew_for
from .kept import KEPT
from .worker import JOBS, as_user_error, give_back_memory, load_job

RUN_ROLE = Role(".batch:RunRole", {})
SUMMARY = "summary"


class RunRole:
    """A worker that does whole runs; the 2D model of one is kept for the next."""

    def __init__(self):
        KEPT.wanted = True

    def do(self, piece: dict, report: Reporter) -> dict:
        """Do what several runs share, or one run.

        Args:
            piece: "chains" of stages of what is shared, or "stages", "own" and "summary" of a run; "shared", the
                stages' file; "failed", why what a run needs is not there.
            report: Told of every stage and what it tells.

        Returns:
            {"state", "seconds"}, and "error" or "psnr_db": what a row of batch.json says.

        Raises:
            Cancelled.
        """
        started = time.monotonic()
        try:
            if piece.get("failed"):
                raise In2nError("not_trained", piece["failed"], "")
            found = self._shared(piece, report) if "chains" in piece else self._run(piece, report)
            found = {"state": DONE, **found}
        except Cancelled:
            raise
        except Exception as error:
            found = {"state": FAILED, "error": _reason(error)}
        return {**found, "seconds": round(time.monotonic() - started, 1)}

    def _shared(self, piece: dict, report: Reporter) -> dict:
        for chain in piece["chains"]:
            stages = Stages(piece["shared"])
            run_chain(_stages(chain), stages, stages, lambda stage: _ask(stage.method, stage.params, report))
        return {}

    def _run(self, piece: dict, report: Reporter) -> dict:
        shared, own = Stages(piece["shared"]), Stages(piece["own"])
        ask = lambda stage: _ask(stage.method, stage.params, report)
        called = run_chain(_stages(piece["stages"]), shared, own, ask)
        file = Path(piece["summary"]["out"]) / "report.json"
        if called or not file.is_file():
            _ask(SUMMARY, {**piece["summary"], "results": results_of(shared, own)}, report)
        return {"psnr_db": read_json(file).get("reconstruction", {}).get("psnr_db")}


def run_batch(request: RunBatch, report: Reporter) -> dict:
    """Do all runs of a batch, on the workers of a cluster or one after the other in this process.

    Args:
        request: The runs and where it stands how each is.
        report: Told of each run's stages and end, and asked whether the job was cancelled.

    Returns:
        {"done", "failed"}: how many.

    Raises:
        In2nError: "no_ray", "no_cluster", "worker_died", "disk_full", "cannot_write".
        Cancelled: What was made is saved.
    """
    batch = _Batch(request, report)
    with alone_in(request.out, report), crew_for(RUN_ROLE, request.cluster, request.workers, report) as crew:
        try:
            crew.do_all(batch.pieces, report, ended=batch.ended, told=batch.told, after=batch.after)
        except BaseException:
            batch.stopped()
            raise
    states = [row["state"] for row in batch.rows]
    return {"done": states.count(DONE), "failed": states.count(FAILED)}


class _Batch:
    """How far the runs are. pieces: what is shared, and then the runs; after: which of the former the latter need."""

    def __init__(self, request: RunBatch, report: Reporter):
        self._request, self._report = request, report
        grounds, runs = request.plan["shared"], request.plan["runs"]
        self._runs_from = len(grounds)
        self.names = [*(f"{name} (shared)" for name in grounds), *(run["row"]["name"] for run in runs)]
        self.rows = [run["row"] for run in runs]
        self.pieces = [{"chains": ground["chains"], "shared": ground["file"]} for ground in grounds.values()]
        self.after = {}
        for run in runs:
            self.after[len(self.pieces)] = [list(grounds).index(run["ground"])]
            self.pieces.append(
                {
                    "stages": run["stages"],
                    "shared": grounds[run["ground"]]["file"],
                    "own": run["own"],
                    "summary": run["summary"],
                }
            )
        self._now: dict[int, str] = {}  # what the pieces that are being done do
        self._begun: set[int] = set()
        self._ended: set[int] = set()

    def ended(self, number: int, found: dict) -> None:
        """A piece has ended. Those that cannot be done without it, and have not begun, are told why.

        Args:
            number: The piece's.
            found: What the role returned.
        """
        self._now.pop(number, None)
        self._ended.add(number)
        if number < self._runs_from:
            if found["state"] == FAILED:
                for dependent, needed in self.after.items():
                    if number in needed:
                        self.pieces[dependent]["failed"] = found["error"]
        else:
            row = self.rows[number - self._runs_from]
            row.pop("error", None)
            row.update(found, seconds=round(row.get("seconds", 0.0) + found["seconds"], 1))
            self._write()
        state = found["state"] + (f", {found['error']}" if "error" in found else "")
        self._report.log(f"{self.names[number]}: {state} ({found['seconds']:.0f} s)")
        self._progress()

    def told(self, number: int, event: object) -> None:
        """What a piece reports is shown with its name.

        Args:
            number: The piece's.
            event: What its Reporter was told; files that were made are in its folders.
        """
        self._begun.add(number)
        if isinstance(event, Progress):
            if number in self._ended:  # what was told last may come late
                return
            share = f" {100 * event.done // event.total} %" if event.total > 0 else ""
            self._now[number] = f"{self.names[number]}: {event.message}{share}"
            self._progress()
        elif isinstance(event, str):
            self._report.log(f"{self.names[number]}: {event}")

    def stopped(self) -> None:
        """The runs that had begun say that they were stopped."""
        for number in self._begun - self._ended:
            if number >= self._runs_from:
                self.rows[number - self._runs_from]["state"] = CANCELLED
        self._write()

    def _progress(self) -> None:
        ended = sum(row["state"] in (DONE, FAILED) for row in self.rows)
        self._report.progress(ended, len(self.rows), "runs", "; ".join(self._now[n] for n in sorted(self._now)))

    def _write(self) -> None:
        write_json(Path(self._request.out) / BATCH_RECORD, {"runs": self.rows})


def _stages(plain: list[dict]) -> list[Stage]:
    return [Stage(**stage) for stage in plain]


def _ask(method: str, params: dict, report: Reporter) -> dict:
    """Do a job of the engine's in this process, as its worker does. An edit of the same name is made anew."""
    request = from_params(method, params)
    report.log(method)
    work = load_job(JOBS[method])
    try:
        return ask_for(request, lambda asked: work(asked, report), report.log)
    finally:
        KEPT.job_ended()
        give_back_memory()


def _reason(error: Exception) -> str:
    known = as_user_error(error)
    if known is not None:
        return known.message
    traceback.print_exc(file=sys.stderr)
    return f"A mistake in the program: {type(error).__name__}: {error}"
