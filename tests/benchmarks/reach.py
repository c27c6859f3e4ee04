"""Which lines of the engine each test runs, and how long it takes: what `mutation` chooses a mutant's tests by."""

from __future__ import annotations

import ast
import difflib
import sys
import threading
import time
from collections import defaultdict

import pytest


class Recorder:
    """A plugin for pytest that notes the lines of some files which each test runs, with what its fixtures run for it.

    Attributes:
        tests: for each test's id its "seconds" of a core and its "lines": their numbers for each file that it reaches.
    """

    def __init__(self, files: set[str]):
        self.tests = {}
        self._files, self._lines, self._fixtures, self._spent = files, set(), defaultdict(set), defaultdict(float)

    def start(self) -> None:
        threading.settrace(self._called)
        sys.settrace(self._called)

    def stop(self) -> None:
        sys.settrace(None)
        threading.settrace(None)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item):
        started, before, self._lines = time.process_time(), sum(self._spent.values()), set()
        yield
        seconds = time.process_time() - started - (sum(self._spent.values()) - before)
        lines = self._lines.union(*(self._fixtures[name] for name in item.fixturenames))
        by_file = defaultdict(list)
        for file, line in sorted(lines):
            by_file[file].append(line)
        seconds += sum(self._spent[name] for name in item.fixturenames)
        self.tests[item.nodeid] = {"seconds": round(seconds, 3), "lines": by_file}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        """What is made once for several tests belongs to each of them."""
        if fixturedef.scope == "function":
            yield
            return
        outer, started, before = self._lines, time.process_time(), sum(self._spent.values())
        self._lines = set()
        yield
        self._fixtures[fixturedef.argname] |= self._lines
        self._spent[fixturedef.argname] += time.process_time() - started - (sum(self._spent.values()) - before)
        self._lines = outer | self._lines

    def _called(self, frame, event, argument):
        return self._at_line if frame.f_code.co_filename in self._files else None

    def _at_line(self, frame, event, argument):
        if event == "line":
            self._lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._at_line


def lines_to_reach(source: str, mutant: str) -> set[int] | None:
    """The lines of which a test must run one to notice a mutant; None where any of the file will do.

    Args:
        source, mutant: the file as it is and as the mutant has it.

    Returns:
        The lines of the statement that is changed; of the whole function where its head is; None for what runs as the
        file is imported, and for functions that do nothing.
    """
    changed = _changed_lines(source, mutant)
    statements = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    functions = [node for node in statements if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    around = [node for node in functions if _first(node) <= min(changed) and max(changed) <= node.end_lineno]
    if not around:
        return None
    inner = max(around, key=_first)
    if min(changed) < inner.body[0].lineno:
        if all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in inner.body):
            return None
        return set(range(inner.body[0].lineno, inner.end_lineno + 1))
    lines = set()
    for node in statements:
        own = _own_lines(node)
        if node.lineno >= inner.body[0].lineno and node.end_lineno <= inner.end_lineno and changed & own:
            lines |= own
    return lines or set(range(inner.body[0].lineno, inner.end_lineno + 1))


def _changed_lines(source: str, mutant: str) -> set[int]:
    matcher = difflib.SequenceMatcher(None, source.splitlines(), mutant.splitlines(), autojunk=False)
    blocks = [(first, last) for what, first, last, _, _ in matcher.get_opcodes() if what != "equal"]
    return {line + 1 for first, last in blocks for line in range(first, max(last, first + 1))}


def _first(function: ast.FunctionDef) -> int:
    return min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])


def _own_lines(statement: ast.stmt) -> set[int]:
    """Without those of the statements inside."""
    body = getattr(statement, "body", None)
    return set(range(statement.lineno, body[0].lineno if body else statement.end_lineno + 1)) or {statement.lineno}
