"""A crew on a cluster, by Ray's actors (https://docs.ray.io/en/latest/ray-core/actors.html).

Only Ray's core is used: no dashboard, no statistics. A cluster of this machine alone ends with the job; its processes
listen on ports, behind Ray's token. Actors are pieces of this package that Ray starts on the cluster's machines, so
that the engine has to be there in the same folder and of the same versions, and the workspace under the same path.
Between its own processes Ray uses pickle: a cluster is trusted as this machine is.

A worker that dies (its machine is switched off, the system ends it because memory ran out) is replaced, and its piece
is done again. A piece that ends one worker after another is to blame itself.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..scene.errors import Cancelled, In2nError
from ..scene.reporting import Reporter
from .crew import Crew, Role, Told, event_of, result_of

AUTOMATIC = "auto"  # a cluster of this machine alone, or the one that $RAY_ADDRESS names
PACKAGE = Path(__file__).resolve().parents[1]
LOOPBACK = "127.0.0.1"
OBJECT_STORE = 512 * 2**20  # bytes, of a cluster of this machine: pieces and results on their way
MOST_TRIES = 3  # workers that may die over one piece
PATIENCE = 1.5  # seconds that workers get to notice that they were cancelled
LOOK_EVERY = 0.1  # seconds between two looks whether the job was cancelled
NEWS_EVERY = 0.5
# What workers elsewhere are told of this process's environment.
HANDED_ON = ("IN2N_", "HF_", "OMP_", "PYTORCH_")


@dataclass
class _Worker:
    """actor: Ray's handle. news: what was asked for and did not come yet. piece: what it does, tried so many times."""

    actor: object
    news: object = None
    piece: int | None = None


class RayCrew(Crew):
    """Workers of a cluster.

    Args:
        role: What they are.
        cluster: AUTOMATIC or an address.
        workers: How many; None: as many as the cluster has GPUs (where the role needs some) or processor cores.
        report: Asked whether the job was cancelled, and told what is waited for.

    Raises:
        In2nError: "no_ray", "no_cluster".
    """

    def __init__(self, role: Role, cluster: str, workers: int | None, report: Reporter):
        self._ray, self._role = _ray(), role
        self._started = connect(self._ray, cluster, workers, report)
        resources = self._ray.cluster_resources()
        gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        on_gpus = role.needs_gpu and gpus > 0
        self.workers = workers or max(1, gpus if on_gpus else cores)
        share = {"num_gpus": min(1.0, gpus / self.workers)} if on_gpus else {}
        # Threads follow from it, where nothing else says how many. Of a cluster's machines nobody knows the cores here.
        self._options = {"num_cpus": max(1, cores // self.workers) if self._started else 1, **share}
        self._hired: list[_Worker] = []

    def do_all(self, pieces, report, *, ended=None, told=None, after=None) -> list:
        work = _Work(list(pieces), {number: set(others) for number, others in (after or {}).items()})
        looked = time.monotonic()
        try:
            while work.unfinished:
                report.check()
                self._hand_out(work)
                for number in self._collect(work, report, told):
                    if ended:
                        ended(number, work.results[number])
                if told and time.monotonic() - looked > NEWS_EVERY:
                    looked = time.monotonic()
                    self._pass_news_on(told)
        except BaseException:  # cancelled, or a piece failed: nobody waits for the others
            self._stop(work)
            raise
        return [work.results[number] for number in range(len(work.pieces))]

    def close(self) -> None:
        for worker in self._hired:
            with suppress(Exception):  # of Ray's, where it is gone already
                self._ray.kill(worker.actor)
        self._hired = []
        if self._started:
            self._ray.shutdown()
            self._started = False

    def _hand_out(self, work: _Work) -> None:
        for number in work.ready():
            worker = next((worker for worker in self._hired if worker.piece is None), None)
            if worker is None:
                if len(self._hired) == self.workers:
                    return
                worker = _Worker(self._new_actor())
                self._hired.append(worker)
            work.waiting.remove(number)
            worker.piece = number
            work.running[worker.actor.do.remote(work.pieces[number])] = worker

    def _collect(self, work: _Work, report: Reporter, told: Told | None) -> list[int]:
        """The numbers of the pieces that have ended meanwhile; waits a moment where there are none."""
        if not work.running:
            return []
        ready, _ = self._ray.wait(list(work.running), timeout=LOOK_EVERY)
        if ready:
            ready, _ = self._ray.wait(list(work.running), num_returns=len(work.running), timeout=0)
        ended = []
        for reference in ready:
            worker = work.running.pop(reference)
            number, worker.piece = worker.piece, None
            try:
                outcome, news = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                self._replace(worker, number, work, error, report)
                continue
            for each in news if told else ():
                told(number, event_of(each))
            work.results[number] = result_of(outcome)
            ended.append(number)
        return ended

    def _replace(self, worker: _Worker, number: int, work: _Work, error: Exception, report: Reporter) -> None:
        self._hired.remove(worker)
        with suppress(Exception):
            self._ray.kill(worker.actor)
        work.tries[number] = work.tries.get(number, 0) + 1
        if work.tries[number] == MOST_TRIES:
            raise In2nError(
                "worker_died",
                f"{MOST_TRIES} workers of the cluster died over one piece of work: {_first_sentence(error)}.",
                "Often memory ended there: use fewer workers, or see the cluster's logs. The same command goes on.",
            ) from error
        report.log("A worker of the cluster died. What it did is done again.")
        work.waiting.insert(0, number)

    def _pass_news_on(self, told: Told) -> None:
        for worker in [worker for worker in self._hired if worker.piece is not None]:
            if worker.news is None:
                worker.news = worker.piece, worker.actor.news.remote()
                continue
            number, reference = worker.news
            if self._ray.wait([reference], timeout=0)[0]:
                worker.news = None
                with suppress(self._ray.exceptions.RayError):  # it died, which is noticed where its piece is collected
                    for each in self._ray.get(reference):
                        told(number, event_of(each))

    def _stop(self, work: _Work) -> None:
        """Cancel what runs; what does not end is ended."""
        for worker in work.running.values():
            with suppress(Exception):
                worker.actor.cancel.remote()
        if not work.running:
            return
        with suppress(Exception):
            _, left = self._ray.wait(list(work.running), num_returns=len(work.running), timeout=PATIENCE)
            for reference in left:
                worker = work.running[reference]
                self._hired.remove(worker)
                self._ray.kill(worker.actor)
        for worker in work.running.values():
            worker.piece = None

    def _new_actor(self):
        options = {"max_restarts": 0, "max_concurrency": 3, **self._options}  # to be asked while a piece is done
        return _actor_class(self._ray).options(**options).remote(str(PACKAGE), self._role.place, self._role.arguments)


@dataclass
class _Work:
    """How far pieces of work are.

    Attributes:
        pieces: All of them.
        after: Piece -> those that must have ended before.
        waiting: Pieces that nobody does, in the order in which they are handed out.
        running: Ray's reference to a result -> who makes it.
        results: Piece -> what it gave.
        tries: Piece -> how many workers died over it.
    """

    pieces: list[dict]
    after: dict[int, set[int]]
    waiting: list[int] = field(default_factory=list)
    running: dict[object, _Worker] = field(default_factory=dict)
    results: dict[int, object] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)

    def __post_init__(self):
        self.waiting = list(range(len(self.pieces)))

    @property
    def unfinished(self) -> bool:
        return len(self.results) < len(self.pieces)

    def ready(self) -> list[int]:
        """Pieces that wait for no other."""
        return [number for number in self.waiting if self.after.get(number, set()) <= self.results.keys()]


def _ray():
    """Ray, which is loaded by whoever asks for a cluster alone. Raises In2nError("no_ray")."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DEDUP_LOGS="0")
    try:
        import ray
    except ImportError:
        raise In2nError(
            "no_ray",
            "The engine has no Ray, by which it works on a cluster.",
            "Install it: python3 -m in2n_blender install --with ray.",
        ) from None
    return ray


def connect(ray, cluster: str, workers: int | None, report: Reporter) -> bool:
    """Be part of a cluster, which is started where it is of this machine alone.

    Args:
        ray: The package.
        cluster: AUTOMATIC or an address.
        workers: How many there are to be room for; None: as many as there are cores.
        report: Told what is waited for, and asked whether the job was cancelled.

    Returns:
        Whether that has to be ended; not where this process was part of one.

    Raises:
        In2nError: "no_cluster".
        Cancelled.
    """
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS") if cluster == AUTOMATIC else cluster
    report.progress(0, 0, "", "Reaching the cluster" if address else "Starting a cluster on this machine")
    quiet = {"log_to_driver": False, "configure_logging": False, "include_dashboard": False}
    try:
        if address:
            told = {name: value for name, value in os.environ.items() if name.startswith(HANDED_ON)}
            del quiet["include_dashboard"]
            ray.init(address=address, runtime_env={"env_vars": told}, **quiet)
        else:
            cores = max(os.cpu_count() or 1, workers or 1)
            ray.init(num_cpus=cores, _node_ip_address=LOOPBACK, object_store_memory=OBJECT_STORE, **quiet)
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"at “{address}”" if address else "on this machine"
        raise In2nError(
            "no_cluster",
            f"There is no cluster {where}: {_first_sentence(error)}.",
            "Start one with `ray start --head`, and name its address; or give --cluster auto, or leave it out.",
        ) from error
    try:
        report.check()
    except Cancelled:
        ray.shutdown()
        raise
    return True


def _actor_class(ray):
    """What Ray starts on a machine; of a function's own, so that Ray sends it whole: nothing is imported there yet."""

    class Remote:
        def __init__(self, package, place, arguments):
            import importlib.util
            import os
            import sys

            os.environ.setdefault("OMP_WAIT_POLICY", "passive")
            name = "in2n_blender"  # whatever its folder is called
            if name not in sys.modules:
                spec = importlib.util.spec_from_file_location(
                    name, os.path.join(package, "__init__.py"), submodule_search_locations=[package]
                )
                sys.modules[name] = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(sys.modules[name])
            self._seat = importlib.import_module(f"{name}.engine.crew").Seat(place, arguments)

        def do(self, piece):
            return self._seat.do(piece)

        def news(self):
            return self._seat.news()

        def cancel(self):
            self._seat.cancel()

    return ray.remote(Remote)


def _first_sentence(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".")[:200]
