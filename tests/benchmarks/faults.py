"""Faults on purpose, many of them: `python -m tests.benchmarks.faults --out DIR`.

The parts are those of --only: `names` (20,000 photos of one name), `pictures` (the largest photos that are taken),
`disks` (every job on a disk that fills up at each of its writes), `kills` (200 SIGKILLs at random moments of all jobs),
`processes` (the same to the command line, the worker, an installation and Blender, by the clock), `readers` (200,000
damaged inputs a reader, in processes that may take 2 s and 1 GiB for each), `fuzzer` (as many that atheris chooses,
where it can be imported), `haul` (300 jobs in one worker). What each has counted is kept in DIR as it goes: run again,
it goes on from there, up to its count. DIR/result.json holds the bars. The inputs that broke a reader go to DIR/found.
Exit status 1 where a bar is missed. Linux; small disks are mounted by root alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from in2n_blender.scene.names import unique_names
from in2n_blender.workspace.files import write_json
from tests.faults import bulk
from tests.faults.long_haul import haul

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "in2n_blender" / "data" / "demo_capture"
WARM_UP = 3  # cycles of the long haul after which the memory is at its level
MOST_GROWTH = 0.05
A_TURN = 5000  # inputs that a reader gets before they are noted
PROCESSES = ("command line", "worker", "installation", "Blender")


@dataclass(frozen=True)
class Bar:
    """A number and what it is held to."""

    name: str
    value: float
    bar: str
    holds: bool


class Kept:
    """What a part has counted so far, in a file.

    Args:
        out: Where it lies.
        part: Whose it is.
    """

    def __init__(self, out: Path, part: str):
        self.file = out / f"{part}.json"
        self.entries: dict = json.loads(self.file.read_text(encoding="utf-8")) if self.file.is_file() else {}

    def __getitem__(self, key: str) -> list:
        return self.entries.setdefault(key, [])

    def add(self, key: str, entries: Iterable) -> None:
        """Note more, one by one.

        Args:
            key: Of what.
            entries: JSON each.
        """
        for entry in entries:
            self[key].append(entry)
            print(f"{self.file.stem}, {key}, {len(self[key])}: {entry}", flush=True)
            write_json(self.file, self.entries)

    def all(self) -> list:
        """Everything, whatever it is of."""
        return [entry for entries in self.entries.values() for entry in entries]


def shares(count: int, among: Iterable[str]) -> dict[str, int]:
    """A number cut into parts that differ by one at most.

    Args:
        count: The number.
        among: What has a part.
    """
    names = list(among)
    return {name: count // len(names) + (number < count % len(names)) for number, name in enumerate(names)}


# --- kills


def kills(out: Path, count: int) -> list[Bar]:
    """Kill jobs at `count` random moments in all."""
    from tests.faults.kills import Killer, orders  # here, because torch takes seconds to load

    kept, folder = Kept(out, "kills"), out / "at-work"
    wanted = shares(count, orders(Path("x"), Path("y"), Path("z")))
    if any(len(kept[job]) < share for job, share in wanted.items()):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        killer = Killer(folder)
        try:
            for job, share in wanted.items():
                if len(kept[job]) < share:
                    missing = killer.kills(job, share - len(kept[job]), seed=len(kept[job]))
                    kept.add(job, map(asdict, missing))
        finally:
            killer.close()
        shutil.rmtree(folder, ignore_errors=True)
    found = kept.all()
    unequal, left = sum(not kill["equal"] for kill in found), sum(kill["left"] for kill in found)
    lost = max(kill["lost"] for kill in found)
    return [
        Bar("kills at points of all jobs", len(found), f"{count}", len(found) >= count),
        Bar("kills after which a result differs", unequal, "0", unequal == 0),
        Bar("files left that are not whole", left, "0", left == 0),
        Bar("seconds of work that a kill can cost at most", lost, "<= 30", lost <= 30),
    ]


def processes(out: Path, count: int) -> list[Bar]:
    """Kill whole processes at `count` moments of the clock in all."""
    from tests.faults.process_kills import ProcessKiller

    kept, folder = Kept(out, "processes"), out / "at-work"
    for what, share in shares(count, PROCESSES).items():
        missing = share - len(kept[what])
        if missing > 0:
            shutil.rmtree(folder, ignore_errors=True)
            kept.add(what, map(asdict, ProcessKiller(what, folder).kills(missing, seed=len(kept[what]))))
            shutil.rmtree(folder, ignore_errors=True)
    found = kept.all()
    unequal, left = sum(not kill["equal"] for kill in found), sum(kill["left"] for kill in found)
    orphans, slowest = sum(kill["orphans"] for kill in found), max(kill["gone_after"] for kill in found)
    return [
        Bar("kills of processes by the clock", len(found), f"{count}", len(found) >= count),
        Bar("kills of processes after which a result differs", unequal, "0", unequal == 0),
        Bar("files left by them that are not whole", left, "0", left == 0),
        Bar("processes that outlived who started them", orphans, "0", orphans == 0),
        Bar("seconds until they were gone, at most", slowest, "<= 4 where nothing else runs", True),
    ]


# --- disks


def disks(out: Path, count: int) -> list[Bar]:
    """Every job on a disk with room for 0, 1, 2, … more pages and files, `count` of each at most."""
    import pytest

    from tests.faults.disks import JOBS, tiny_settings, tries_on_small_disks

    kept, folder = Kept(out, "disks"), out / "at-work"
    with pytest.MonkeyPatch.context() as patch:
        tiny_settings(patch)
        shutil.rmtree(folder, ignore_errors=True)
        missing = [job for job in JOBS if not kept[job]]
        for job, tries in tries_on_small_disks(folder, missing, count) if missing else ():
            kept.add(job, tries)
        shutil.rmtree(folder, ignore_errors=True)
    wrong = [entry for entry in kept.all() if entry["wrong"]]
    return [
        Bar("jobs on disks that filled up", len(kept.all()), f">= {len(JOBS)}", len(kept.all()) >= len(JOBS)),
        Bar("of them without a sentence, or that lost or left something", len(wrong), "0", not wrong),
    ]


# --- readers


def readers(out: Path, count: int) -> list[Bar]:
    """Give every reader `count` damaged inputs."""
    return _bulk(out, count, "readers", bulk.in_a_child)


def fuzzer(out: Path, count: int) -> list[Bar]:
    """Let atheris choose `count` inputs for every reader."""
    if not bulk.has_fuzzer():
        print("atheris cannot be imported: pip install atheris")
        return []
    return _bulk(out, count, "fuzzer", lambda name, first, some, found: bulk.fuzz(name, some, found))


def _bulk(out: Path, count: int, part: str, give: Callable[[str, int, int, Path], bulk.Turn]) -> list[Bar]:
    kept, names = Kept(out, part), [reader.name for reader in bulk.readers()]
    given = lambda name: sum(entry["inputs"] for entry in kept[name])
    for first in range(0, count, A_TURN):  # all readers in turn, so that a run that is ended early has tried each
        for name in names:
            if given(name) <= first:
                kept.add(name, [asdict(give(name, given(name), min(A_TURN, count - first), out / "found"))])
    fewest, total = min(map(given, names)), sum(map(given, names))
    found = sum(entry["found"] for entry in kept.all())
    slowest, largest = (max(entry[what] for entry in kept.all()) for what in ("slowest", "megabytes"))
    how = "damaged by chance" if part == "readers" else "chosen by atheris"
    return [
        Bar(f"inputs {how}, a reader", fewest, f"{count}", fewest >= 0.99 * count),
        Bar(f"inputs {how}, in all", total, f"> {count}", total > count),
        Bar(f"inputs {how} that were no In2nError, or took 2 s or 1 GiB", found, "0", found == 0),
        Bar(f"seconds that one input {how} took at most", slowest, "< 2", slowest < bulk.SECONDS),
        Bar(f"MB by which a reader grew at most over inputs {how}", largest, "< 1024", largest < bulk.MEMORY >> 20),
    ]


# --- the long haul


def long_haul(out: Path, count: int) -> list[Bar]:
    """Do `count` jobs in one worker."""
    folder = out / "at-work"
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
    "disks": (disks, 40),
    "kills": (kills, 160),
    "processes": (processes, 40),
    "readers": (readers, 200_000),
    "fuzzer": (fuzzer, 200_000),
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
