"""How many small faults the tests notice: `python -m tests.benchmarks.mutation --out DIR [FILE ...]`.

cosmic-ray, in a virtual environment of its own in DIR/tool, makes mutants of the method's files (of all in FILES, or
of those named, such as `editing/schedule.py`). First every test of their rooms is run once, and the lines that it
reaches are kept in DIR/reach.json (see `reach`). For a mutant those tests are run which reach its statement, the
quickest first and for no more than --seconds of a core, until one fails: in a fork of a process that has imported
engine and tests already; nothing is changed in the checkout. A mutant that no test reaches has survived. The tests that
noticed mutants of a file are run on the file as it is, too.

What is known of a mutant is kept in DIR/results.jsonl, so that a run which was stopped goes on: the killed stay killed
while their file is the same, the survivors are run again once one of their tests has changed. With --sample N no more
than N of a file's mutants are run, drawn by chance, the same ones each time: a larger N goes on from a smaller one.

Prints the killed, the survived and the equivalent (`equivalent_mutants`) of every file, and of all the share that is
killed, with its interval of 95% where mutants were drawn; writes the survivors' diffs to DIR/survivors.diff. Needs fork
(Linux), the engine's environment with pytest, and pip. Exit status 1 below BAR.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from in2n_blender.workspace.hashes import hash_of
from tests.benchmarks.mutants import ENGINE, KILLED, ROOT, SURVIVED, Mutant, Runner, mutants_of
from tests.benchmarks.reach import lines_to_reach

BAR = 0.9
# The method's files: all that edits and all 2D models; of the field, how it is trained and sampled.
METHOD = {
    "editing": "agreement baselines batches carrying carrying_plan dataset_update key_picture lineage methods preview "
    "regions schedule segments",
    "diffusion": "editor edm_schedule exact fewer_bits flow_editor flow_schedule flux2_klein flux_kontext "
    "instruct_pix2pix latent_editor loading longcat_image_edit network_editor photo_detail photo_reading_editor "
    "miniature/autoencoder miniature/editor miniature/operations picture_answers placement qwen_image_edit reading "
    "schedules sdxl_instruct_pix2pix weights working_size",
    "nerf": "camera_refinement compositing dataset losses ray_marching reconstruction regions rendering sampling "
    "sightings training unevenness",
}
FILES = [f"{room}/{name}.py" for room, names in METHOD.items() for name in names.split()]
# The tests that belong to a room, of the engine's where no other folder is named.
TESTS = {
    "editing": "agreement baselines batches carrying dataset_update disagreement interfaces key_view masks method "
    "models_in_edits other_devices preview provenance regions schedule segments faults/memory",
    "diffusion": "devices_of_tensors editor_input exact flow_schedule flux2_klein flux_kontext half_precision "
    "instruct_pix2pix interfaces longcat_image_edit memory_plans model_folders operations picture_answers "
    "qwen_image_edit sdxl_instruct_pix2pix working_size",
    "nerf": "appearance_and_refinement checkpoint interfaces kernels loss_terms masks metrics nerf other_devices "
    "provenance ray_dataset regions sampling_and_losses sightings training unevenness faults/memory faults/not_finite",
}


class Reach:
    """What each test reaches, kept in a file: a test is recorded again where it or a file that it reaches changed."""

    def __init__(self, path: Path, runner: Runner):
        self._path, self._runner = path, runner
        self._known = json.loads(path.read_text("utf-8")) if path.is_file() else {}

    def record(self, tests: list[str]) -> None:
        """Run what is not known yet of files of tests. Exits where one of them fails."""
        for test in tests:
            known = self._known.get(test)
            if known and known["own"] == _test_hash(test) and known["reached"] == _hashes(known["reached"]):
                continue
            print(f"which lines {test} reaches", flush=True)
            recorded = self._runner.recorded(test, FILES)
            reached = _hashes({file for entry in recorded.values() for file in entry["lines"]})
            entry = {"own": _test_hash(test), "reached": reached, "tests": recorded}
            self._known[test] = entry
            self._path.write_text(json.dumps(self._known), "utf-8")

    def tests(self, mutant: Mutant, tests: list[str], seconds: float) -> list[tuple[str, float]]:
        """The ids and seconds of the tests in files that reach a mutant, the quickest first, for no more than
        `seconds`."""
        wanted = lines_to_reach((ENGINE / mutant.file).read_text("utf-8"), mutant.source)
        found = []
        for test in tests:
            for name, entry in self._known[test]["tests"].items():
                lines = entry["lines"].get(mutant.file)
                reaches = lines and (wanted is None or not wanted.isdisjoint(lines))
                if reaches or (wanted is None and f"[{mutant.file}]" in name):  # it is about the file as a whole
                    found.append((name, entry["seconds"]))
        found.sort(key=lambda of: (of[1], of[0]))
        spent, chosen = 0.0, []
        for name, cost in found:
            spent += cost
            if chosen and spent > seconds:
                break
            chosen.append((name, cost))
        return chosen


def tests_of(file: str, only: str | None = None) -> list[str]:
    names = [name for name in TESTS[file.partition("/")[0]].split() if only is None or name in only.split(",")]
    places = [name.rpartition("/") for name in names]
    return [f"tests/{room or 'engine'}/test_{name}.py" for room, _, name in places]


def _hashes(files: Iterable[str]) -> dict[str, str]:
    """Of files of the engine, of what they are now."""
    return {file: hash_of([(ENGINE / file).read_text("utf-8")]) for file in sorted(files) if (ENGINE / file).is_file()}


@functools.cache
def _test_hash(test: str) -> str:
    """Changes with a file of tests, the helpers beside it, and FILES."""
    helpers = [path for path in (ROOT / "tests" / "engine").glob("*.py") if not path.name.startswith("test_")]
    return hash_of([FILES, *(path.read_text("utf-8") for path in sorted([ROOT / test, *helpers]))])


def tests_hash(tests: list[tuple[str, float]]) -> str:
    """Changes with the tests that were chosen for a mutant."""
    names = sorted(name for name, _ in tests)
    return hash_of([names, sorted({_test_hash(name.partition("::")[0]) for name in names})])


class Results:
    """What is known of mutants, a line each in a file that only grows."""

    def __init__(self, path: Path):
        self.path = path
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        self.known = {}
        for line in lines:
            entry = json.loads(line)
            self.known[entry["key"]] = entry

    def outcome(self, mutant: Mutant, tests: str | None = None) -> str | None:
        """None where it is not known; or, with a hash of tests, where it has to be run again."""
        entry = self.known.get(mutant.key)
        if entry is None or (tests and entry["outcome"] == SURVIVED and entry["tests"] != tests):
            return None
        return entry["outcome"]

    def add(self, mutant: Mutant, outcome: str, noticed_by: str | None, tests: str) -> None:
        entry = {"key": mutant.key, "file": mutant.file, "operator": mutant.operator, "outcome": outcome}
        self.known[mutant.key] = entry | {"noticed_by": noticed_by, "tests": tests}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(self.known[mutant.key]) + "\n")


@dataclass(frozen=True)
class Count:
    """How it went with the mutants of a file: of all, about how many where some were drawn; of those that were run."""

    mutants: int
    killed: int
    survived: int
    equivalent: int

    @property
    def run(self) -> int:
        return self.killed + self.survived + self.equivalent

    def line(self, name: str) -> str:
        share = self.killed / max(1, self.killed + self.survived)
        numbers = f"{self.mutants:6} {self.run:5} {self.killed:6} {self.survived:8} {self.equivalent:10}"
        return f"{name:34} {numbers} {share:6.1%}"


def share_killed(counts: Iterable[Count]) -> tuple[float, float]:
    """The share of all mutants, but the equivalent ones, that is killed, and half its interval of 95%.

    Each file counts by its number of mutants, and those of a file that were not run as those that were. The interval is
    that of a stratified sample, with one more killed and one more survived in each file.
    """
    telling = [count for count in counts if count.killed + count.survived]  # of others all that were run do the same
    share, variance, whole = 0.0, 0.0, sum(count.mutants for count in telling)
    for count in telling:
        drawn = count.killed + count.survived
        weight, left_out = count.mutants / whole, 1 - count.run / count.mutants
        likely = (count.killed + 1) / (drawn + 2)
        share += weight * count.killed / drawn
        variance += weight**2 * left_out * likely * (1 - likely) / drawn
    return share, 1.96 * variance**0.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"of {', '.join(FILES)} (default: all)")
    parser.add_argument("--out", type=Path, required=True, help="where the tool and the results are kept")
    parser.add_argument("--sample", type=int, metavar="N", help="mutants of a file, at most (default: all)")
    parser.add_argument("--tests", metavar="NAMES", help="with commas, such as schedule,method (default: the room's)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of a core, of tests for a mutant (default: 30)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at once (default: one for each core)")
    given = parser.parse_args()
    if unknown := set(given.files) - set(FILES):
        parser.error(f"no tests are named for {', '.join(sorted(unknown))}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # its forks end with it
    os.chdir(ROOT)
    given.out.mkdir(parents=True, exist_ok=True)
    tool, results = given.out / "tool", Results(given.out / "results.jsonl")
    runner, counts = Runner(given.jobs), {}
    tests, noticing, survivors = [], [], []
    reach = Reach(given.out / "reach.json", runner)
    try:
        for file in given.files or FILES:
            if (of_room := tests_of(file, given.tests)) != tests:
                runner.control(noticing)
                tests, noticing = of_room, []
                runner.collect(tests)
                reach.record(tests)
            mutants, in_all = mutants_of(file, tool, given.sample or sys.maxsize)
            chosen = {mutant.key: reach.tests(mutant, tests, given.seconds) for mutant in mutants}
            noticing += [by for by in run_again(file, mutants, chosen, runner, results) if by not in noticing]
            outcomes = [SURVIVED if results.outcome(mutant) == SURVIVED else KILLED for mutant in mutants]
            left = [mutant for mutant, outcome in zip(mutants, outcomes, strict=True) if outcome == SURVIVED]
            equivalent = sum(mutant.reason is not None for mutant in left)
            counts[file] = Count(in_all, outcomes.count(KILLED), len(left) - equivalent, equivalent)
            survivors += left
            listed = [
                mutant.diff() + (f"equivalent: {mutant.reason}\n" if mutant.reason else "") for mutant in survivors
            ]
            (given.out / "survivors.diff").write_text("\n".join(listed), "utf-8")
        runner.control(noticing)
    finally:
        runner.close()
    print("\n".join(listed))
    print(f"{'':34} {'in all':>6} {'run':>5} {'killed':>6} {'survived':>8} {'equivalent':>10} {'share':>6}")
    for file, count in counts.items():
        print(count.line(file))
    together = [sum(getattr(count, field.name) for count in counts.values()) for field in fields(Count)]
    print(Count(*together).line("all"))
    share, half = share_killed(counts.values())
    print(f"of all mutants of these files, not equivalent, killed: {share:.1%} ± {half:.1%}")
    return 0 if share >= BAR else 1


def run_again(file: str, mutants: list[Mutant], tests: dict[str, list], runner: Runner, results: Results) -> list[str]:
    """Run those of a file's mutants that are not known, or have survived other tests than there are now.

    Args:
        file: of FILES.
        mutants: some of its.
        tests: for each mutant's key the ids and seconds of its tests.
        runner: that has collected the tests.
        results: to which theirs are added.

    Returns:
        The tests that noticed some.
    """
    to_run = [mutant for mutant in mutants if results.outcome(mutant, tests_hash(tests[mutant.key])) is None]
    print(f"{file}: {len(mutants)} mutants, {len(to_run)} to run", flush=True)
    noticing: dict[str, None] = {}
    for number, (mutant, outcome, by) in enumerate(runner.run([(one, tests[one.key]) for one in to_run]), 1):
        results.add(mutant, outcome, by, tests_hash(tests[mutant.key]))
        noticing.update({by: None} if by else {})
        print(f"  {number} of {len(to_run)}: {outcome} {mutant.operator} {by or ''}", flush=True)
    return list(noticing)


if __name__ == "__main__":
    sys.exit(main())
