"""Faults on purpose, many of them: `python -m tests.benchmarks.faults --out DIR`.

The parts are those of --only: `kills` (200 SIGKILLs at random moments of all jobs), `readers` (200,000 damaged inputs a
reader, in processes that may take 2 s and 1 GiB for each), `haul` (300 jobs in one worker), `pictures` (the largest
photos that are taken), `names` (20,000 photos of one name). Each writes what it counted into DIR/result.json as soon as
it is done; a part that is there from before stays unless it is run again. The inputs that broke a reader go to
DIR/found. Exit status 1 where a bar is missed. Linux.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.names import unique_names
from in2n_blender.workspace.files import write_json
from tests.faults.long_haul import haul
from tests.faults.mutations import mutated_text
from tests.faults.readers import READERS, Reader, engine_readers

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "in2n_blender" / "data" / "demo_capture"
SECONDS, MEMORY = 2.0, 1 << 30  # of one input
WARM_UP = 3  # cycles of the long haul after which the memory is at its level
MOST_GROWTH = 0.05


@dataclass(frozen=True)
class Bar:
    """A number and what it is held to."""

    name: str
    value: float
    bar: str
    holds: bool


# --- kills


def kills(out: Path, count: int) -> list[Bar]:
    """Kill jobs at `count` random moments in all."""
    from tests.faults.kills import Killer  # here, because torch takes seconds to load, and most parts need none of it

    folder = out / "kills"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    killer, found = Killer(folder), []
    try:
        jobs = list(killer.points)
        for number, job in enumerate(jobs):
            share = count // len(jobs) + (number < count % len(jobs))
            for kill in killer.kills(job, share, seed=number) if share else ():
                found.append(kill)
                print(f"{len(found)} of {count}: {kill}", flush=True)
    finally:
        killer.close()
    shutil.rmtree(folder, ignore_errors=True)
    unequal, left = sum(not kill.equal for kill in found), sum(kill.left for kill in found)
    lost = max(kill.lost for kill in found)
    return [
        Bar("kills", len(found), f"{count}", len(found) == count),
        Bar("kills after which a result differs", unequal, "0", unequal == 0),
        Bar("files left that are not whole", left, "0", left == 0),
        Bar("seconds of work that a kill can cost at most", lost, "<= 30", lost <= 30),
    ]


# --- readers


def readers(out: Path, count: int) -> list[Bar]:
    """Give every reader `count` damaged inputs."""
    (out / "found").mkdir(parents=True, exist_ok=True)
    total = bad = 0
    for reader in [*READERS, *engine_readers()]:
        done, failures = _in_a_child(reader.name, count, out)
        total, bad = total + done, bad + failures
        print(f"{reader.name}: {done} inputs, {failures} found", flush=True)
    each = total / len([*READERS, *engine_readers()])
    return [
        Bar("damaged inputs a reader", round(each), f"{count}", each >= count),
        Bar("damaged inputs in all", total, f"> {count}", total > count),
        Bar("inputs that were no In2nError, or took 2 s or 1 GiB", bad, "0", bad == 0),
    ]


def _in_a_child(name: str, count: int, out: Path) -> tuple[int, int]:
    """In a process that is started anew behind the input that ended it."""
    context, done, failures = multiprocessing.get_context("fork"), 0, 0
    while done < count:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_feed, args=(name, done, count, out, theirs))
        process.start()
        theirs.close()
        before = done
        while True:
            try:
                if not ours.poll(60):
                    process.kill()
                    failures, done = failures + 1, done + 1
                    break
                done, new = ours.recv()
                failures += new
            except EOFError:
                break
        process.join()
        if done < count and done == before:  # it fell at once
            failures, done = failures + 1, done + 1
    return done, failures


def _feed(name: str, first: int, count: int, out: Path, told) -> None:
    reader = next(reader for reader in [*READERS, *engine_readers()] if reader.name == name)
    folder = out / "inputs" / name.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    file = reader.write(folder)
    whole = file.read_bytes()
    limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (max(limit, 4 << 30), resource.RLIM_INFINITY))
    for number in range(first, count):
        data = mutated_text(whole, random.Random(number))
        found = int(not _is_handled(reader, file, data))
        if found:
            (out / "found" / f"{name.replace(' ', '-')}-{number}").write_bytes(data)
        if found or number % 100 == 99 or number + 1 == count:
            told.send((number + 1, found))
    shutil.rmtree(folder, ignore_errors=True)


def _is_handled(reader: Reader, file: Path, data: bytes) -> bool:
    file.write_bytes(data)
    began = time.process_time()
    try:
        reader.read(file)
    except In2nError as error:
        if not (error.message and error.hint):
            return False
    except reader.raises:
        pass
    except BaseException as error:
        print(f"{reader.name}: {type(error).__name__}: {error}"[:200], flush=True)
        return False
    return time.process_time() - began < SECONDS


# --- the long haul


def long_haul(out: Path, count: int) -> list[Bar]:
    """Do `count` jobs in one worker."""
    folder = out / "haul"
    shutil.rmtree(folder, ignore_errors=True)
    capture = small_capture(folder / "capture")
    held = []
    for after in haul(count, folder / "ws", capture, folder / "worker.log"):
        held.append(after)
        print(f"{len(held)} of {count}: {after}", flush=True)
    write_json(out / "haul.json", {"held": [asdict(after) for after in held]})
    cycle = len({after.method for after in held}) + 2  # reconstructing and editing come twice
    first, last = held[(WARM_UP - 1) * cycle : WARM_UP * cycle], held[-cycle:]
    level = max(after.megabytes for after in first)
    growth = max(after.megabytes for after in last) / level - 1
    handles = max(after.handles for after in last) - max(after.handles for after in first)
    threads = max(after.threads for after in last) - max(after.threads for after in first)
    return [
        Bar("jobs in one worker", len(held), f"{count}", len(held) == count),
        Bar("growth of its memory", round(growth, 4), f"<= {MOST_GROWTH}", growth <= MOST_GROWTH),
        Bar("its memory in MB", level, "", True),
        Bar("growth of its handles", handles, "<= 0", handles <= 0),
        Bar("growth of its threads", threads, "<= 0", threads <= 0),
    ]


def small_capture(folder: Path, photos: int = 8) -> Path:
    """Some photos of the bundled capture.

    Args:
        folder: Where they go.
        photos: How many.
    """
    (folder / "images").mkdir(parents=True)
    table = json.loads((DEMO / "transforms.json").read_text(encoding="utf-8"))
    table = {key: value for key, value in table.items() if not key.endswith("_filenames")}
    table["frames"] = table["frames"][:: len(table["frames"]) // photos][:photos]
    for frame in table["frames"]:
        shutil.copy(DEMO / frame["file_path"], folder / frame["file_path"])
    shutil.copy(DEMO / "points.ply", folder)
    write_json(folder / "transforms.json", table)
    return folder


# --- pictures and names

PEAK = """
import resource, sys
from pathlib import Path
from in2n_blender.engine.importing import normalise_capture
from in2n_blender.link.requests import ImportCapture
from in2n_blender.scene.reporting import Reporter
capture = normalise_capture(ImportCapture(workspace=sys.argv[2], source=sys.argv[1], preset="draft"), Reporter())
print(len(capture.views), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def pictures(out: Path, count: int) -> list[Bar]:
    """Import `count` black photos of 104 million pixels with a distorted lens, and bombs of 177 million."""
    import numpy as np
    from PIL import Image

    bars = []
    for name, side, taken in (("the largest photos", 10_200, True), ("decompression bombs", 13_300, False)):
        folder = out / "pictures"
        shutil.rmtree(folder, ignore_errors=True)
        capture = small_capture(folder / "capture", max(count, 4))
        table = json.loads((capture / "transforms.json").read_text(encoding="utf-8"))
        table |= {"w": side, "h": side, "cx": side / 2, "cy": side / 2, "fl_x": side, "fl_y": side, "k1": 0.01}
        write_json(capture / "transforms.json", table)
        Image.MAX_IMAGE_PIXELS = None
        first = capture / table["frames"][0]["file_path"]
        Image.fromarray(np.zeros((side, side), np.uint8)).convert("RGB").save(first, compress_level=9)
        for frame in table["frames"][1:]:
            shutil.copy(first, capture / frame["file_path"])
        began = time.monotonic()
        command = [sys.executable, "-c", PEAK, str(capture), str(folder / "ws")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        peak = float(done.stdout.split()[-1]) if done.returncode == 0 else None
        said = done.stderr.strip().splitlines()[-1:] or [""]
        print(f"{name}: {peak} MB, {time.monotonic() - began:.0f} s {said[0][:150]}", flush=True)
        if taken:
            bars.append(
                Bar("peak memory in MB of importing " + name, round(peak or -1), "< 1500", 0 < (peak or -1) < 1500)
            )
        else:
            refused = done.returncode != 0 and "too_few_photos" not in said[0] and "In2nError" in done.stderr
            bars.append(Bar(f"{name} that are named and left out", int(refused), "1", refused))
        shutil.rmtree(folder, ignore_errors=True)
    return bars


def names(out: Path, count: int) -> list[Bar]:
    """Tell `count` photos of one name apart."""
    began = time.process_time()
    found = unique_names(["images/photo.png"] * count)
    seconds = round(time.process_time() - began, 3)
    whole = len(set(found)) == count
    return [Bar(f"seconds to tell {count} photos of one name apart", seconds, "< 1", whole and seconds < 1)]


PARTS: dict[str, tuple[Callable[[Path, int], list[Bar]], int]] = {
    "names": (names, 20_000),
    "pictures": (pictures, 4),
    "kills": (kills, 200),
    "readers": (readers, 200_000),
    "haul": (long_haul, 300),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where result.json goes")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="which parts (default: all)")
    parser.add_argument("--count", type=int, help="how many of what a part counts (default: as the bars want)")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "result.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for name in given.only:
        part, usual = PARTS[name]
        began = time.monotonic()
        results[name] = [asdict(bar) for bar in part(given.out, given.count or usual)]
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        write_json(file, results)
    bars = [bar for part in results.values() for bar in part]
    for bar in bars:
        print(f"{'holds ' if bar['holds'] else 'MISSED'} {bar['name']}: {bar['value']} ({bar['bar']})")
    return 0 if all(bar["holds"] for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
