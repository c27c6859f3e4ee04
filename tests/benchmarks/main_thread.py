"""How long a running job holds Blender's main thread at a time, measured in a window, in milliseconds; the goal is at
most 5.

What is done once, when the job has ended and its result is brought in, is not part of it.

    PYTHONPATH=.:tests/gui python tests/benchmarks/main_thread.py [--photos N] [--seconds S] [--chroot DIR]

A job reports progress ten times a second and a new picture every second. A hold is what the add-on does without a
pause: its timer's callback, or one drawing of all its panels, in the main thread's processor time. Besides, a timer
that fires whenever Blender is free tells the gaps between two of its turns, with the job and without: those hold
Blender's own drawing of the window too, which is slow without a GPU.
It needs what `python3 -m in2n_blender test --gui` needs.
"""

import json
import os
import sys
from pathlib import Path

MARK = "measured: "
SAME_DRAWING = 0.003  # seconds between two panels of the same drawing, at most


def main() -> int:
    """Outside of Blender: lay out a capture of many photos, run this file in a window, print the table."""
    import argparse

    from window import Unavailable, find_or_make

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=300, help="cameras of the capture (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long the job runs (default: %(default)s)")
    parser.add_argument("--chroot", type=Path, default=None, help="a chroot with Blender that is there already")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("main_thread"),
        help="folder for the log and a screenshot (default: %(default)s)",
    )
    arguments = parser.parse_args()
    try:
        window = find_or_make("sid", arguments.chroot)
    except Unavailable as reason:
        print(f"No window here: {reason}.")
        return 2
    env = window.install_extension("profile")
    _lay_out(window.share / "capture", arguments.photos)
    here = {
        **env,
        "CAPTURE": "/share/capture",
        "IN2N_RECORDING": "/share/profile/recording.json",
        "SECONDS": str(arguments.seconds),
    }
    said = window.run(Path(__file__), here, arguments.out)
    measured = json.loads(next(line for line in said.splitlines() if line.startswith(MARK)).removeprefix(MARK))
    print(
        f"{arguments.photos} photos, {measured['ticks']} ticks in {arguments.seconds:g} s, Blender "
        f"{measured['blender']}; milliseconds"
    )
    print(f"{'':34}{'median':>9}{'99 %':>9}{'longest':>9}")
    for name, (median, high, longest) in measured["milliseconds"].items():
        print(f"{name:34}{median:9.2f}{high:9.2f}{longest:9.2f}")
    return 0


def _lay_out(folder: Path, photos: int) -> None:
    """The bundled capture, its photos repeated until there are enough."""
    import shutil

    bundled = Path(__file__).resolve().parents[2] / "in2n_blender" / "data" / "demo_capture"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    data = json.loads((bundled / "transforms.json").read_text(encoding="utf-8"))
    frames = []
    for number in range(photos):
        frame = data["frames"][number % len(data["frames"])]
        name = f"images/{number:04d}{Path(frame['file_path']).suffix or '.png'}"
        source = bundled / frame["file_path"]
        source = source if source.exists() else next(bundled.glob(f"{frame['file_path']}.*"))
        shutil.copy2(source, folder / name)
        frames.append({**frame, "file_path": name})
    lists = [key for key in data if key.endswith("_filenames")]
    (folder / "transforms.json").write_text(
        json.dumps({**{k: v for k, v in data.items() if k not in lists}, "frames": frames}), encoding="utf-8"
    )


def inside() -> None:
    """In Blender, with a window."""
    import functools
    import time

    sys.path.insert(0, os.path.dirname(__file__))
    import bpy
    from driver import drive, in_view, press, redraw, shot, show_tab, until

    package = "bl_ext.user_default.in2n_blender"
    recording = Path(os.environ["IN2N_RECORDING"])
    seconds = float(os.environ["SECONDS"])
    clock = time.thread_time  # not the time in which other programs had the processor
    holds: list[float] = [0.0]  # seconds that each callback and each drawing of all panels took
    last_draw = [0.0]
    polls: list[float] = []
    draws: dict[str, list[float]] = {}  # by panel
    beats: list[float] = []

    def module(name):
        return sys.modules[f"{package}.{name}"]

    # Blender counts a method's arguments, so that each kind needs a wrapper of its own
    def timed_draw(function, panel):
        def draw(self, context):
            begun = clock()
            function(self, context)
            note_draw(clock() - begun, panel)

        return draw

    def timed_poll(function):
        def poll(*arguments):
            begun = clock()
            outcome = function(*arguments)
            note_poll(clock() - begun)
            return outcome

        return poll

    def note_poll(took):
        if took > 2e-5:  # not the many events that are passed through
            holds.append(took)
            polls.append(took)

    def note_draw(took, panel):
        now = time.perf_counter()
        if now - last_draw[0] > SAME_DRAWING:
            holds.append(0.0)
        holds[-1] += took
        last_draw[0] = now
        draws.setdefault(panel, []).append(took)

    def beat():
        beats.append(time.perf_counter())
        return 0.0

    def gaps(count_from):
        found = beats[count_from:]
        return [b - a for a, b in zip(found, found[1:])]

    def spread(values):
        found = sorted(1000 * v for v in values)
        return (
            [found[len(found) // 2], found[min(int(0.99 * len(found)), len(found) - 1)], found[-1]]
            if found
            else [0, 0, 0]
        )

    def measure():
        recording.write_text(json.dumps({"asked": str(recording.with_name("asked.jsonl")), "answers": {}}))
        engine = module("blender.engine")
        engine.Client = functools.partial(
            engine.Client, worker=os.path.join(os.path.dirname(__file__), "recorded_worker.py")
        )
        os.environ["IN2N_ENGINE_PYTHON"] = "/usr/bin/python3"
        yield from show_tab("IN2N")
        capture = Path(os.environ["CAPTURE"])
        with in_view():
            bpy.ops.in2n.import_capture("EXEC_DEFAULT", True, filepath=str(capture))
        yield 1.0
        photos = [str(p) for p in sorted((capture / "images").iterdir())[:8]]
        repeat = {
            "times": int(10 * seconds),
            "seconds": 0.1,
            "files": photos,
            "to": "reconstruction/preview.png",
            "every": 10,
        }
        recording.write_text(
            json.dumps(
                {"asked": str(recording.with_name("asked.jsonl")), "answers": {"reconstruct": {"repeat": repeat}}}
            )
        )
        engine.stop()
        jobs, panels = module("blender.jobs"), module("blender.panels")
        jobs.poll = timed_poll(jobs.poll)
        for cls in panels.CLASSES:
            for name in ("draw", "draw_header_preset"):
                if name in vars(cls):
                    setattr(cls, name, timed_draw(getattr(cls, name), cls.__name__))
        redraw()
        yield 2.0
        bpy.app.timers.register(beat)
        yield 4.0
        idle = gaps(0)
        press(bpy.ops.in2n.reconstruct)
        yield from until(lambda: module("blender.jobs").current().image, what="the first picture")
        for kept in (holds, polls, draws):
            kept.clear()
        holds.append(0.0)
        begun = len(beats)
        yield seconds - 2
        busy = gaps(begun)
        measured = {
            "ticks": len(polls),
            "blender": bpy.app.version_string,
            "milliseconds": {
                "one hold (callback, or all panels)": spread(holds),
                "the timer's callback": spread(polls),
                **{f"  {panel}": spread(took) for panel, took in draws.items()},
                "gaps while nothing runs": spread(idle),
                "gaps while the job runs": spread(busy),
            },
        }
        shot("main-thread")
        yield from until(lambda: not jobs.busy(), what="the end of the job")
        print(MARK + json.dumps(measured), flush=True)

    drive(measure())


if __name__ == "__main__":
    if "bpy" in sys.modules:
        inside()
    else:
        sys.exit(main())
