"""How many small faults the tests notice: `python -m tests.benchmarks.mutation --out DIR [FILE ...]`.

cosmic-ray, in a virtual environment of its own in DIR/tool, makes every mutant of the method's files (of all in TESTS,
or of those named, such as `editing/schedule.py`). For each the tests that belong to its file are run until one fails,
in a fork of a process that has imported the heavy libraries already; nothing is written to the checkout. What is known
of a mutant is kept in DIR/results.jsonl, so that a run which was stopped goes on: the killed stay killed while their
file is the same, the survivors are run again once one of their tests has changed. With --sample N no more than N of a
file's mutants are run, drawn by their hashes: a larger N goes on from a smaller one.

Prints the killed and the survived of every file, and writes the survivors' diffs to DIR/survivors.diff. Needs fork
(Linux), the engine's environment with pytest, and pip. Exit status 1 below BAR.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import importlib.machinery
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from in2n_blender.workspace.hashes import hash_of

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "in2n_blender" / "engine"
TOOL = "cosmic-ray==8.7.0"
BAR = 0.9
KILLED, SURVIVED, TIMEOUT = "killed", "survived", "timeout"
# A mutant that takes so many times as long as the file itself hangs: of the clock, and of a core.
SLOWER, BUSIER = 5, 2
LEAST_SECONDS = 30
HEAVY = ("torch", "torchvision", "diffusers", "transformers", "lpips", "nerfacc", "warp", "skimage", "PIL", "pytest")

_LOOP = ("test_method", "test_dataset_update", "test_baselines", "test_provenance")
_NETWORKS = ("test_editor_input", "test_instruct_pix2pix", "test_model_folders", "test_miniature")
_TRAINING = ("test_loss_terms", "test_training", "test_nerf", "test_appearance_and_refinement", "test_checkpoint")
_RAYS = ("test_sampling_and_losses", "test_training", "test_loss_terms", "test_nerf", "test_kernels")
# Files of the engine, and the tests that belong to each; the quickest first, for the first failure ends it.
TESTS = {
    "editing/schedule.py": ("test_schedule", "test_baselines::test_schedules", "test_method"),
    "editing/dataset_update.py": (*_LOOP, "test_regions"),
    "editing/baselines.py": _LOOP,
    "editing/lineage.py": (*_LOOP, "test_segments"),
    "editing/agreement.py": ("test_agreement", "test_key_view"),
    "editing/carrying.py": ("test_carrying", "test_agreement"),
    "editing/carrying_plan.py": ("test_carrying", "test_agreement"),
    "editing/key_picture.py": ("test_key_view",),
    "editing/regions.py": ("test_regions",),
    "editing/segments.py": ("test_segments",),
    "editing/methods.py": (*_LOOP, "test_segments", "test_key_view", "test_regions"),
    "editing/preview.py": ("test_preview",),
    "diffusion/editor.py": (*_NETWORKS, "test_method"),
    "diffusion/instruct_pix2pix.py": _NETWORKS,
    "diffusion/latent_editor.py": _NETWORKS,
    "diffusion/exact.py": ("test_exact",),
    "diffusion/picture_answers.py": ("test_picture_answers",),
    "diffusion/schedules.py": _NETWORKS,
    "diffusion/working_size.py": _NETWORKS,
    "diffusion/loading.py": _NETWORKS,
    "diffusion/reading.py": _NETWORKS,
    "diffusion/weights.py": _NETWORKS,
    "nerf/training.py": _TRAINING,
    "nerf/losses.py": _RAYS,
    "nerf/sampling.py": _RAYS,
    "nerf/compositing.py": _RAYS,
    "nerf/ray_marching.py": _RAYS,
    "nerf/regions.py": ("test_regions",),
    "nerf/rendering.py": (*_RAYS, "test_appearance_and_refinement"),
    "nerf/dataset.py": ("test_ray_dataset", *_RAYS, "test_appearance_and_refinement"),
    "nerf/reconstruction.py": (*_TRAINING, "test_provenance"),
}

# Mutants that do the same as the file: (file, the line as they have it): why.
EQUIVALENT = {
    ("editing/schedule.py", 'if self.noise >= "uniform":'): "of the two kinds “uniform” is the last in the alphabet",
    (
        "editing/schedule.py",
        "return edit < self.edits and step / self.edit_rate >= edit",
    ): "a whole number is reached by a quotient when it is reached by its whole part",
}

# Run by the tool's Python: all mutants of a file as JSON.
LIST_MUTANTS = """
import itertools, json, sys
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

source = open(sys.argv[1], encoding="utf-8").read()
mutants = []
for name in operator_names():
    try:
        operator = get_operator(name)()
    except TypeError:  # it is for variables that would have to be named
        continue
    for occurrence in itertools.count():
        mutant = mutate_code(source, operator, occurrence)
        if mutant is None:
            break
        mutants.append({"operator": name.split("/")[-1], "source": mutant})
json.dump(mutants, sys.stdout)
"""


@dataclass(frozen=True)
class Mutant:
    """A file of the engine with one small fault."""

    file: str
    operator: str
    source: str

    @property
    def key(self) -> str:
        return hash_of([self.file, self.source])

    def diff(self) -> str:
        original = (ENGINE / self.file).read_text("utf-8")
        lines = (text.splitlines(keepends=True) for text in (original, self.source))
        return "".join(difflib.unified_diff(*lines, f"a/{self.file}", f"b/{self.file}", n=1))

    def listed(self) -> str:
        """The diff, and why it cannot be noticed where that is known."""
        diff = self.diff()
        added = [line[1:].strip() for line in diff.splitlines() if line[:1] == "+" and line[:3] != "+++"]
        reasons = [EQUIVALENT[self.file, line] for line in added if (self.file, line) in EQUIVALENT]
        return diff + "".join(f"equivalent: {reason}\n" for reason in reasons)


def tool_python(folder: Path) -> Path:
    """The Python that has cosmic-ray, installed first where it is not there."""
    python = folder / "bin" / "python"
    if not (folder / "installed").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", TOOL], check=True)
        (folder / "installed").touch()
    return python


def mutants_of(file: str, python: Path) -> list[Mutant]:
    """Every mutant that does something else: annotations and docstrings are not evaluated."""
    command = [str(python), "-c", LIST_MUTANTS, str(ENGINE / file)]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    seen = {_evaluated((ENGINE / file).read_text("utf-8"))}
    found = []
    for mutant in listed:
        evaluated = _evaluated(mutant["source"])
        if evaluated not in seen:
            seen.add(evaluated)
            found.append(Mutant(file, mutant["operator"], mutant["source"]))
    return found


def _evaluated(source: str) -> str:
    """What a file does when it runs, in a form that can be compared."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Name("object")
    return ast.dump(tree)


class Runner:
    """Runs the tests of mutants in forks of this process."""

    def __init__(self, jobs: int):
        self.jobs, self.folder = jobs, Path(tempfile.mkdtemp(prefix="mutation"))
        self.limit, self.cpu_limit = 1800.0, 1800
        for name in HEAVY:
            importlib.import_module(name)
        sys.modules["torch"].set_num_threads(1)
        if any(name.startswith("in2n_blender.engine") for name in sys.modules):
            raise SystemExit("The engine is imported already: its mutants would not be.")

    def measure(self, file: str) -> None:
        """Let the limits be those of the tests of a file as it is. Exits where they fail."""
        self.limit, self.cpu_limit = 1800.0, 1800
        started, used = time.monotonic(), _cpu_seconds()
        original = Mutant(file, "none", (ENGINE / file).read_text("utf-8"))
        for _, outcome in self.run([original]):
            if outcome != SURVIVED:
                raise SystemExit(f"The tests of {file} fail without a mutant:\n{self.log(original).read_text('utf-8')}")
        self.limit = LEAST_SECONDS + SLOWER * (time.monotonic() - started)
        self.cpu_limit = round(LEAST_SECONDS + BUSIER * (_cpu_seconds() - used))

    def run(self, mutants: list[Mutant]):
        """Yields (mutant, outcome) as they end, of so many at once as there are jobs, each within the limits."""
        waiting, running = list(reversed(mutants)), {}
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    mutant = waiting.pop()
                    running[self._fork(mutant)] = (mutant, time.monotonic())
                done, status = os.waitpid(-1, os.WNOHANG)
                if done in running:
                    mutant, started = running.pop(done)
                    late = time.monotonic() - started > self.limit
                    late = late or os.WIFSIGNALED(status)
                    yield mutant, SURVIVED if status == 0 else TIMEOUT if late else KILLED
                    shutil.rmtree(self._own(mutant), ignore_errors=True)
                    continue
                for process, (_, started) in running.items():
                    if time.monotonic() - started > self.limit:
                        os.killpg(process, signal.SIGKILL)
                time.sleep(0.05)
        finally:
            for process in running:
                os.killpg(process, signal.SIGKILL)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self, mutant: Mutant) -> Path:
        return self.folder / f"{mutant.key}.log"

    def _own(self, mutant: Mutant) -> Path:
        return self.folder / mutant.key

    def _fork(self, mutant: Mutant) -> int:
        sys.stdout.flush()
        process = os.fork()
        if process:
            return process
        code = 70
        try:
            os.setpgid(0, 0)
            resource.setrlimit(resource.RLIMIT_CPU, (self.cpu_limit, self.cpu_limit))
            log = os.open(self.log(mutant), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(log, 1), os.dup2(log, 2)
            _replace_source(ENGINE / mutant.file, mutant.source)
            options = ["-q", "-x", "-p", "no:cacheprovider", "--basetemp", str(self._own(mutant))]
            for test in tests_of(mutant.file):  # one by one: the next one's imports are for the survivors alone
                code = sys.modules["pytest"].main([*options, test])
                if code:
                    break
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(int(code))


def _cpu_seconds() -> float:
    """Of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _replace_source(path: Path, source: str) -> None:
    """Let an import of the file get this source."""
    get_code = importlib.machinery.SourceFileLoader.get_code

    def replaced(loader, name):
        if Path(loader.path) == path:
            return compile(source, str(path), "exec", dont_inherit=True)
        return get_code(loader, name)

    importlib.machinery.SourceFileLoader.get_code = replaced


def tests_of(file: str) -> list[str]:
    parts = [name.partition("::") for name in TESTS[file]]
    return [f"tests/engine/{test}.py{separator}{function}" for test, separator, function in parts]


class Results:
    """What is known of mutants, a line each in a file that only grows."""

    def __init__(self, path: Path):
        self.path = path
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        self.known = {}
        for line in lines:
            entry = json.loads(line)
            self.known[entry["key"]] = entry

    def outcome(self, mutant: Mutant) -> str | None:
        """None where it has to be run."""
        entry = self.known.get(mutant.key)
        if entry is None or (entry["outcome"] == SURVIVED and entry["tests"] != tests_hash(mutant.file)):
            return None
        return entry["outcome"]

    def add(self, mutant: Mutant, outcome: str) -> None:
        entry = {"key": mutant.key, "file": mutant.file, "operator": mutant.operator, "outcome": outcome}
        self.known[mutant.key] = entry | {"tests": tests_hash(mutant.file)}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(self.known[mutant.key]) + "\n")


def tests_hash(file: str) -> str:
    """Changes with the tests of a file and the helpers beside them."""
    own = {ROOT / test.partition("::")[0] for test in tests_of(file)}
    helpers = {path for path in (ROOT / "tests" / "engine").glob("*.py") if not path.name.startswith("test_")}
    return hash_of([path.read_text("utf-8") for path in sorted(own | helpers)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"of {', '.join(TESTS)} (default: all)")
    parser.add_argument("--out", type=Path, required=True, help="where the tool and the results are kept")
    parser.add_argument("--sample", type=int, metavar="N", help="mutants of a file, at most (default: all)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at once (default: one for each core)")
    given = parser.parse_args()
    if unknown := set(given.files) - set(TESTS):
        parser.error(f"no tests are named for {', '.join(sorted(unknown))}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # its forks end with it
    os.chdir(ROOT)
    given.out.mkdir(parents=True, exist_ok=True)
    python, results = tool_python(given.out / "tool"), Results(given.out / "results.jsonl")
    runner, counts, survivors = Runner(given.jobs), {}, []
    try:
        for file in given.files or TESTS:
            mutants = sorted(mutants_of(file, python), key=lambda mutant: mutant.key)
            of, mutants = len(mutants), mutants[: given.sample]
            to_run = [mutant for mutant in mutants if results.outcome(mutant) is None]
            print(f"{file}: {len(mutants)} of {of} mutants, {len(to_run)} to run", flush=True)
            if to_run:
                runner.measure(file)
                for number, (mutant, outcome) in enumerate(runner.run(to_run), 1):
                    results.add(mutant, outcome)
                    print(f"  {number} of {len(to_run)}: {outcome} {mutant.operator}", flush=True)
            counts[file] = Counter(results.outcome(mutant) for mutant in mutants)
            survivors += [mutant for mutant in mutants if results.outcome(mutant) == SURVIVED]
            (given.out / "survivors.diff").write_text("\n".join(mutant.listed() for mutant in survivors), "utf-8")
    finally:
        runner.close()
    print("\n".join(mutant.listed() for mutant in survivors))
    for file, count in counts.items():
        noticed = count[KILLED] + count[TIMEOUT]
        print(f"{file:32} {noticed:5} killed {count[SURVIVED]:5} survived  {noticed / max(1, count.total()):6.1%}")
    total = sum(counts.values(), Counter())
    share = 1 - total[SURVIVED] / max(1, total.total())
    print(f"{'all':32} {total.total() - total[SURVIVED]:5} killed {total[SURVIVED]:5} survived  {share:6.1%}")
    return 0 if share >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
