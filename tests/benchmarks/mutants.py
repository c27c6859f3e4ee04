"""The small faults that cosmic-ray puts into a file of the engine, and running tests of each in a fork."""

from __future__ import annotations

import difflib
import gc
import importlib
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
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType

from in2n_blender.workspace.hashes import hash_of
from tests.benchmarks.equivalent_mutants import EQUIVALENT, WITHOUT
from tests.benchmarks.reach import Recorder
from tests.benchmarks.replacing import functions_of, replace_functions, replace_source

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "in2n_blender" / "engine"
TOOL = "cosmic-ray==8.7.0"
KILLED, SURVIVED, TIMEOUT = "killed", "survived", "timeout"
# A mutant hangs that takes so many times as long as the tests without it: of the clock, and of a core.
SLOWER, BUSIER = 20, 2
LEAST_SECONDS, LONGEST = 60, 3600
HEAVY = ("torch", "torchvision", "diffusers", "transformers", "lpips", "nerfacc", "warp", "skimage", "PIL", "pytest")


# Run by the tool's Python: the first N mutants of a file, in an order by chance that is always the same, as JSON. None
# of those that do the same as the file, for annotations and docstrings are not evaluated, nor of those that no Python
# can read.
LIST_MUTANTS = """
import ast, hashlib, json, sys
from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

source, most = open(sys.argv[1], encoding="utf-8").read(), int(sys.argv[2])
operators = {}
for name in operator_names():
    try:
        operators[name] = get_operator(name)()
    except TypeError:  # it is for variables that would have to be named
        pass

class Counter(Visitor):
    found = dict.fromkeys(operators, 0)

    def visit(self, node):
        for name, operator in operators.items():
            self.found[name] += sum(1 for _ in operator.mutation_positions(node))
        return node

def evaluated(source):
    try:
        tree = ast.parse(source)
        compile(source, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Name("object")
    return ast.dump(tree)

Counter().walk(get_ast(source))
places = [(name, number) for name, count in Counter.found.items() for number in range(count)]
places.sort(key=lambda place: hashlib.sha256(repr((*place, source)).encode()).digest())
seen, mutants, tried = {None, evaluated(source)}, [], 0
for name, number in places:
    if len(mutants) == most:
        break
    tried += 1
    try:
        mutant = mutate_code(source, operators[name], number)
    except AttributeError:  # it cannot take the name in `except module.Error`
        continue
    does = evaluated(mutant)
    if does not in seen:
        seen.add(does)
        mutants.append({"operator": name.split("/")[-1], "source": mutant})
in_all = round(len(places) * len(mutants) / max(tried, 1))
json.dump({"in_all": in_all, "mutants": mutants}, sys.stdout)
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

    @property
    def reason(self) -> str | None:
        """Why it cannot be noticed, where that is known."""
        diff = self.diff().splitlines()[2:]
        added = [line[1:].strip() for line in diff if line[:1] == "+"]
        removed = [line[1:].strip() for line in diff if line[:1] == "-"]
        if not added:
            return next((WITHOUT[line] for line in removed if line in WITHOUT), None)
        return next((EQUIVALENT[self.file][line] for line in added if line in EQUIVALENT.get(self.file, {})), None)


def tool_python(folder: Path) -> Path:
    """The Python that has cosmic-ray, installed first where it is not there."""
    python = folder / "bin" / "python"
    if not (folder / "installed").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", TOOL], check=True)
        (folder / "installed").touch()
    return python


def mutants_of(file: str, folder: Path, most: int = sys.maxsize) -> tuple[list[Mutant], int]:
    """Mutants of a file, as many as `most`, and about how many there are in all; kept in the tool's folder."""
    source = (ENGINE / file).read_text("utf-8")
    kept = folder / "mutants" / f"{hash_of([source, LIST_MUTANTS, most])}.json"
    if not kept.is_file():
        command = [str(tool_python(folder)), "-c", LIST_MUTANTS, str(ENGINE / file), str(most)]
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout, "utf-8")
    found = json.loads(kept.read_text("utf-8"))
    return [Mutant(file, mutant["operator"], mutant["source"]) for mutant in found["mutants"]], found["in_all"]


class Runner:
    """Runs tests in forks of this process."""

    def __init__(self, jobs: int):
        self.jobs, self.folder = jobs, Path(tempfile.mkdtemp(prefix="mutation"))
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        for name in HEAVY:
            importlib.import_module(name)
        sys.modules["torch"].set_num_threads(1)
        self._functions: dict[tuple, list[FunctionType]] = {}

    def collect(self, tests: list[str]) -> None:
        """Import files of tests, and with them the engine: most mutants then need no import of their own."""
        log = self.folder / "collected.log"
        with open(log, "w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
            failed = self._pytest(["--collect-only", *tests])
        if failed:
            raise SystemExit(log.read_text("utf-8"))
        self._functions = functions_of(ENGINE)
        gc.freeze()

    def recorded(self, test: str, files: Sequence[str]) -> dict:
        """What each test of a file reaches of some of the engine's files, by its id."""
        answer = self.folder / "reach.json"

        def record() -> int:
            recorder = Recorder({str(ENGINE / file) for file in files})
            recorder.start()
            code = self._pytest([test], [recorder])
            recorder.stop()
            for entry in recorder.tests.values():
                entry["lines"] = {Path(file).relative_to(ENGINE).as_posix(): n for file, n in entry["lines"].items()}
            answer.write_text(json.dumps(recorder.tests), "utf-8")
            return code

        log = self.folder / "reach.log"
        if os.waitpid(self._fork(record, log, LONGEST), 0)[1]:
            raise SystemExit(f"Tests fail without a mutant:\n{log.read_text('utf-8')}")
        return json.loads(answer.read_text("utf-8"))

    def control(self, tests: list[str]) -> None:
        """Exits where tests fail without a mutant, in this order and in one process: what they noticed is nothing."""
        if not tests:
            return
        log = self.folder / "control.log"
        if os.waitpid(self._fork(lambda: self._pytest(tests), log, LONGEST), 0)[1]:
            raise SystemExit(f"Tests fail without a mutant:\n{log.read_text('utf-8')}")

    def run(self, mutants: list[tuple[Mutant, list[tuple[str, float]]]]):
        """Yields (mutant, outcome, the test that noticed it) as they end, of so many at once as there are jobs."""
        waiting, running = list(reversed(mutants)), {}
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    mutant, tests = waiting.pop()
                    if not tests:
                        yield mutant, SURVIVED, None
                        continue
                    seconds = sum(cost for _, cost in tests)
                    process = self._fork(lambda m=mutant, t=tests: self._mutated(m, t), self._log(mutant), seconds)
                    running[process] = (mutant, time.monotonic() + LEAST_SECONDS + SLOWER * seconds)
                if not running:
                    break
                done, status = os.waitpid(-1, os.WNOHANG)
                if done in running:
                    mutant, limit = running.pop(done)
                    late = time.monotonic() > limit or os.WIFSIGNALED(status)
                    yield mutant, SURVIVED if status == 0 else TIMEOUT if late else KILLED, self._noticed_by(mutant)
                    shutil.rmtree(self.folder / mutant.key, ignore_errors=True)
                    continue
                for process, (_, limit) in running.items():
                    if time.monotonic() > limit:
                        os.killpg(process, signal.SIGKILL)
                time.sleep(0.02)
        finally:
            for process in running:
                os.killpg(process, signal.SIGKILL)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _log(self, mutant: Mutant) -> Path:
        return self.folder / f"{mutant.key}.log"

    def _noticed_by(self, mutant: Mutant) -> str | None:
        lines = self._log(mutant).read_text("utf-8", "replace").splitlines() if self._log(mutant).is_file() else []
        failed = [line.split(" ", 1)[1].split(" - ")[0] for line in lines if line.startswith("FAILED tests")]
        return failed[0] if failed else None

    def _mutated(self, mutant: Mutant, tests: list[tuple[str, float]]) -> int:
        path = ENGINE / mutant.file
        if not replace_functions(path, mutant.source, self._functions):
            for name in [name for name in sys.modules if name.startswith(("in2n_blender.engine", "tests."))]:
                del sys.modules[name]
            replace_source(path, mutant.source)
        return self._pytest([name for name, _ in tests])

    def _pytest(self, tests: list[str], plugins: Sequence[object] = ()) -> int:
        base = self.folder / str(os.getpid())
        options = ["-q", "-x", "-p", "no:cacheprovider", "--basetemp", str(base), "--rootdir", str(ROOT)]
        try:
            return int(sys.modules["pytest"].main([*options, *tests], plugins=list(plugins)))
        finally:
            shutil.rmtree(base, ignore_errors=True)

    def _fork(self, work: Callable[[], int], log: Path, seconds: float) -> int:
        """The id of a process that does some work, of which its exit status is the result."""
        sys.stdout.flush()
        process = os.fork()
        if process:
            return process
        code = 70
        try:
            os.setpgid(0, 0)
            limit = round(LEAST_SECONDS + BUSIER * seconds)
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            opened = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(opened, 1), os.dup2(opened, 2)
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
