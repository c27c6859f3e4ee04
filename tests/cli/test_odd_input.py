"""Paths that no system can open and numbers that are none: one sentence and one hint each, never a traceback."""

import errno
import os

import pytest

from in2n_blender.cli import commands, setup
from in2n_blender.cli import main as cli
from in2n_blender.scene.errors import In2nError

EDIT = ("--instruction", "make it snow", "--model", "any/model")
PATHS = {
    "a ring of links": "ring",
    "a ring of links above": "ring/x",
    "a user that is not there": "~nosuchuser/x",
    "a NUL": "a\0b",
    "a name too long": "n" * 300,
    "a path too long": "/".join(["n" * 200] * 30),
    "below a file": "file/x",
    "below a device": "/dev/null/x",
    "nothing": "",
    "blanks": " ",
}
LINES = {
    "import from": ("import", "PATH", "--out", "new"),
    "import to": ("import", "capture", "--out", "PATH"),
    "run from": ("run", "PATH", "--out", "new", *EDIT),
    "run to": ("run", "capture", "--out", "PATH", *EDIT),
    "reconstruct": ("reconstruct", "PATH"),
    "edit": ("edit", "PATH", *EDIT),
    "preview": ("preview", "PATH", *EDIT),
    "preview to": ("preview", "ws", "--out", "PATH", *EDIT),
    "render": ("render", "PATH"),
    "render along": ("render", "ws", "--path", "PATH"),
    "mesh": ("mesh", "PATH"),
    "evaluate": ("evaluate", "PATH"),
    "evaluate against": ("evaluate", "ws", "--edit", "e", "--truth", "PATH"),
    "evaluate to": ("evaluate", "ws", "--out", "PATH"),
    "testbed to": ("testbed", "--out", "PATH"),
    "demo to": ("demo", "--out", "PATH"),
}
NO_DEVICES = pytest.mark.skipif(os.name == "nt", reason="paths of POSIX systems")


@pytest.fixture
def here(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.symlink("ring", "ring")
    (tmp_path / "capture").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / "capture.json").write_text("{}")
    return tmp_path


def refused(line, capsys):
    """Exit code 2 with a sentence and a hint, from the command or from the reading of its line."""
    try:
        code = cli.main(list(line))
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    assert code == 2 and said.err.strip() and "Traceback" not in said.err + said.out, (code, said)
    return said.err


@NO_DEVICES
@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_path_that_cannot_be_used(here, capsys, path, line):
    before = {found for found in here.rglob("*") if found.name != "home"}
    said = refused([path if part == "PATH" else part for part in line], capsys)
    assert len(said.strip().splitlines()) == 2 or said.startswith("usage:")
    after = {found for found in here.rglob("*") if found.name != "home" and here / "home" not in found.parents}
    assert after == before and (here / "file").read_text() == "mine"


@NO_DEVICES
@pytest.mark.parametrize("option", ["--home", "--wheelhouse"])
@pytest.mark.parametrize("path", [p for name, p in PATHS.items() if not name.startswith("below")])
def test_a_folder_for_packages_that_cannot_be_used(here, capsys, monkeypatch, path, option):
    monkeypatch.setenv("IN2N_WHEELHOUSE", "")
    refused(["reconstruct", "ws", option, path], capsys)


def test_a_folder_where_a_file_is_meant(here, capsys):
    assert "is not a file" in refused(["render", "ws", "--path", "capture"], capsys)


@pytest.mark.parametrize("code", ["EACCES", "ENAMETOOLONG", "EIO"])
def test_what_the_system_says_of_a_path_is_passed_on(monkeypatch, tmp_path, code):
    number = getattr(errno, code)

    def stat(path, **_):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(setup.Path, "stat", stat)
    with pytest.raises(In2nError) as said:
        setup.given_path(tmp_path)
    assert said.value.code == "bad_path" and os.strerror(number) in said.value.message


@pytest.mark.parametrize("code", ["EACCES", "EISDIR", "ENAMETOOLONG", "ELOOP", "EROFS", "ENOSPC"])
def test_what_the_disk_says_later_is_no_traceback(here, capsys, monkeypatch, code):
    number = getattr(errno, code)

    def fails(*_):
        raise OSError(number, os.strerror(number), "somewhere")

    monkeypatch.setattr(commands, "one_job", fails)
    assert "somewhere cannot be used" in refused(["mesh", "ws"], capsys)


@pytest.mark.parametrize("number", [errno.EBADF, errno.EPIPE, None])
def test_a_mistake_in_the_program_is_not_taken_for_the_users(here, monkeypatch, number):
    def fails(*_):
        raise OSError(number, "a mistake", "somewhere") if number else OSError("a mistake")

    monkeypatch.setattr(commands, "one_job", fails)
    with pytest.raises(OSError, match="a mistake"):
        cli.main(["mesh", "ws"])


NUMBERS = ["1e999", "nan", "inf", "-inf", "-1", "9" * 5000, "x", "", "0x10", "½"]
NUMBER_LINES = {
    "--seed": ("edit", "ws", *EDIT, "--seed=N"),
    "--rounds": ("edit", "ws", *EDIT, "--rounds=N"),
    "--guidance-text": ("edit", "ws", *EDIT, "--guidance-text=N"),
    "--guidance-image": ("run", "capture", "--out", "new", *EDIT, "--guidance-image=N"),
    "--text-scales": ("preview", "ws", *EDIT, "--grid", "--text-scales=N"),
    "--steps": ("reconstruct", "ws", "--steps=N"),
    "--frames": ("render", "ws", "--frames=N"),
    "--resolution": ("mesh", "ws", "--resolution=N"),
    "--hold-out-every": ("import", "capture", "--out", "new", "--hold-out-every=N"),
    "demo --frames": ("demo", "--out", "new", "--frames=N"),
}


@pytest.mark.parametrize("line", NUMBER_LINES.values(), ids=NUMBER_LINES)
@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number[:8])
def test_a_number_that_is_none(here, capsys, number, line):
    said = refused([part.replace("=N", f"={number}") for part in line], capsys)
    assert len(said.splitlines()[-1]) < 400 and not (here / "new").exists()


@pytest.mark.parametrize("name", ["../x", "/abs", "a/b", "a\0b", "a\nb", ".", "n" * 300, "x."])
@pytest.mark.parametrize(
    "line", [("edit", "ws", *EDIT, "--name=N"), ("mesh", "ws", "--edit=N"), ("render", "ws", "--edit=N")]
)
def test_a_name_that_is_none(here, capsys, name, line):
    refused([part.replace("=N", f"={name}") for part in line], capsys)
    assert not list(here.glob("ws/edits/*")) and not (here / "x").exists()
