"""More than one machine, by its bars: equal results by ssh, what travels, how long a farm's frame takes to begin, and
what workers of a cluster gain.

    python -m tests.benchmarks.scale --out DIR [--chroot DIR] [--parts ssh cluster]

The other machine is this one, by a real OpenSSH server on the loopback address (Linux, root or not; `tests/scale`).
The cluster is Ray on this machine. With a chroot that holds Blender (as the window's tests make
it; root) frames are rendered by Blender's own processes.
Writes DIR/result.json, a list of {"name", "value", "bar", "holds"}; a bar of null is a number to be known.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

from in2n_blender.link.client import Client
from in2n_blender.link.requests import Edit, ImportCapture, PathThroughViews, Reconstruct, RenderPath
from in2n_blender.remote.machines import Machine, worker_command
from in2n_blender.scene.reporting import Progress
from tests.benchmarks.side_by_side import side_by_side
from tests.faults.kills import contents
from tests.scale.ssh_server import HOST, Server, missing

ROOT = Path(__file__).resolve().parents[2]
CAPTURE = ROOT / "in2n_blender" / "data" / "demo_capture"
STEPS, FRAMES, STARTS = 200, 4, 5
PARTS = ("ssh", "cluster")


def main() -> None:
    """Measure everything and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--chroot", type=Path, help="a chroot that holds Blender")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = []
    if "ssh" in arguments.parts:
        results += [] if missing() else by_ssh(arguments.out)
        if missing():
            print(f"by ssh: left out, {missing()}")
    if "cluster" in arguments.parts:
        results += side_by_side(arguments.out)
    if arguments.chroot:
        results += on_a_farm(arguments.chroot)
    (arguments.out / "result.json").write_text(json.dumps(results, indent=1) + "\n")
    for result in results:
        print("{holds} {name}: {value} ({bar})".format(**result | {"holds": "ok  " if result["holds"] else "FAIL"}))
    sys.exit(0 if all(result["holds"] for result in results) else 1)


def measured(name: str, value: float, most: float | None) -> dict:
    """A line of the result."""
    bar = None if most is None else f"<= {most:g}"
    return {"name": name, "value": round(value, 3), "bar": bar, "holds": most is None or value <= most}


def jobs(workspace: Path) -> list:
    """A small one of every kind that an edit needs."""
    place, device = {"workspace": str(workspace)}, {"device": "cpu", "preset": "draft"}
    return [
        ImportCapture(**place, source=str(CAPTURE), preset="draft"),
        Reconstruct(**place, **device, steps=STEPS),
        Edit(**place, **device, name="e", instruction="make it look like it snowed", rounds=1),
        PathThroughViews(**place, name="way", frames=FRAMES),
        RenderPath(**place, camera_path=str(workspace / "paths" / "way.json"), edit="e", device="cpu"),
    ]


def by_ssh(out: Path) -> list[dict]:
    """The same jobs here and there."""
    server = Server.prepare(out / "ssh", {"IN2N_ENGINE_PYTHON": sys.executable})
    os.environ["IN2N_SSH"] = server.ssh
    server.start()
    try:
        machine = Machine("Other", HOST, str((out / "there").absolute()))
        here, seconds_here, _ = done(out / "here", sys.executable, out)
        there, seconds_there, sent = done(out / "by_ssh", machine.address, out)
        _, seconds_again, sent_again = done(out / "by_ssh", machine.address, out)
    finally:
        server.stop()
    different = [name for name in here if here[name] != there.get(name)]
    return [
        measured("ssh_files_that_differ", len(different) + len(here.keys() ^ there.keys()), 0),
        measured("ssh_seconds_beyond_this_machines_own", seconds_there - seconds_here, None),
        measured("ssh_seconds_of_jobs_done_before", seconds_again, None),
        measured("ssh_news_of_sending_the_first_time", sent, None),
        measured("ssh_news_of_sending_what_is_there", sent_again, 0),
    ]


def done(workspace: Path, engine: str, out: Path) -> tuple[dict, float, int]:
    """What the jobs leave, how long they took, and how often something was said to be sent."""
    began, sent = time.monotonic(), 0

    def count(event: object) -> None:
        nonlocal sent
        sent += isinstance(event, Progress) and event.message.startswith("Sending")

    with Client(engine, out / "worker.log", command=worker_command) as client:
        for request in jobs(workspace.absolute()):
            client.run(request, count)
    seconds = time.monotonic() - began
    return {n: c for n, c in contents(workspace).items() if not n.startswith(".machines")}, seconds, sent


def on_a_farm(chroot: Path) -> list[dict]:
    """One frame a process, of so few pixels that nearly all of it is starting."""
    sys.path.insert(0, str(ROOT / "tests" / "gui"))  # its files import each other by their names
    from farm import Farm
    from window import Window

    farm = Farm(Window(chroot), Path(sys.executable))
    try:
        times = []
        for frame in range(1, STARTS + 2):
            began = time.monotonic()
            assert farm.render((frame, frame)) == 0
            times.append(time.monotonic() - began)
            print(f"frame {frame}: {times[-1]:.2f} s")
        began = time.monotonic()
        assert farm.render((10, 19)) == 0
        ten = time.monotonic() - began
        assert farm.frames() == [*range(1, STARTS + 2), *range(10, 20)]
    finally:
        farm.close()
    start = statistics.median(times[1:])
    return [
        measured("farm_seconds_to_start_for_one_frame", start, 3.0),
        measured("farm_seconds_a_frame_of_ten_in_one_blender", ten / 10, None),
    ]


if __name__ == "__main__":
    main()
