"""Progress on a terminal and elsewhere."""

import io

from in2n_blender.cli import terminal
from in2n_blender.scene.reporting import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal_is_one_line():
    stream = Terminal()
    printer = terminal.ProgressPrinter(stream)
    for step in range(1, 4):
        printer(Progress(step, 3, "steps", "training", 100.0))
    printer("a line of the log")
    assert stream.getvalue().count("\n") == 2 and "3/3 steps  training  2 min left" in stream.getvalue()


def test_progress_elsewhere_is_a_line_now_and_then():
    stream, now = io.StringIO(), [0.0]
    printer = terminal.ProgressPrinter(stream, every=5.0, clock=lambda: now[0])
    for step in range(101):
        now[0] = step * 0.1
        printer(Progress(step, 100, "steps", "training"))
    lines = stream.getvalue().splitlines()
    assert 3 <= len(lines) <= 4 and "100/100" in lines[-1]
