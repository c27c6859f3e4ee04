"""What a killed process leaves behind is cleared, and what another one is at work on is not."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from in2n_blender.scene import unfinished
from in2n_blender.scene.readers.archive import unpacked
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace import edits, files, moving, successor
from in2n_blender.workspace.layout import Workspace
from tests.scene.captures import write_transforms

ROOT = Path(__file__).resolve().parents[2]
DAY = 86_400
POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows does not tell whether a process is another's")
# what a process that dies in the middle of each leaves
KILLED = """
import os, signal, sys
from pathlib import Path
from in2n_blender.workspace import edits, files, moving
from in2n_blender.workspace.layout import Workspace
from in2n_blender.scene import unfinished
from in2n_blender.scene.readers.archive import unpacked
from in2n_blender.scene.reporting import Reporter
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
what, root = sys.argv[1], Path(sys.argv[2])
if what == "save":
    with files.atomic_path(root / "a.bin") as temporary:
        temporary.write_bytes(b"half")
        die()
edits.copy_files = moving.copy_files = lambda folder, listed, target, *_: ((target / "x").mkdir(parents=True), die())
moving._other_disk = lambda *_: True
if what == "copy":
    edits.duplicate(Workspace(root), "e", "f")
elif what == "move":
    moving.os.rename = lambda *_: (_ for _ in ()).throw(OSError(18, "another disk"))
    moving.move_workspace(root, root.parent / "new", Reporter())
elif what == "remove":
    edits.shutil.rmtree = die
    edits.remove(Workspace(root), "e")
"""


def killed(what, root):
    done = subprocess.run([sys.executable, "-c", KILLED, what, str(root)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_cleared", {})
    root = tmp_path / "ws"
    for name in ("e", "g"):
        files.write_json(root / "edits" / name / "edit.json", {"name": name})
    monkeypatch.setattr(files, "_cleared", {})
    return root


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@POSIX
def test_the_next_save_into_a_folder_clears_half_files(root):
    killed("save", root)
    assert len(hidden(root)) == 1
    files.write_json(root / "b.json", {})
    assert hidden(root) == [] and not (root / "a.bin").exists()


# Killed by the system in the middle of a file's bytes, of which it lets no more be written.
CUT_SHORT = """
import resource, signal, sys
from pathlib import Path
import torch
from in2n_blender.engine.nerf.checkpoint import save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
save_checkpoint(Path(sys.argv[1]), {"x": torch.zeros(1 << 16)}, {})
"""


@POSIX
def test_a_checkpoint_that_was_cut_short_is_cleared_whatever_the_library_called_it(root):
    """Safetensors writes to a file of a name of its own first, as large as the checkpoint."""
    edit = Workspace(root).edit("e")
    done = subprocess.run([sys.executable, "-c", CUT_SHORT, str(edit)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGXFSZ, done.stderr
    assert len(hidden(edit)) == 1, "the library's own is in it"
    edits.duplicate(Workspace(root), "e", "f")
    assert [path.name for path in Workspace(root).edit("f").rglob("*")] == ["edit.json"]
    successor.settle(Workspace(root), edit)
    assert [path.name for path in edit.rglob("*")] == ["edit.json"]


@POSIX
def test_a_copy_a_removal_and_a_move_that_were_killed_are_cleared_by_the_next(root):
    killed("copy", root)
    assert len(hidden(root)) == 1 and Workspace(root).edits() == ["e", "g"]
    edits.duplicate(Workspace(root), "e", "f")
    assert hidden(root) == [] and set(Workspace(root).edits()) == {"e", "f", "g"}
    killed("remove", root)
    assert len(hidden(root)) == 1 and set(Workspace(root).edits()) == {"f", "g"}
    edits.remove(Workspace(root), "f")
    assert hidden(root) == []
    killed("move", root)
    assert len(hidden(root.parent)) == 1 and root.is_dir()
    other = root.parent / "other"
    shutil.copytree(root, other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving, "_other_disk", lambda *_: True)
        real = os.rename
        fails_once = lambda source, target: real(source, target) if ".moving" in str(source) else _another_disk()
        patch.setattr(moving.os, "rename", fails_once)
        moving.move_workspace(other, root.parent / "new", Reporter())
    assert hidden(root.parent) == [] and Workspace(root.parent / "new").edits()


def _another_disk():
    raise OSError(18, "another disk")


def test_what_is_being_written_stays_and_what_is_old_goes(root):
    busy = root / f"{unfinished.own_prefix(unfinished.TEMPORARY)}x.png"
    elsewhere, old = root / ".writing-99999999-abcdef-x.png", root / ".writing-old.png"  # another machine's
    for path in (busy, elsewhere, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * DAY,) * 2)
    files.write_json(root / "b.json", {})
    assert busy.exists() and elsewhere.exists() and not old.exists()


def test_a_number_that_was_given_out_again_makes_no_file_anybodys(root):
    """Numbers come round within minutes on a busy machine, and threads have some of them."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    thread = threading.Thread(target=other.wait)
    thread.start()
    theirs, ours = unfinished.birth_of(other.pid), unfinished.birth_of(os.getpid())
    assert theirs and ours and unfinished.birth_of(os.getpid()) == ours
    begun = lambda number, birth: root / f".writing-{number}-{unfinished.MACHINE}-{birth}-x.png"
    alive = begun(other.pid, theirs)
    gone = [begun(other.pid, int(theirs) - 5), begun(os.getpid(), int(ours) - 5)]
    gone += [begun(thread.native_id, ours)] if sys.platform == "linux" else []
    for path in (alive, *gone):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - 2 * DAY,) * 2)  # the computer may have slept
    files.write_json(root / "b.json", {})
    assert alive.exists() and not any(path.exists() for path in gone)
    other.stdin.close()
    thread.join()
    assert unfinished.birth_of(other.pid) is None
    unfinished.clear_stale(root, unfinished.TEMPORARY)
    assert not alive.exists()


@POSIX
def test_ps_tells_processes_apart_where_there_is_no_proc():
    assert unfinished._birth_by_ps(os.getpid()).isdecimal()
    assert unfinished._birth_by_ps(os.getpid()) != unfinished._birth_by_ps(1)
    assert unfinished._birth_by_ps(2**22 + 1) == ""


def test_a_folder_is_looked_through_again_after_a_while(root, monkeypatch):
    monkeypatch.setattr(files, "LOOKED_EVERY", 0.0)
    files.write_json(root / "a.json", {})
    half = root / f".writing-99999-{unfinished.MACHINE}-7-x.png"
    half.write_bytes(b"half")
    files.write_json(root / "a.json", {})
    assert not half.exists()


@POSIX
def test_an_archive_that_was_half_unpacked_is_cleared(tmp_path):
    capture = write_transforms(tmp_path / "capture").parent
    archive = Path(shutil.make_archive(str(tmp_path / "a"), "zip", capture))
    source = (
        "import os, signal, sys; from pathlib import Path; from in2n_blender.scene.readers import archive\n"
        "archive.json.dumps = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "archive.unpacked(Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", source, str(archive)], cwd=ROOT)
    assert done.returncode == -9 and len(hidden(tmp_path)) == 1
    assert unpacked(archive).is_dir() and not hidden(tmp_path)


def test_a_folder_is_looked_through_once_for_all_that_a_process_writes(root, monkeypatch):
    looked = []
    monkeypatch.setattr(files, "clear_stale", lambda folder, kind: looked.append(folder))
    for number in range(5):
        files.write_json(root / f"{number}.json", {})
    assert looked == [root]
