"""What shows what a GPU does works without one, too: in the smallest sizes, part by part."""

import json
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from in2n_blender.cli import setup
from in2n_blender.cli.main import build_parser
from tests.benchmarks import gpu
from tests.benchmarks.gpu_table import table

CPU_TINY = ["--device", "cpu", "--tiny"]


def result(out: Path) -> dict:
    return json.loads((out / "result.json").read_text(encoding="utf-8"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_nothing_has_failed(tmp_path, capsys):
    assert gpu.main(["--out", str(tmp_path)]) == 0
    found = result(tmp_path)
    assert found["skipped"] and set(found["parts"]) == {"machine"}
    assert "Skipped: " in capsys.readouterr().out and "Skipped: " in (tmp_path / "table.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "part, measured",
    [
        ("machine", ("name", "kernels_compiled_s", "copied_gb_a_second")),
        ("tests", ("passed_tests",)),
        ("pix2pix", ("edit_s", "evaluation_ms", "finite", "batch_against_single", "cancelled_s")),
        ("klein", ("edit_32_s", "evaluation_32_ms", "finite_32", "cancelled_s")),
    ],
)
def test_every_part_works_on_a_cpu_in_small(tmp_path, part, measured):
    assert gpu.main(["--out", str(tmp_path), *CPU_TINY, "--parts", part, "--seconds", "400"]) == 0, (
        tmp_path / "parts" / f"{part}.log"
    ).read_text(encoding="utf-8")[-2000:]
    found = result(tmp_path)["parts"][part]
    assert all(found.get(name) is not None for name in measured), found
    assert not [value for value in found.values() if isinstance(value, str) and value.startswith("failed")], found
    assert found.get("finite", True) is found.get("finite_32", True) is True
    assert not (tmp_path / "work").exists(), "weights and workspaces go"


@pytest.mark.slow
def test_the_scene_is_trained_rendered_and_made_by_the_worker_in_small(tmp_path):
    parts = ["training", "rendering", "job"]
    assert gpu.main(["--out", str(tmp_path), *CPU_TINY, "--parts", *parts, "--seconds", "900"]) == 0
    found = result(tmp_path)["parts"]
    assert found["training"]["rays_a_second"] > 0 and found["training"]["profile"]["operations"] > 10
    assert found["training"]["psnr_after_0.5_s"]["db"] > 5
    assert found["rendering"]["frames_a_second"] > 0 and found["rendering"]["against_training_db"] > 40
    assert found["job"]["gone_on"] and found["job"]["cancelled_s"] < 30


def test_a_part_that_takes_too_long_is_ended_and_keeps_what_it_had(tmp_path, monkeypatch):
    """And what it had started goes with it; what comes after it is still measured."""
    script = (
        "import json, subprocess, sys, time; from pathlib import Path\n"
        "out = Path(sys.argv[sys.argv.index('--out') + 1]) / 'parts'\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "(out / 'machine.json').write_text(json.dumps({'name': 'kept', 'child': child.pid}))\n"
        "time.sleep(600)"
    )
    real = gpu.subprocess.Popen
    stand_in = lambda command, **more: real([sys.executable, "-c", script, *command[3:]], **more)
    monkeypatch.setattr(gpu.subprocess, "Popen", stand_in)
    monkeypatch.setattr(gpu, "PARTS", (gpu.Part("machine", 6), gpu.Part("capture", 5)))
    monkeypatch.setattr(gpu, "GRACE", 0.5)
    began = time.monotonic()
    assert gpu.main(["--out", str(tmp_path), "--device", "cpu"]) == 1
    assert time.monotonic() - began < 60
    found = result(tmp_path)["parts"]
    assert found["machine"]["name"] == "kept" and found["machine"]["failed"].startswith("ended after")
    assert "no capture was given" in found["capture"]["skipped"]
    until = time.monotonic() + 20
    while _runs(found["machine"]["child"]) and time.monotonic() < until:
        time.sleep(0.1)
    assert not _runs(found["machine"]["child"])


def _runs(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_parts_end_within_nine_minutes_and_what_has_no_time_is_not_begun(tmp_path, monkeypatch):
    now, ran = [0.0], []

    def run_part(part, seconds, args, out):
        ran.append((part.name, seconds))
        now[0] += seconds
        return {"seconds": seconds}

    monkeypatch.setattr(gpu, "run_part", run_part)
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    assert gpu.main(["--out", str(tmp_path), "--capture", "fox"]) == 0
    assert now[0] <= gpu.SECONDS < 540 and [name for name, _ in ran][:3] == ["machine", "tests", "training"]
    assert "no time was left" in str(result(tmp_path)["parts"])


def test_the_table_says_what_holds_what_is_missed_and_what_was_not_measured():
    parts = {
        "machine": {"name": "A GPU"},
        "training": {"rays_a_second": 2.5e6, "psnr_after_10_s": {"db": 30.0}},
        "pix2pix": {"beside_a_reconstruction_mb": 9000},
    }
    shown = table({"device": "cuda", "tiny": False, "seconds": 500, "parts": parts})
    lines = {line.split(" | ")[0].strip("| "): line for line in shown.splitlines() if line.startswith("| ")}
    assert lines["training rays a second"].endswith("| 2.5e+06 | holds |")
    assert lines["demo, dB after 10 s"].endswith("| 30 | missed |")
    assert lines["InstructPix2Pix beside a reconstruction, MB"].endswith("missed |")
    assert lines["frames of 960 x 540 a second"].endswith("| not measured |")


def test_the_command_hands_what_is_left_of_the_line_on(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(setup, "engine_python", lambda interruption, groups: Path("python"))
    monkeypatch.setattr(setup, "_program", lambda python, interruption, line, cwd=None: ran.append(line) or 0)
    args, extra = build_parser().parse_known_args(["test", "--gpu", "--gpu-out", str(tmp_path), "--capture", "fox"])
    args.extra = extra
    assert setup.run_tests(args, None) == 0
    assert Path(ran[0][0]).is_file() and ran[0][1:] == ["--out", str(tmp_path), "--capture", "fox"]
