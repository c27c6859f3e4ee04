"""Damaged inputs in bulk, in processes that may take a second or two and a GiB for each. Linux.

An input is changed by chance (`mutations`). Where `atheris` can be imported, which has wheels for Linux alone, its
fuzzer chooses by the code that is reached what is changed further: `python -m tests.faults.bulk NAME RUNS FOUND`.
"""

from __future__ import annotations

import atexit
import importlib.util
import multiprocessing
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from in2n_blender.scene.errors import In2nError
from tests.faults.mutations import mutated_text
from tests.faults.readers import READERS, Reader, engine_readers

SECONDS, MEMORY = 2.0, 1 << 30  # of one input
PATIENCE = 60  # seconds in which a hundred inputs are read, unless one hangs
ROOT = Path(__file__).resolve().parents[2]


def readers() -> list[Reader]:
    """All of them; torch is loaded."""
    return [*READERS, *engine_readers()]


@dataclass(frozen=True)
class Turn:
    """Inputs that a reader got one after another.

    Attributes:
        inputs: How many.
        found: How many of them were no In2nError, or took too long or too much.
        seconds: That all took.
        slowest: Seconds of the process's own time that one took at most.
        megabytes: By which the process grew at most over all of them.
    """

    inputs: int
    found: int
    seconds: float
    slowest: float
    megabytes: float


def in_a_child(name: str, first: int, count: int, found: Path) -> Turn:
    """Give a reader damaged inputs, in a process that is started anew behind the input that ended it.

    Args:
        name: The reader's.
        first: Number of the first input; the same number is the same input.
        count: How many inputs.
        found: The folder for inputs that are no In2nError, or take too long or too much.

    Returns:
        What came of them.
    """
    context, done, failures = multiprocessing.get_context("fork"), first, 0
    slowest, largest, began = 0.0, 0.0, time.monotonic()
    while done < first + count:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_feed, args=(name, done, first + count, found, theirs))
        process.start()
        theirs.close()
        before = done
        while True:
            try:
                if not ours.poll(PATIENCE):
                    process.kill()
                    failures, done = failures + 1, done + 1
                    break
                done, new, seconds, megabytes = ours.recv()
                failures, slowest, largest = failures + new, max(slowest, seconds), max(largest, megabytes)
            except EOFError:
                break
        process.join()
        if done < first + count and done == before:  # it fell at once
            failures, done = failures + 1, done + 1
    return Turn(done - first, failures, round(time.monotonic() - began, 1), round(slowest, 3), round(largest, 1))


def _feed(name: str, first: int, end: int, found: Path, told) -> None:
    reader, file = _written(name)
    whole = file.read_bytes()
    _limit_memory()
    before, slowest = _peak(), 0.0
    for number in range(first, end):
        data = mutated_text(whole, random.Random(number))
        began = time.process_time()
        bad = _told(reader, file, data, found / f"{name.replace(' ', '-')}-{number}")
        slowest = max(slowest, time.process_time() - began)
        if bad or number % 100 == 99 or number + 1 == end:
            told.send((number + 1, int(bad), slowest, _peak() - before))
    shutil.rmtree(file.parent, ignore_errors=True)


def _written(name: str) -> tuple[Reader, Path]:
    reader = next(reader for reader in readers() if reader.name == name)
    return reader, reader.write(Path(tempfile.mkdtemp(prefix="in2n-bulk-", dir="/dev/shm")))


def _peak() -> float:
    """The most memory that this process has held, in MB; a fork begins with what it holds then."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def _told(reader: Reader, file: Path, data: bytes, found: Path) -> bool:
    """Whether the input is one that should not be, which is kept."""
    why = what_is_wrong(reader, file, data)
    if why:
        found.parent.mkdir(parents=True, exist_ok=True)
        found.write_bytes(data)
        print(f"{reader.name}: {why}"[:200], file=sys.stderr, flush=True)
    return bool(why)


def what_is_wrong(reader: Reader, file: Path, data: bytes) -> str:
    """Let a reader read an input.

    Args:
        reader: Of `readers`.
        file: Where it is written.
        data: The input.

    Returns:
        "" where it is read or an error as it should be, in time; else what happened.
    """
    file.write_bytes(data)
    began = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(file)
    except In2nError as error:
        if not (error.message and error.hint):
            return "an error that says nothing"
    except reader.raises:
        pass
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    seconds = time.process_time() - began
    return "" if seconds < SECONDS else f"{seconds:.1f} s"


def has_fuzzer() -> bool:
    """Whether atheris can be imported."""
    return importlib.util.find_spec("atheris") is not None


def fuzz(name: str, runs: int, found: Path) -> Turn:
    """Let atheris choose inputs for a reader.

    Args:
        name: The reader's.
        runs: How many inputs.
        found: As for `in_a_child`.

    Returns:
        What came of the inputs that it gave.
    """
    began = time.monotonic()
    command = [sys.executable, "-m", __name__, name, str(runs), str(found)]
    before = len(list(found.iterdir())) if found.is_dir() else 0
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    given = re.findall(r"Done (\d+) runs|#(\d+)\t", done.stderr)
    count = max((int(a or b) for a, b in given), default=0)
    new = len(list(found.iterdir())) - before if found.is_dir() else 0
    ended_early = done.returncode != 0 and new == 0
    if ended_early:
        print(done.stderr[-400:], flush=True)
    measured = re.search(r"slowest ([\d.]+) s, ([\d.]+) MB", done.stderr)
    slowest, megabytes = map(float, measured.groups()) if measured else (0.0, 0.0)
    return Turn(count, new + int(ended_early), round(time.monotonic() - began, 1), slowest, megabytes)


def _fuzz_here(name: str, runs: int, found: Path) -> None:
    import atheris  # only where it is asked for

    with atheris.instrument_imports(include=["in2n_blender.scene", "in2n_blender.workspace", "in2n_blender.models"]):
        for module in [module for module in sys.modules if module.startswith(("in2n_blender", "tests."))]:
            del sys.modules[module]
        from tests.faults import bulk as instrumented

    reader, file = instrumented._written(name)
    seeds = Path(tempfile.mkdtemp(prefix="in2n-seeds-", dir="/dev/shm"))
    (seeds / "whole").write_bytes(file.read_bytes())
    numbers = iter(range(1 << 62))
    place = found / f"{name.replace(' ', '-')}-fuzzed-{os.getpid()}"

    before, slowest = _peak(), [0.0]

    def read(data: bytes) -> None:
        began = time.process_time()
        instrumented._told(reader, file, data, place.with_name(f"{place.name}-{next(numbers)}"))
        slowest[0] = max(slowest[0], time.process_time() - began)

    def tell() -> None:
        print(f"slowest {slowest[0]:.3f} s, {_peak() - before:.1f} MB", file=sys.stderr, flush=True)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.5:
            return atheris.Mutate(data, most)
        return mutated_text(data, chance)[:most]

    options = [
        f"-runs={runs}",
        "-max_len=65536",
        "-rss_limit_mb=0",
        "-timeout=60",
        "-print_final_stats=1",
        "-verbosity=1",
    ]
    _limit_memory()
    atexit.register(tell)
    atheris.Setup([sys.argv[0], *options, str(seeds)], read, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    _fuzz_here(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
