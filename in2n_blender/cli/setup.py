"""The environment that a command needs, and the commands that run another program in it: demo, test, install, build,
train-miniature."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .. import environment
from ..link.process import clean_environment
from ..link.requests import Edit
from ..models import catalogue
from ..remote import installing
from ..remote.machines import Machine, chosen_machine
from ..scene.errors import In2nError, as_typed
from ..scene.reporting import Reporter
from ..workspace.layout import absolute, bad_path
from ..workspace.outputs import demo_names, refuse_foreign
from . import extension
from .arguments import demo_line, request_of
from .terminal import ProgressPrinter

PACKAGE = Path(__file__).resolve().parents[1]
NO_TESTS_COLLECTED = 5  # pytest's exit code


def engine_python(interruption, groups=("engine",)) -> Path:
    """The interpreter of the environment, which is made first if need be.

    Args:
        interruption: Says whether the user asked to stop.
        groups: What the environment has to hold, of `environment.GROUPS`.

    Returns:
        The interpreter; $IN2N_ENGINE_PYTHON names another one, used as it is.

    Raises:
        In2nError: "missing_file" and "bad_path" for the one named, "offline", and what `environment.install` raises.
        Cancelled: When the user asked to stop.
    """
    named = os.environ.get("IN2N_ENGINE_PYTHON")
    if named:
        existing(named)
        return Path(named).expanduser().absolute()  # not resolved: a virtual environment's python is a link to its base
    if not environment.plan(groups).ready:
        _check_online()
    printer = ProgressPrinter()
    try:
        return environment.install(groups, report=Reporter(printer, lambda: interruption.asked))
    finally:
        printer.close()


def _check_online() -> None:
    """Blender's own setting for its extensions, handed on by `blender --command in2n`. Raises In2nError("offline")."""
    if os.environ.get("IN2N_OFFLINE") and not os.environ.get("IN2N_WHEELHOUSE"):
        raise In2nError(
            "offline",
            "The packages are not installed, and Blender's online access is off.",
            "Put --online-mode before --command, or install from a folder of wheels with --wheelhouse DIR.",
        )


def given_path(text: str | Path) -> Path:
    """A path of the line's, absolute.

    Args:
        text: The path. An empty one is a variable that was not set, not this folder.

    Raises:
        In2nError: "bad_path", also for what no system could open: a name that is too long, a folder that may not be
            looked into.
    """
    if not str(text).strip():
        raise In2nError("bad_path", "A path on the line is empty.", "Give it, or leave its option out.")
    path = absolute(text)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise bad_path(text, error) from error
    return path


def existing(path: str) -> Path:
    """The path of what is there, absolute.

    Args:
        path: A path of the line's.

    Raises:
        In2nError: "missing_file", "bad_path".
    """
    found = given_path(path)
    if not found.exists():
        raise In2nError("missing_file", f"{found} does not exist.", "Check the path.")
    return found


def free_folder(text: str) -> Path:
    """A folder for results that is there or can be made, absolute.

    Args:
        text: A path of the line's.

    Raises:
        In2nError: "cannot_write" where a file is in the way, "bad_path".
    """
    folder = given_path(text)
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir():
        raise In2nError(
            "cannot_write", f"{folder} cannot be made: {above} is no folder.", "Choose another folder with --out."
        )
    return folder


def made_folder(path: Path | str) -> Path:
    """The folder, made if it is not there.

    Args:
        path: A path of the line's.

    Raises:
        In2nError: "cannot_write", "bad_path".
    """
    folder = given_path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise In2nError(
            "cannot_write", f"{folder} cannot be made ({error.strerror}).", "Choose another folder with --out."
        ) from error
    return folder


def check_known(instruction: str, editor: str) -> None:
    """Check an instruction before minutes are spent: some models know few.

    Args:
        instruction: What to change.
        editor: The 2D model, as `catalogue.find` takes it.

    Raises:
        In2nError: "unknown_editor", "editor_unfit", "unknown_instruction".
    """
    catalogue.find(editor).check_instruction(instruction)


def need_checkout(folder: str, what: str) -> None:
    """Check that the package has what only a checkout has, not an installed extension.

    Args:
        folder: Relative to the package.
        what: Its name in the sentence.

    Raises:
        In2nError: "no_checkout".
    """
    if not (PACKAGE / folder).is_dir():
        raise In2nError(
            "no_checkout",
            f"{what} is not here." if not what.endswith("s") else f"{what} are not here.",
            "It comes with a checkout of the project, not with the installed extension.",
        )


def run_demo(args, interruption) -> int:
    """`demo`: the whole job in Blender's own Python.

    Args:
        args: The parsed line: the demo's options.
        interruption: Says whether the user asked to stop.

    Returns:
        The demo's exit code; 130 when the user asked to stop.

    Raises:
        In2nError: "bad_path", "cannot_write", "not_ours", what `Edit.check`, `check_known` and `engine_python` raise.
        Cancelled: When the user asked to stop while packages are installed.
    """
    request_of(Edit, args, workspace="demo.in2n", name="edited")
    check_known(args.instruction, args.editor)
    refuse_foreign(free_folder(args.out), demo_names(args.frames))
    python = engine_python(interruption, ("engine", "blender"))
    return _module(python, interruption, "in2n_blender.blender.demo", demo_line(args))


def train_miniature(args, interruption) -> int:
    """`train-miniature`: hand the line to the trainer.

    Args:
        args: The parsed line; `extra` is the trainer's own.
        interruption: Says whether the user asked to stop.

    Returns:
        The trainer's exit code; 130 when the user asked to stop.

    Raises:
        In2nError: "no_checkout", and what `engine_python` raises.
        Cancelled: When the user asked to stop while packages are installed.
    """
    need_checkout("testbed", "The miniature's trainer")
    python = engine_python(interruption)
    return _module(python, interruption, "in2n_blender.testbed.miniature.train", args.extra)


def run_tests(args, interruption) -> int:
    """`test`: pytest, those of Blender in a process of their own.

    Args:
        args: The parsed line; `extra` is pytest's own, `gui` asks for the tests that need a window, `gpu` for
            what a GPU shows.
        interruption: Says whether the user asked to stop.

    Returns:
        As `worst_code`; 130 when the user asked to stop.

    Raises:
        In2nError: "no_checkout", and what `engine_python` raises.
        Cancelled: When the user asked to stop while packages are installed.
    """
    need_checkout("../tests", "The project's tests")
    tests = PACKAGE.parent / "tests"
    if args.gui:
        return _test_window(args, interruption, tests / "gui")
    if args.gpu:
        return _test_gpu(args, interruption, tests / "benchmarks" / "gpu.py")
    python = engine_python(interruption, environment.GROUPS)
    codes = []
    for paths, rest in split_test_paths(args.extra, tests):
        # bpy and torch bring libraries that do not go together: a process each
        print(f"$ python -m pytest {' '.join([*paths, *rest])}", flush=True)
        codes.append(_program(python, interruption, ["-m", "pytest", *paths, *rest], cwd=PACKAGE.parent))
        if interruption.asked:
            return 130
    return worst_code(codes)


def _test_window(args, interruption, tests: Path) -> int:
    """Only what needs a window; it tells where the screenshots are."""
    python = engine_python(interruption, ("engine", "test"))
    out = Path(args.gui_out).absolute()
    os.environ.update(IN2N_GUI="1", IN2N_GUI_OUT=str(out), IN2N_GUI_SUITE=args.gui_suite)
    code = _program(python, interruption, ["-m", "pytest", str(tests), *args.extra], cwd=PACKAGE.parent)
    if out.is_dir():
        print(f"Screenshots: {out}")
    return code


def _test_gpu(args, interruption, script: Path) -> int:
    """What a GPU does; where there is none that is said, and nothing has failed."""
    python = engine_python(interruption, ("engine", "test"))
    out = made_folder(args.gpu_out)
    code = _program(python, interruption, [str(script), "--out", str(out), *args.extra], cwd=PACKAGE.parent)
    print(f"Results: {out / 'result.json'}")
    return code


def split_test_paths(extra: list[str], tests: Path) -> list[tuple[list[str], list[str]]]:
    """pytest's runs, those without bpy first; paths on the line choose what runs where.

    Args:
        extra: pytest's arguments.
        tests: The folder of all tests.

    Returns:
        [(paths, other arguments)], one or two of them.
    """

    def is_path(text: str) -> bool:
        place = text.split("::")[0]
        return not text.startswith("-") and (Path(place).exists() or (tests.parent / place).exists())

    paths = [
        text
        for i, text in enumerate(extra)
        if is_path(text) and (i == 0 or extra[i - 1] not in ("-k", "-m", "-o", "-c", "-p"))
    ]
    rest = [text for text in extra if text not in paths]
    in_blender = (
        [text for text in paths if "blender" in _absolute(text, tests).relative_to(tests).parts[:1]] if paths else []
    )
    outside = [text for text in paths if text not in in_blender]
    if not paths or str(tests) in {str(_absolute(text, tests)) for text in outside}:
        return [([str(tests), f"--ignore={tests / 'blender'}"], rest), ([str(tests / "blender")], rest)]
    return [(group, rest) for group in (outside, in_blender) if group]


def _absolute(text: str, tests: Path) -> Path:
    place = Path(text.split("::")[0])
    found = place.resolve() if place.exists() else (tests.parent / place).resolve()
    return found if found == tests or tests in found.parents else tests / found.name


def worst_code(codes: list[int]) -> int:
    """One exit code for several runs of pytest: a run that had nothing to do counts only when none had.

    Args:
        codes: Their exit codes.
    """
    done = [code for code in codes if code != NO_TESTS_COLLECTED]
    return max(done, key=abs) if done else NO_TESTS_COLLECTED


def _module(python: Path, interruption, module: str, arguments: list[str]) -> int:
    return _program(python, interruption, ["-m", module, *arguments])


def _program(python: Path, interruption, arguments: list[str], cwd: Path | None = None) -> int:
    """Run the environment's Python in this terminal; Ctrl-C reaches it directly. Returns its exit code."""
    env = {
        **clean_environment(),
        "PYTHONPATH": str(PACKAGE.parent),
        "OMP_WAIT_POLICY": "passive",
        "IN2N_ENGINE_PYTHON": str(python),
        "IN2N_HOME": str(environment.home_folder()),
    }
    process = subprocess.Popen([str(python), *arguments], env=env, cwd=cwd)
    code = None
    while code is None:
        try:
            code = process.wait(0.2)
        except subprocess.TimeoutExpired:
            if interruption.asked_by_term:
                process.terminate()
    return 130 if interruption.asked else code if code >= 0 else 1


def install_environment(args, interruption) -> int:
    """`install`: make, verify, repair or remove the environment.

    Args:
        args: The parsed line: groups, more of them, and which of remove, verify and repair is asked for.
        interruption: Says whether the user asked to stop.

    Returns:
        The exit code: 0, or 2 where `verify` finds what does not import.

    Raises:
        In2nError: "offline", and what `environment` raises.
        Cancelled: When the user asked to stop.
    """
    printer = ProgressPrinter()
    report = Reporter(printer, lambda: interruption.asked)
    groups = (*args.groups, *args.more)
    if (machine := chosen_machine()) is not None:
        return _install_there(args, machine, report, printer)
    try:
        if args.remove:
            environment.remove(report=report)
            return 0
        if args.verify:
            failing = environment.verify(groups, report=report)
        else:
            _check_online()
            python = (environment.repair if args.repair else environment.install)(groups, report=report)
    finally:
        printer.close()
    if args.verify:
        for module, error in failing.items():
            print(f"{module}: {error}")
        print("Everything imports." if not failing else as_typed("Repair it: python3 -m in2n_blender install --repair"))
        return 2 if failing else 0
    print(f"Ready: {python}")
    return 0


def _install_there(args, machine: Machine, report: Reporter, printer: ProgressPrinter) -> int:
    if args.remove or args.repair or (*args.groups, *args.more) != ("engine",):
        raise In2nError(
            "not_there",
            f"On “{machine.name}” the engine can only be installed and looked at from here.",
            "For all else run `install` on that machine itself.",
        )
    try:
        if not args.verify:
            installing.install(machine, report)
        found = installing.condition(machine, report)
    finally:
        printer.close()
    print(installing.spoken_condition(machine, found))
    return 0 if found == environment.READY else 2


def build_extension(args, interruption) -> None:
    """`build`: the extension's zips.

    Args:
        args: The parsed line: out, and platform (or none) as `extension.build` takes it.
        interruption: Says whether the user asked to stop.

    Raises:
        In2nError: "no_checkout", "cannot_write", "bad_path", what `engine_python` and `extension.build` raise.
        Cancelled: When the user asked to stop.
    """
    extension.check_checkout()
    python = engine_python(interruption, ("blender",))
    out = made_folder(args.out)
    printer = ProgressPrinter()
    try:
        zips = extension.build(out, python, Reporter(printer, lambda: interruption.asked), args.platform)
    finally:
        printer.close()
    for file in zips:
        print(f"{file} ({file.stat().st_size / 2**20:.0f} MB)")
