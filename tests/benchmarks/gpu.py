"""Everything a GPU should show, in under nine minutes: `python3 tests/benchmarks/gpu.py --out DIR`.

Also as `python3 -m in2n_blender test --gpu`. Each part runs in a process of its own, with a deadline, in order of
value:

    machine    driver, builds, compilation, bandwidth
    tests      all tests that are marked `gpu`
    training   rays and launches a second, memory by part, PSNR against seconds on the bundled capture
    rendering  frames a second, by chunk; a mesh
    pix2pix    an edit with a full-size InstructPix2Pix of random weights, beside a reconstruction
    klein      an edit with a full-size FLUX.2 klein of random weights, whole and offloaded
    job        from the photos to a mesh through the worker, interrupted and gone on with; what it keeps when idle
    capture    PSNR against seconds on a capture of yours (--capture FOLDER)

DIR/result.json is written after every part, and a part that is killed keeps what it had measured; DIR/table.md is the
same to be read. `--device cpu --tiny` shows on any machine that all of it works.

Exit code: 0 where every part ran, and where there is no GPU (DIR/result.json says so); 1 where a part failed. A target
that was missed is told in the table, and fails nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from in2n_blender.workspace.files import write_json  # noqa: E402
from tests.benchmarks.gpu_table import table  # noqa: E402

SECONDS = 530.0  # of all parts together
GRACE = 2.0  # seconds that a part gets to end by itself
LEAST = 5.0  # seconds without which a part is not begun


@dataclass(frozen=True)
class Part:
    """A part and the most seconds that it may take."""

    name: str
    seconds: float


PARTS = (
    Part("machine", 45),
    Part("tests", 170),
    Part("training", 110),
    Part("rendering", 50),
    Part("pix2pix", 80),
    Part("klein", 90),
    Part("job", 80),
    Part("capture", 80),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the parts and write what they measured.

    Args:
        arguments: Of the command line; None: this process's.

    Returns:
        The exit code.
    """
    args = parsed(arguments)
    out = Path(args.out).absolute()
    (out / "parts").mkdir(parents=True, exist_ok=True)
    result = {"device": args.device, "tiny": args.tiny, "parts": {}}
    began, chosen = time.monotonic(), args.parts or [part.name for part in PARTS]
    for part in PARTS:
        if part.name not in chosen:
            continue
        left = args.seconds - (time.monotonic() - began)
        if left < LEAST:
            result["parts"][part.name] = {"skipped": "no time was left"}
        elif part.name == "capture" and not args.capture:
            result["parts"][part.name] = {"skipped": "no capture was given (--capture FOLDER)"}
        else:
            most = left if args.tiny else min(part.seconds, left)  # any machine may be slow
            result["parts"][part.name] = run_part(part, most, args, out)
        tell(result, out, time.monotonic() - began)
        if reason := result["parts"].get("machine", {}).get("no_gpu"):
            result["skipped"] = reason
            tell(result, out, time.monotonic() - began)
            print(f"Skipped: {reason}.")
            return 0
    shutil.rmtree(out / "work", ignore_errors=True)
    print((out / "table.md").read_text(encoding="utf-8"))
    return 1 if any("failed" in found for found in result["parts"].values()) else 0


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line.

    Args:
        arguments: As for `main`.

    Returns:
        out, device, tiny, capture, seconds and parts.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for result.json, table.md and logs")
    parser.add_argument("--device", default="cuda", help="what is measured: cuda, or cpu (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes, to show that every part works")
    parser.add_argument("--capture", metavar="FOLDER", help="a capture beside the bundled one")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all parts (default: %(default).0f)")
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS], help="only these (default: all)")
    return parser.parse_args(arguments)


def run_part(part: Part, seconds: float, args: argparse.Namespace, out: Path) -> dict:
    """One part in a process of its own.

    Args:
        part: Which.
        seconds: After which it is ended.
        args: The command line.
        out: The folder for results.

    Returns:
        What it measured, even where it was ended; with "seconds", and "failed" where it did not end well.
    """
    file, log = out / "parts" / f"{part.name}.json", out / "parts" / f"{part.name}.log"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.benchmarks.gpu_parts", part.name, "--out", str(out)]
    command += ["--device", args.device, "--seconds", str(seconds)]
    command += ["--tiny"] * args.tiny + (["--capture", args.capture] if args.capture else [])
    print(f"{part.name} (at most {seconds:.0f} s)", flush=True)
    began = time.monotonic()
    with open(log, "w", encoding="utf-8") as written:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=os.name == "posix",
            env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "passive"},
        )
        failed = _wait(process, seconds)
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    found["seconds"] = round(time.monotonic() - began, 1)
    if failed:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        found["failed"] = f"{failed}{': ' if last else ''}{''.join(last)[:300]}"
    return found


def _wait(process: subprocess.Popen, seconds: float) -> str | None:
    """How a process failed; None where it ended well. One that takes too long goes, with all that it started."""
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        return f"ended after {seconds:.0f} s"
    except BaseException:
        _end(process)
        raise
    return None if code == 0 else f"exit code {code}"


def _end(process: subprocess.Popen) -> None:
    import signal

    for number in ("SIGTERM", "SIGKILL"):
        if process.poll() is None:
            if os.name == "posix":
                os.killpg(process.pid, getattr(signal, number))
            else:
                process.kill()
        try:
            process.wait(GRACE)
            return
        except subprocess.TimeoutExpired:
            continue


def tell(result: dict, out: Path, seconds: float) -> None:
    """Write result.json and table.md as they are now.

    Args:
        result: What was measured so far.
        out: The folder.
        seconds: Since the beginning.
    """
    result["seconds"] = round(seconds, 1)
    write_json(out / "result.json", result)
    (out / "table.md").write_text(table(result), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
