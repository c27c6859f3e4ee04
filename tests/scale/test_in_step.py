"""Two folders in step, without a network: what is sent, fetched, removed and kept, and what both machines call it."""

import json
from pathlib import PurePosixPath

import pytest

from in2n_blender.remote import trees
from in2n_blender.remote.exchange import Steps, steps_between
from in2n_blender.remote.machines import FOLDER, Machine, from_text, machine_of, ssh_command, why_not_reached
from in2n_blender.remote.paths import Places
from in2n_blender.scene.errors import In2nError


def tree(**files):
    return {path.replace("__", "."): (1, mark) for path, mark in files.items()}


@pytest.mark.parametrize(
    "here, there, known, step",
    [
        ("a", None, None, "push"),  # new here
        (None, "a", None, "pull"),  # new there
        ("a", "a", None, None),  # the same, though nobody noted it
        ("b", "a", ("a", "a"), "push"),  # changed here
        ("a", "b", ("a", "a"), "pull"),  # changed there
        ("b", "c", ("a", "a"), "keep"),  # changed on both sides
        ("a", "A", ("a", "A"), None),  # the same file, which names other paths there
        (None, "a", ("a", "a"), "remove_there"),  # removed here
        (None, "b", ("a", "a"), "pull"),  # removed here, changed there: what was made is not thrown away
        ("b", None, ("a", "a"), "push"),  # removed there, changed here
    ],
)
def test_what_is_done_with_a_file(here, there, known, step):
    known = {"f": list(known)} if known else {}
    mine, other = ({"f": (1, mark)} if mark else {} for mark in (here, there))
    steps = steps_between(mine, other, known, after_job=False)
    done = {name for name in Steps.__dataclass_fields__ if getattr(steps, name)}
    assert done == ({"push", "keep"} if step == "keep" else {step} if step else set())


def test_only_a_job_of_ours_removes_what_lies_here():
    """A copy that somebody cleared away is no reason to clear what it is a copy of."""
    here, known = tree(f="a"), {"f": ["a", "a"]}
    assert steps_between(here, {}, known, after_job=True).remove_here == ("f",)
    assert steps_between(here, {}, known, after_job=False).push == ("f",)


def test_paths_in_requests_answers_and_files():
    places = Places()
    places.add("/home/me/ws", "/data/workspaces/ab")
    places.add("/home/me/ws/in", "/data/inputs/cd")  # the innermost counts
    asked = {"workspace": "/home/me/ws", "n": 3, "view": None, "files": ["/home/me/ws/in/a.png", "/home/me/ws2/b"]}
    there = places.there(asked)
    assert there == {**asked, "workspace": "/data/workspaces/ab", "files": ["/data/inputs/cd/a.png", "/home/me/ws2/b"]}
    assert places.here(there) == asked
    assert places.here("/data/workspaces/ab/x.png is damaged.") == "/home/me/ws/x.png is damaged."
    text = json.dumps({"file": '/home/me/ws/a "b".png', "other": "/home/me/ws2", "root": "/home/me/ws"}).encode()
    moved = places.file_there("edit.json", text)
    assert json.loads(moved) == {
        "file": '/data/workspaces/ab/a \"b\".png', "other": "/home/me/ws2", "root": "/data/workspaces/ab"
    }  # fmt: skip
    assert places.file_here("edit.json", moved) == text


def test_windows_paths_become_those_of_the_other_machine():
    places = Places()
    places.add("C:\\Users\\me\\ws", "/data/ws")
    assert places.there("C:\\Users\\me\\ws\\images\\a.png") == str(PurePosixPath("/data/ws/images/a.png"))
    text = json.dumps({"file": "C:\\Users\\me\\ws\\images\\a.png"}).encode()
    assert json.loads(places.file_there("a.json", text)) == {"file": "/data/ws/images/a.png"}


def test_a_tree_leaves_out_what_is_each_machines_own(tmp_path):
    root = tmp_path / "ws"
    for name in (
        "a.png",
        "job.lock",
        "engine.log",
        "edits/e/job.json",
        ".machines/x.json",
        ".writing-1-a",
        ".photos.json",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "link").symlink_to(tmp_path)
    found = trees.tree_of(root, tmp_path / "memory.json")
    assert set(found) == {"a.png", "edits/e/job.json", ".photos.json"}
    (root / "a.png").write_text("other")
    again = trees.tree_of(root, tmp_path / "memory.json")
    assert again["a.png"] != found["a.png"] and again[".photos.json"] == found[".photos.json"]


@pytest.mark.parametrize(
    "path", ["../a", "/etc/passwd", "a/../../b", "", ".", "job.lock", ".machines/x", "c:\\a", "a\\b"]
)
def test_what_another_machine_names_stays_in_the_folder(tmp_path, path):
    with pytest.raises(In2nError) as error:
        trees.inside(tmp_path, path)
    assert error.value.code == "leads_out"


def test_a_link_in_the_folder_leads_nowhere(tmp_path):
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / "out").symlink_to(tmp_path)
    with pytest.raises(In2nError):
        trees.Arrival(tmp_path / "ws", "out/a.png", "ab12")


def test_a_file_arrives_whole_or_not_at_all(tmp_path):
    from in2n_blender.workspace.hashes import hash_of_bytes

    data = b"a picture" * 1000
    arrival = trees.Arrival(tmp_path, "images/a.png", hash_of_bytes([data]))
    arrival.take(data[:100])
    assert not arrival.file.exists()
    later = trees.Arrival(tmp_path, "images/a.png", hash_of_bytes([data]))
    assert later.have == 100, "it is gone on with"
    later.take(data[100:])
    assert later.finish() == hash_of_bytes([data]) and later.file.read_bytes() == data
    damaged = trees.Arrival(tmp_path, "images/a.png", hash_of_bytes([b"other"]))
    damaged.take(b"othex")
    with pytest.raises(In2nError, match="damaged"):
        damaged.finish()
    assert damaged.file.read_bytes() == data and damaged.have == 0


@pytest.mark.parametrize(
    "text, host, folder",
    [
        ("gpu", "gpu", FOLDER),
        ("me@gpu.example.org", "me@gpu.example.org", FOLDER),
        ("me@gpu:/data/in2n", "me@gpu", "/data/in2n"),
        ("gpu:~/big", "gpu", "~/big"),
        ("ssh://me@gpu:2222", "ssh://me@gpu:2222", FOLDER),
    ],
)
def test_a_machine_on_the_command_line(text, host, folder):
    machine = from_text(text)
    assert (machine.host, machine.folder) == (host, folder)
    assert machine_of(machine.address) == machine and machine_of("/usr/bin/python3") is None


@pytest.mark.parametrize("text", ["-oProxyCommand=x", "", "a b", "a;b", "$(a)"])
def test_a_host_is_never_an_option_or_a_command(text):
    with pytest.raises(In2nError) as error:
        from_text(text)
    assert error.value.code == "bad_machine"


def test_the_command_asks_for_no_password_and_quotes_what_it_hands_on(tmp_path, monkeypatch):
    ssh = tmp_path / "ssh"
    ssh.touch()
    monkeypatch.setenv("IN2N_SSH", str(ssh))
    command = ssh_command(Machine("Box", "me@gpu", "/a b/$(touch x)"), "print(1)", "/a b/$(touch x)")
    assert command[0] == str(ssh) and "BatchMode=yes" in command and command[-2] == "me@gpu"
    assert "'/a b/$(touch x)'" in command[-1] and command[command.index("me@gpu") - 1] == "--"


@pytest.mark.parametrize(
    "said, code",
    [
        ("me@gpu: Permission denied (publickey).", "no_key"),
        ("Host key verification failed.", "unknown_host_key"),
        ("ssh: connect to host gpu port 22: Connection refused", "no_machine"),
        ("in2n: no Python", "no_python_there"),
        ("", "no_machine"),
    ],
)
def test_why_a_machine_is_not_reached(said, code):
    error = why_not_reached(Machine("Box", "me@gpu"), said)
    assert error.code == code and "Box" in error.message and error.hint
