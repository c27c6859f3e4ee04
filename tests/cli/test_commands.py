"""The command line: arguments, errors, progress, and whole runs against the real worker with jobs that need no
torch."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from in2n_blender.cli import commands
from in2n_blender.cli import main as cli
from in2n_blender.cli import run as whole_run
from in2n_blender.environment.uv import Uv
from in2n_blender.scene.errors import In2nError
from in2n_blender.workspace import files, layout, outputs

ROOT = Path(__file__).resolve().parents[2]
FAKE = ROOT / "tests" / "link" / "fake_worker.py"


def run(capture, out, *more, instruction="make it snow", editor="any/model"):
    """The recorded engine takes any editor, and does what some instructions say."""
    return cli.main(["run", str(capture), "--out", str(out), "--instruction", instruction, "--editor", editor, *more])


# --- whole runs


def test_run_does_every_stage_and_hands_their_results_to_the_summary(engine, capture, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(capture, out) == 0
    asked = json.loads((out / "report.json").read_text())
    assert (
        set(asked["results"]) == {"import", "reconstruct", "edit", "render", "mesh"}
        and asked["results"]["reconstruct"]["psnr_db"] == 30.0
    )
    place = layout.Workspace(asked["workspace"])
    assert place.root.parent == out and (place.renders(asked["edit"], asked["camera_path"]) / "0002.exr").exists()
    assert place.mesh(asked["edit"], ".glb").exists()


def test_run_goes_on_where_it_fell_over(engine, capture, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(capture, out, instruction="crash once") == 2
    assert "stopped unexpectedly: about to fall over" in capsys.readouterr().err
    assert run(capture, out, instruction="crash once") == 0
    assert "reconstruct: done before" in capsys.readouterr().out
    assert (out / "workspace" / "calls.txt").read_text() == "reconstruct restart=False\n"


def test_run_with_another_seed_reconstructs_anew_but_another_instruction_does_not(engine, capture, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(capture, out) == 0
    assert run(capture, out, instruction="make it autumn") == 0
    assert run(capture, out, "--seed", "3") == 0
    # The engine knows what a reconstruction is made from, and keeps the earlier one.
    assert (out / "workspace" / "calls.txt").read_text().splitlines() == ["reconstruct restart=False"] * 2
    assert len(list((out / "workspace" / "edits").iterdir())) == 3


def test_photos_that_were_changed_under_the_same_names_are_imported_again(engine, capture, tmp_path, capsys):
    out = capture / "out"  # what the run writes below the capture is no change
    (capture / "photo.png").write_text("dark")
    assert run(capture, out) == 0 and run(capture, out) == 0
    assert "import: done before" in capsys.readouterr().out
    (capture / "photo.png").write_text("light")
    assert run(capture, out) == 0 and "done before" not in capsys.readouterr().out
    assert len((out / "workspace" / "calls.txt").read_text().splitlines()) == 2


def test_what_follows_a_stage_that_had_to_be_repeated_is_asked_for_again(engine, capture, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(capture, out) == 0
    (out / "workspace" / "reconstruction" / "checkpoint.safetensors").unlink()
    capsys.readouterr()
    assert run(capture, out) == 0 and capsys.readouterr().out.count("done before") == 1
    assert len((out / "workspace" / "calls.txt").read_text().splitlines()) == 2


def test_an_edit_of_something_else_is_made_again_under_its_name(engine, capture, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(capture, out, instruction="belongs to another reconstruction") == 0
    assert "It is made again" in capsys.readouterr().out


def test_another_capture_does_not_overwrite_the_first(engine, capture, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    assert run(capture, tmp_path / "out") == 0
    assert run(other, tmp_path / "out") == 2
    assert "another capture" in sentence_and_hint(capsys)
    assert (tmp_path / "out" / "report.json").exists()


def test_the_parts_alone(engine, capture, tmp_path, capsys):
    place = str(tmp_path / "ws")
    assert cli.main(["import", str(capture), "--out", place, "--preset", "draft"]) == 0
    assert cli.main(["reconstruct", place, "--steps", "2"]) == 0
    assert "psnr_db: 30.00" in capsys.readouterr().out
    assert cli.main(["edit", place, "--instruction", "make it snow", "--name", "snow"]) == 0
    assert cli.main(["render", place, "--edit", "snow", "--frames", "2"]) == 0
    assert cli.main(["mesh", place, "--edit", "snow"]) == 0
    assert layout.Workspace(place).mesh("snow", ".glb").exists()


def test_an_edit_is_limited_to_the_region_of_a_file(engine, capture, tmp_path, capsys, monkeypatch):
    place, region = str(tmp_path / "ws"), tmp_path / "region.json"
    region.write_text('{"type": "box", "center": [0, 0, 0], "size": [1, 1, 1]}')
    monkeypatch.chdir(tmp_path)
    assert cli.main(["import", str(capture), "--out", place]) == 0 and cli.main(["reconstruct", place]) == 0
    asked = []
    monkeypatch.setattr(commands, "one_job", lambda request, interruption: asked.append(request))
    line = ["edit", place, "--instruction", "make it snow", "--region", "region.json"]
    assert cli.main(line) == 0 and cli.main([*line, "--soft-edge", "0.1"]) == 0
    assert [request.region for request in asked] == [str(region)] * 2
    assert [request.soft_edge for request in asked] == [None, 0.1]
    region.write_text('{"type": "box", "center": [0, 0, 1], "size": [1, 1, 1]}')
    assert cli.main(line) == 0 and cli.main(line[:-2]) == 0
    assert len({request.name for request in asked}) == 4, "another region or edge is another edit"
    capsys.readouterr()
    for wrong in ("nothing.ply", str(tmp_path)):
        assert cli.main([*line[:-1], wrong]) == 2
        sentence_and_hint(capsys)
    assert cli.main([*line[:-2], "--soft-edge", "0.1"]) == 2
    assert "soft edge" in sentence_and_hint(capsys)


def test_splats_are_asked_for_as_the_line_says(engine, capture, tmp_path, capsys, monkeypatch):
    place, keep = str(tmp_path / "ws"), tmp_path / "keep.json"
    keep.write_text('{"type": "box", "center": [0, 0, 0], "size": [1, 1, 1]}')
    monkeypatch.chdir(tmp_path)
    assert cli.main(["import", str(capture), "--out", place]) == 0
    asked = []
    monkeypatch.setattr(commands, "one_job", lambda request, interruption: asked.append(request))
    assert cli.main(["splats", place]) == 0
    assert cli.main(["splats", place, "--edit", "snow", "--splats", "9000", "--steps", "0", "--no-background"]) == 0
    assert cli.main(["splats", place, "--edit", "original", "--keep", "keep.json", "--background"]) == 0
    first, second, third = asked
    assert (first.edit, first.splats, first.background, first.keep) == (None, 500_000, True, None)
    assert (second.edit, second.splats, second.steps, second.background) == ("snow", 9000, 0, False)
    assert (third.edit, third.background, third.keep) == (None, True, str(keep))
    capsys.readouterr()
    assert cli.main(["splats", place, "--keep", "nothing.json"]) == 2
    sentence_and_hint(capsys)


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_cancels_and_ends_the_worker(home, capture, tmp_path):
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom in2n_blender.cli import commands\nfrom "
        "in2n_blender.cli import main as cli\nfrom in2n_blender.link import client\n"
        f"commands.Client = lambda python, log, command: client.Client(python, log, {str(FAKE)!r}, command)\n"
        f"sys.exit(cli.main(['run', {str(capture)!r}, '--out', {str(tmp_path / 'out')!r}, '--instruction', 'wait', "
        "'--editor', 'any/model']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "IN2N_ENGINE_PYTHON": sys.executable},
    )
    for line in process.stdout:
        if "waiting" in line:
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "go on" in said and "Traceback" not in said


# --- what it did not make


FOREIGN = ["run.json", "mesh.glb", "report.json", "contact_sheet.png", "before_after.gif", "frames/edited/0002.exr"]


@pytest.mark.parametrize("name", [*FOREIGN, "workspace/capture.json", "workspace/images/photo.png", "frames"])
def test_a_run_refuses_before_it_starts_to_overwrite_what_it_did_not_make(engine, capture, tmp_path, capsys, name):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    assert run(capture, out) == 2
    assert str(out / name.split("/images")[0].split("/capture")[0]) in sentence_and_hint(capsys)
    assert [path for path in out.rglob("*") if path.is_file()] == [out / name] and (out / name).read_text() == "mine"


def test_what_lies_beside_the_results_survives(engine, capture, tmp_path, capsys):
    out = tmp_path / "out"
    for name in ("frames/mine.txt", "frames/edited/mine.png", "notes.txt"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
    assert run(capture, out) == 0 and run(capture, out, "--seed", "3") == 0
    assert {path.read_text() for path in (out / "frames").rglob("mine.*")} == {"mine"}
    assert (out / "notes.txt").read_text() == "mine"


def test_a_run_refuses_what_was_changed_since_and_another_folder_is_free(engine, capture, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(capture, out) == 0
    outputs.record(out, ["report.json"])
    (out / "report.json").write_text("notes of mine")
    capsys.readouterr()
    assert run(capture, out) == 2 and "report.json was changed since" in sentence_and_hint(capsys)
    assert run(capture, tmp_path / "other") == 0


def test_a_folder_of_the_last_version_goes_on(engine, capture, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(capture, out) == 0
    (out / "mesh.glb").write_text("ours")
    (out / outputs.MANIFEST).unlink()
    capsys.readouterr()
    assert run(capture, out) == 0 and "reconstruct: done before" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[]", "5", '{"import": 5}', '{"import": {"settings": {}}}', "mine"])
def test_a_run_json_of_another_shape(engine, capture, tmp_path, capsys, text):
    (tmp_path / "run.json").write_text(text)
    assert run(capture, tmp_path) == 2
    assert "run.json" in sentence_and_hint(capsys) and (tmp_path / "run.json").read_text() == text


def test_a_new_folder_in_which_somebody_else_put_something_is_not_removed(engine, tmp_path, capsys, monkeypatch):
    unreadable, out = tmp_path / "unreadable", tmp_path / "out"
    unreadable.mkdir()
    claim = whole_run.claim

    def claim_and_more(folder, names):
        claim(folder, names)
        (folder / "mine.txt").write_text("mine")

    monkeypatch.setattr(whole_run, "claim", claim_and_more)
    assert run(unreadable, out) == 2 and (out / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("command, name", [("evaluate", "result.json"), ("evaluate", "sheet.png")])
def test_a_measurement_does_not_overwrite_either(engine, tmp_path, capsys, command, name):
    (tmp_path / "capture.json").write_text("{}")
    (tmp_path / name).write_text("mine")
    assert cli.main([command, str(tmp_path), "--out", str(tmp_path)]) == 2
    assert name in sentence_and_hint(capsys) and (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["preview.json", "photo.png", "sheet.png", "text-5-image-1.png"])
def test_nor_does_a_preview(engine, tmp_path, capsys, name):
    (tmp_path / "capture.json").write_text("{}")
    (tmp_path / name).write_text("mine")
    line = ["preview", str(tmp_path), "--out", str(tmp_path), "--instruction", "make it snow"]
    assert cli.main(line) == 2
    assert name in sentence_and_hint(capsys) and (tmp_path / name).read_text() == "mine"


# --- bad input: one sentence, one hint, exit code 2


def sentence_and_hint(capsys):
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and lines[1].startswith("  ")
    return lines[0]


def test_a_capture_that_is_not_there(engine, tmp_path, capsys):
    assert run(tmp_path / "nothing", tmp_path / "out") == 2
    assert "nothing does not exist" in sentence_and_hint(capsys)
    assert not (tmp_path / "out").exists()


def test_an_empty_instruction(engine, capture, tmp_path, capsys):
    assert run(capture, tmp_path / "out", instruction="  ") == 2
    assert sentence_and_hint(capsys) == "The instruction is empty."
    assert not (tmp_path / "out").exists()


def test_an_instruction_that_the_miniature_does_not_know_costs_no_time(engine, capture, tmp_path, capsys):
    assert run(capture, tmp_path / "out", instruction="turn him into a clown", editor="miniature") == 2
    assert "does not know" in sentence_and_hint(capsys)
    assert cli.main(["demo", "--out", str(tmp_path / "out"), "--instruction", "turn him into a clown"]) == 2
    assert "does not know" in sentence_and_hint(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "option, value", [("--preset", "huge"), ("--device", "abacus"), ("--frames", "0"), ("--seed", "x")]
)
def test_options_that_do_not_exist(engine, capture, tmp_path, capsys, option, value):
    with pytest.raises(SystemExit) as ended:
        run(capture, tmp_path / "out", option, value)
    assert ended.value.code == 2 and option in capsys.readouterr().err


def test_a_guidance_scale_below_zero(engine, capture, tmp_path, capsys):
    assert run(capture, tmp_path / "out", "--guidance-text=-1") == 2
    assert "-1" in sentence_and_hint(capsys)


def test_a_folder_that_is_no_workspace(engine, tmp_path, capsys):
    assert cli.main(["reconstruct", str(tmp_path)]) == 2
    assert "not a workspace" in sentence_and_hint(capsys)


def test_an_output_folder_that_is_a_file(engine, capture, tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert run(capture, tmp_path / "out") == 2
    assert "cannot be made" in sentence_and_hint(capsys)


def test_a_full_disk_leaves_nothing_half_written(engine, capture, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    assert run(capture, out) == 2
    assert "disk is full" in sentence_and_hint(capsys)
    assert not out.exists()


def test_a_capture_that_cannot_be_read_leaves_no_folder_behind(engine, tmp_path, capsys):
    capture = tmp_path / "unreadable"
    capture.mkdir()
    assert run(capture, tmp_path / "out") == 2
    assert "no photos" in sentence_and_hint(capsys)
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_in_the_engine(engine, capture, tmp_path, capsys):
    assert run(capture, tmp_path / "out", instruction="disk") == 2
    assert sentence_and_hint(capsys) == "The disk is full."


def test_a_mistake_in_the_program_keeps_its_traceback(engine, capture, tmp_path, capsys):
    assert run(capture, tmp_path / "out", instruction="bug") == 1
    assert "ValueError: a mistake" in capsys.readouterr().err


def test_no_network(home, capture, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("IN2N_ENGINE_PYTHON", raising=False)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setattr(Uv, "_own_index_serves", lambda self, torch: False)
    assert cli.main(["import", str(capture), "--out", str(tmp_path / "ws")]) == 2
    assert "could not be downloaded" in sentence_and_hint(capsys)


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "run",
        "batch",
        "import",
        "reconstruct",
        "edit",
        "render",
        "mesh",
        "splats",
        "test",
        "install",
        "train-miniature",
    ],
)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0 and "--home" in capsys.readouterr().out


# --- pieces


def named(instruction="Make it SNOW, please!", **changes):
    arguments = {
        "editor": "miniature",
        "guidance_text": None,
        "guidance_image": None,
        "seed": 0,
        "rounds": None,
        "editing_method": "iterative",
        "noise_schedule": None,
        "perceptual": "auto",
        "soft_edge": None,
        "negative_prompt": "",
        **changes,
    }
    return commands.edit_name(type("Arguments", (), {"instruction": instruction, **arguments}))


def test_edit_names_are_readable_valid_and_tell_edits_apart():
    assert named().startswith("make-it-snow-please-") and named() == named()
    others = {"seed": 1}, {"guidance_text": 7.5}, {"editing_method": "agreement"}, {"negative_prompt": "fog"}
    assert len({named(), *(named(**other) for other in others)}) == 5
    assert layout.safe_name(named("雪")) and layout.safe_name(named("x" * 500))


def test_the_files_of_an_edit_are_absolute_and_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "5.png").write_bytes(b"red")
    given = lambda **more: type("Arguments", (), {"key_view": None, "region": None, "soft_edge": None, **more})
    assert commands.edit_files(given(key_view="5.png")) == {"region": None, "key_view": str(tmp_path / "5.png")}
    with pytest.raises(In2nError) as raised:
        commands.edit_files(given(key_view="6.png"))
    assert raised.value.code == "missing_file"


@pytest.mark.parametrize("version, expected", [((3, 8), 2), ((3, 10), 2)])
def test_an_old_python_gets_one_sentence(monkeypatch, capsys, version, expected):
    from in2n_blender import __main__ as entry

    monkeypatch.setattr(entry.sys, "version_info", (*version, 0))
    assert entry.main() == expected
    said = capsys.readouterr().err
    assert "Python 3.11 or 3.13" in said and f"this is Python {version[0]}.{version[1]}" in said


# --- a workspace in which Blender works


HOLD_LOCK = """
import sys
sys.path.insert(0, sys.argv[1])
from in2n_blender.workspace.journal import Journal
journal = Journal(sys.argv[2], "Reconstruct", None)
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def worked_in(workspace):
    """While another process holds the workspace's lock, as Blender does for a job."""
    command = [sys.executable, "-c", HOLD_LOCK, str(ROOT), str(workspace)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline().strip() == b"locked"
        yield
        holder.stdin.close()


def results(workspace):
    return {
        path: path.stat().st_mtime_ns for path in workspace.rglob("*") if not re.match(r"job\.|engine\.log", path.name)
    }


@pytest.mark.parametrize(
    "line",
    [
        ("import", "capture", "--out", "ws"),
        ("reconstruct", "ws"),
        ("edit", "ws", "--instruction", "make it snow"),
        ("render", "ws"),
        ("mesh", "ws"),
    ],
    ids=lambda line: line[0],
)
def test_a_workspace_that_another_process_works_in_is_left_alone(engine, capture, tmp_path, monkeypatch, capsys, line):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["import", "capture", "--out", "ws"]) == 0
    before = results(tmp_path / "ws")
    with worked_in(tmp_path / "ws"):
        capsys.readouterr()
        assert cli.main(list(line)) == 2
        assert "Another program works in the workspace" in sentence_and_hint(capsys)
        assert results(tmp_path / "ws") == before
    assert cli.main(list(line)) == 0


def test_a_run_stops_before_a_workspace_that_is_worked_in_and_goes_on_later(engine, capture, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(capture, out) == 0
    with worked_in(out / "workspace"):
        capsys.readouterr()
        assert run(capture, out, "--seed", "3") == 2
        assert "Another program works in the workspace" in sentence_and_hint(capsys)
    assert run(capture, out, "--seed", "3") == 0
