"""The checkout is as ruff wants it, by the settings of pyproject.toml."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("command", [["check"], ["format", "--check", "--diff"]], ids=lambda command: command[0])
def test_ruff(command):
    asked = [sys.executable, "-m", "ruff", *command, "--no-cache", "--quiet", "."]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
