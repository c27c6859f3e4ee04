"""This engine beside nerfacto: `python3 tests/benchmarks/reconstruction.py --out DIR [--capture FOLDER] [--testbed
FOLDER] [--quick]`.

Installs nerfstudio into an environment of its own, trains nerfacto and this engine in turn on the same photos with the
same views held out, and writes table.md, psnr_against_time.png, growth.png, sheet.png and result.json (every bar: name,
value, bar, holds). Every part is kept in DIR as soon as it is done: stopped, the same command goes on. The whole takes
hours on a CPU; --quick compares on the first capture, at the first size, within ten minutes.

Time is training alone: neither side pays for loading or for evaluating. PSNR is computed here, by one function, from
what either side rendered of the held-out views. Nerfacto gets --minutes, or as long as this engine's standard preset
took where that is longer.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
sys.path[:0] = [str(REPOSITORY), str(HERE)]

from in2n_blender import environment  # noqa: E402
from in2n_blender.cli.setup import engine_python  # noqa: E402
from in2n_blender.cli.terminal import Interruption, ProgressPrinter  # noqa: E402
from in2n_blender.scene.reporting import Reporter  # noqa: E402
from in2n_blender.workspace.files import read_json, write_json  # noqa: E402

DRIVERS = HERE / "against_nerfacto"
DEMO = REPOSITORY / "in2n_blender" / "data" / "demo_capture"
DEMO_SCENE, DEMO_SIDE = "island", 160  # of the testbed: the bundled capture is this scene in more pixels
ALL_VIEWS = 1000
QUICK_SECONDS, QUICK_TRAINING, QUICK_VIEWS = 600, 150, 2
# Seconds of training after which the held-out views are rendered.
NERFACTO_CHECKPOINTS = (60, 120, 300, 600, 900, 1200)
ENGINE_CHECKPOINTS = (
    5,
    10,
    15,
    20,
    30,
    45,
    60,
    75,
    90,
    105,
    120,
    135,
    150,
    180,
    210,
    240,
    300,
    360,
    480,
    600,
    900,
    1200,
    1800,
)
GROWTH_IMAGES, GROWTH_SIDES, GROWTH_STEPS = (10, 30, 100, 300, 500), (120, 240, 480, 960), 150
GROWTH_SIDE, GROWTH_COUNT = 240, 50

# What nerfacto can do in minutes on a CPU: a smaller grid, fewer samples, smaller batches; held-out poses are exact, so
# poses stay.
_MODEL, _DATA = "pipeline.model.", "pipeline.datamanager."
SMALL = {
    _MODEL + "num_levels": 8,
    _MODEL + "features_per_level": 4,
    _MODEL + "log2_hashmap_size": 17,
    _MODEL + "max_res": 512,
    _MODEL + "num_proposal_iterations": 1,
    _MODEL + "num_proposal_samples_per_ray": [64],
    _MODEL + "num_nerf_samples_per_ray": 32,
    _MODEL + "camera_optimizer.mode": "off",
    _DATA + "train_num_rays_per_batch": 1024,
}


@dataclass(frozen=True)
class Variant:
    """One way to run nerfacto. decay_over_run: its learning rates fall over the run instead of over 200000 steps."""

    name: str
    threads: int
    overrides: dict = field(default_factory=dict)
    decay_over_run: bool = False


def nerfacto_variants(device: str) -> tuple[Variant, ...]:
    """Those that the best is chosen from, the likely best first."""
    threads = os.cpu_count() or 1
    defaults = Variant("defaults", threads)
    if device == "cuda":
        return (defaults,)
    return (
        Variant("small", threads, SMALL),
        Variant("small, 512 rays", threads, {**SMALL, _DATA + "train_num_rays_per_batch": 512}),
        Variant("small, no appearance", threads, {**SMALL, _MODEL + "use_appearance_embedding": False}),
        Variant("small, learning rates fall", threads, SMALL, decay_over_run=True),
    )


DEFAULTS = Variant("defaults", os.cpu_count() or 1)


class Bench:
    """Runs parts, each in a process of its own, and keeps what they found."""

    def __init__(self, out: Path, nerfstudio: Path | None, device: str, seconds: float | None):
        self.out, self.nerfstudio, self.device = out, nerfstudio, device
        self.deadline = time.monotonic() + seconds if seconds else None
        self.notes: list[str] = []

    def run(self, name: str, script: str, job: dict, threads: int | None = None) -> dict | None:
        """The result of a part, from its folder where the same job was done before. None, and a note, where it
        fails."""
        folder = self.out / "runs" / name
        job = {**job, "out": str(folder), "device": self.device, **({"threads": threads} if threads else {})}
        if (folder / "result.json").is_file() and read_json(folder / "job.json") == job:
            print(f"{name}: done before", flush=True)
            return self._result(folder)
        left = self.deadline - time.monotonic() if self.deadline else None
        if left is not None and left < 20:
            self.notes.append(f"{name}: not run, the time was used up.")
            return None
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / "job.json", job)
        print(f"{name}", flush=True)
        python = self.nerfstudio if script == "nerfacto.py" else sys.executable
        failure = run_process(
            [str(python), str(DRIVERS / script), str(folder / "job.json")], folder / "log.txt", threads, left
        )
        if failure:
            self.notes.append(f"{name}: {failure}; see {folder.relative_to(self.out) / 'log.txt'}.")
            print(f"  {failure}", flush=True)
            return None
        return self._result(folder)

    @staticmethod
    def _result(folder: Path) -> dict:
        return {**read_json(folder / "result.json"), "folder": str(folder)}

    def engine(
        self,
        name: str,
        workspace: Path,
        preset: str,
        views: int = ALL_VIEWS,
        seconds: float | None = None,
        checkpoints=ENGINE_CHECKPOINTS,
        threads: int | None = None,
        seed: int = 0,
        **overrides,
    ) -> dict | None:
        return self.run(
            name,
            "engine.py",
            {
                "workspace": str(workspace),
                "preset": preset,
                "overrides": overrides,
                "seed": seed,
                "seconds": seconds,
                "checkpoints": list(checkpoints),
                "views": views,
            },
            threads,
        )

    def nerfacto(
        self,
        name: str,
        data: Path,
        variant: Variant,
        seconds: float | None,
        views: int = ALL_VIEWS,
        checkpoints=(),
        steps: int | None = None,
    ) -> dict | None:
        if self.nerfstudio is None:
            return None
        return self.run(
            name,
            "nerfacto.py",
            {
                "data": str(data),
                "overrides": variant.overrides,
                "decay_over_run": variant.decay_over_run,
                "seconds": seconds,
                "steps": steps,
                "checkpoints": list(checkpoints),
                "views": views,
            },
            variant.threads,
        )


def run_process(command: list[str], log: Path, threads: int | None, seconds: float | None) -> str:
    """Run a driver, its output in `log`, its progress on the terminal. Returns what went wrong, empty if nothing
    did."""
    # Both sides get what makes torch fastest on a CPU: threads that do not spin, and huge pages.
    env = {
        **os.environ,
        "OMP_WAIT_POLICY": "passive",
        "THP_MEM_ALLOC_ENABLE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    if threads:
        env.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        alarm = threading.Timer(seconds or 0, process.kill)
        if seconds:
            alarm.start()
        try:
            for line in process.stdout:
                file.write(line)
                if line.startswith("  ") and line.rstrip().endswith("evaluations"):
                    print(line, end="", flush=True)
            code = process.wait()
        finally:
            late = seconds is not None and not alarm.is_alive()
            alarm.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
    if code and late:
        return "not finished in time"
    return f"failed with exit code {code}" if code else ""


@dataclass
class Compared:
    """One capture at one size, and what either side made of it. nerfacto: by variant; engine: by preset."""

    name: str
    workspace: Path
    capture: object
    engine: dict[str, dict] = field(default_factory=dict)
    nerfacto: dict[str, dict] = field(default_factory=dict)
    best: str = ""

    @property
    def data(self) -> Path:
        return self.workspace.parent / f"{self.workspace.name}-nerfstudio"


def prepared(bench: Bench, source: Path, side: int | None) -> Compared:
    from against_nerfacto.captures import imported, write_for_nerfstudio

    name = source.name if side is None else f"{source.name}-{side}"
    workspace = bench.out / "captures" / name
    print(f"{name}: importing {source}", flush=True)
    compared = Compared(name, workspace, imported(source, side or 512, workspace))
    write_for_nerfstudio(compared.capture, workspace, compared.data)
    return compared


def prepared_with_fewer(bench: Bench, of: Compared, views: int) -> Compared:
    from against_nerfacto.captures import fewer, write_for_nerfstudio

    name = f"{of.name}-{views}-views"
    workspace = bench.out / "captures" / name
    compared = Compared(name, workspace, fewer(of.capture, of.workspace, workspace, views))
    write_for_nerfstudio(compared.capture, workspace, compared.data)
    return compared


def tune(bench: Bench, on: Compared, seconds: float) -> Variant:
    """The variant of nerfacto with the best held-out PSNR after `seconds` each, on up to QUICK_VIEWS held-out views."""
    from against_nerfacto.report import curve

    variants, found = nerfacto_variants(bench.device), []
    if len(variants) == 1 or not seconds:
        bench.notes.append(f"Nerfacto was not tuned here: {variants[0].name}, {variants[0].threads} threads.")
        return variants[0]
    for variant in variants:
        result = bench.nerfacto(f"{on.name}/tuning nerfacto, {variant.name}", on.data, variant, seconds, QUICK_VIEWS)
        if result:
            on.nerfacto[f"tuning: {variant.name}"] = result
            found.append((curve(on, result)[-1][1], variant))
            bench.notes.append(
                f"Tuning on {on.name}: nerfacto, {variant.name}: {found[-1][0]:.2f} dB after {seconds:.0f} s."
            )
    return max(found, key=lambda pair: pair[0])[1] if found else variants[0]


def compare(bench: Bench, on: Compared, variant: Variant, seconds: float) -> Iterator[None]:
    """Both sides on the main capture, the draft preset too; yields after every part."""
    for preset in ("standard", "draft"):
        result = bench.engine(f"{on.name}/this engine, {preset}", on.workspace, preset)
        if result:
            on.engine[preset] = result
            yield
    as_long = max([seconds, *(on.engine[p]["seconds"] for p in on.engine if p == "standard")])
    checkpoints = sorted({c for c in NERFACTO_CHECKPOINTS if c <= as_long} | {seconds})
    result = bench.nerfacto(f"{on.name}/nerfacto, {variant.name}", on.data, variant, as_long, checkpoints=checkpoints)
    if result:
        on.nerfacto[variant.name], on.best = result, variant.name
        yield


def compare_others(
    bench: Bench, others: list[Compared], variant: Variant, steps: int | None, at_once: int
) -> Iterator[None]:
    """The standard preset and `steps` of nerfacto (None: nerfacto is left out) on the other captures, `at_once` of them
    side by side."""
    threads = max(1, variant.threads // at_once)
    alone = {"alone": at_once == 1}

    def run(on: Compared) -> None:
        result = bench.engine(
            f"{on.name}/this engine, standard", on.workspace, "standard", checkpoints=(), threads=threads
        )
        if result:
            on.engine["standard"] = {**result, **alone}
        if steps:
            result = bench.nerfacto(
                f"{on.name}/nerfacto, {variant.name}", on.data, replace(variant, threads=threads), None, steps=steps
            )
            if result:
                on.nerfacto[variant.name], on.best = {**result, **alone}, variant.name

    with ThreadPoolExecutor(at_once) as pool:
        for done in as_completed([pool.submit(run, on) for on in others]):
            done.result()
            yield


def run_defaults(bench: Bench, on: Compared, seconds: float) -> None:
    """Nerfacto as it comes, for reference."""
    result = bench.nerfacto(f"{on.name}/nerfacto, defaults", on.data, DEFAULTS, seconds, QUICK_VIEWS)
    if result:
        on.nerfacto["defaults"] = result
        bench.notes.append(f"nerfacto, defaults: PSNR on {QUICK_VIEWS} of the held-out views alone.")


def compare_quickly(bench: Bench, on: Compared) -> None:
    """Within QUICK_SECONDS: nerfacto's likely best setting and the draft preset, as long as each other at most, on few
    held-out views."""
    variant = nerfacto_variants(bench.device)[0]
    result = bench.nerfacto(
        f"{on.name}/quick nerfacto, {variant.name}", on.data, variant, QUICK_TRAINING, QUICK_VIEWS, [QUICK_TRAINING / 2]
    )
    if result:
        on.nerfacto[variant.name], on.best = result, variant.name
    result = bench.engine(f"{on.name}/quick this engine, draft", on.workspace, "draft", QUICK_VIEWS, QUICK_TRAINING)
    if result:
        on.engine["draft"] = result
    bench.notes.append(f"Quick: at most {QUICK_TRAINING} s of training each, PSNR on {QUICK_VIEWS} held-out views.")


def measure_growth(bench: Bench, on: Compared) -> list[dict]:
    """Rays a second and peak memory of the standard preset: [{"images", "side", "pixels_mb", "rays_per_second",
    "peak_memory_mb"}]."""
    from against_nerfacto.captures import grown

    found = []
    for images, side in [(n, GROWTH_SIDE) for n in GROWTH_IMAGES] + [(GROWTH_COUNT, s) for s in GROWTH_SIDES]:
        root = bench.out / "captures" / f"grown-{images}-{side}"
        grown(on.capture, on.workspace, root, images, side)
        result = bench.engine(
            f"growth/{images} images of {side} pixels", root, "standard", views=0, checkpoints=(), steps=GROWTH_STEPS
        )
        if result:
            k = on.capture.views[0].camera.intrinsics
            pixels = images * side * side * min(k.width, k.height) / max(k.width, k.height)
            found.append(
                {
                    "images": images,
                    "side": side,
                    "pixels_mb": round(3 * pixels / 2**20, 1),
                    "rays_per_second": result["rays_per_second"],
                    "peak_memory_mb": result["peak_memory_mb"],
                }
            )
        shutil.rmtree(root, ignore_errors=True)
    return found


def main() -> int:
    if any(importlib.util.find_spec(name) is None for name in ("torch", "matplotlib", "nerfacc")):
        with Interruption() as interruption:  # the engine's environment, made first if need be
            python = engine_python(interruption, ("engine", "test"))
        return subprocess.call([str(python), str(Path(__file__).resolve()), *sys.argv[1:]])
    args = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out = args.out.expanduser().resolve()
    out.mkdir(parents=True, exist_ok=True)
    try:
        return benchmark(args, out)
    except KeyboardInterrupt:
        print("Stopped. The same command goes on with what is not done yet.")
        return 130


def benchmark(args, out: Path) -> int:
    from against_nerfacto.environment import NotInstalled, nerfstudio_python
    from against_nerfacto.report import bars, write_report

    from in2n_blender.engine.device import pick_device

    device, notes, python = pick_device(args.device).type, [], None
    bench = Bench(out, None, device, QUICK_SECONDS - 30 if args.quick else None)
    try:
        folder = args.nerfstudio_folder or environment.home_folder() / "nerfstudio"
        folder, report_progress = Path(folder).expanduser().resolve(), Reporter(ProgressPrinter())
        python = nerfstudio_python(args.nerfstudio, folder, not args.quick, report_progress)
    except NotInstalled as reason:
        notes.append(f"Nerfacto is not compared with: {reason}.")
        print(notes[-1], flush=True)
    bench.nerfstudio, bench.notes = python, notes

    captures = [(path.expanduser().resolve(), side) for path in args.capture for side in args.sizes] or [
        (DEMO, DEMO_SIDE)
    ]
    if args.quick:
        captures = captures[:1]
    elif args.capture:
        captures.append((DEMO, DEMO_SIDE))
    if args.testbed and not args.quick:
        captures += [
            (file.parent.resolve(), None)
            for file in sorted(args.testbed.expanduser().glob("*/transforms.json"))
            if file.parent.name != DEMO_SCENE
        ]
    everything, growth = [], []

    def report() -> list[dict]:
        found = bars(everything, growth, device, 60 * args.minutes, args.quick)
        write_report(out, everything, growth, found, bench.notes)
        return found

    everything += [prepared(bench, source, side) for source, side in captures]
    main = everything[0]
    if args.quick:
        compare_quickly(bench, main)
    else:
        if args.few_views:
            everything.append(prepared_with_fewer(bench, main, args.few_views))
        variant = tune(bench, main, args.tuning_seconds)
        for _ in compare(bench, main, variant, 60 * args.minutes):
            report()
        growth += measure_growth(bench, main)
        peer = main.nerfacto.get(variant.name)
        steps = round(60 * args.other_minutes * peer["rays_per_second"] / peer["rays_a_step"]) if peer else None
        for _ in compare_others(bench, everything[1:], variant, steps, args.at_once):
            report()
        if variant.overrides:
            run_defaults(bench, main, 60 * args.minutes)
    found = report()
    print((out / "table.md").read_text(encoding="utf-8"))
    missed = [bar["name"] for bar in found if bar["holds"] is False]
    print(f"Missed: {'; '.join(missed)}" if missed else "Every bar that was measured holds.")
    return 0


def parser() -> argparse.ArgumentParser:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    given.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the results and for what is kept of every part",
    )
    given.add_argument(
        "--quick", action="store_true", help="the first capture at the first size, within ten minutes; installs nothing"
    )
    given.add_argument(
        "--capture",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="compare on this capture; the bars in time are the first one's (default: the bundled capture alone)",
    )
    given.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[240, 480],
        metavar="PIXELS",
        help="longest sides that --capture is compared at (default: 240 480)",
    )
    given.add_argument(
        "--testbed",
        type=Path,
        metavar="FOLDER",
        help="compare on every capture in this folder too, but for the bundled one",
    )
    given.add_argument(
        "--few-views",
        type=int,
        default=11,
        help="compare on so few of the first capture's photos too; 0: not (default: %(default)s)",
    )
    given.add_argument(
        "--minutes",
        type=float,
        default=20,
        help="of training for nerfacto on the first capture, at least (default: %(default)s)",
    )
    given.add_argument(
        "--other-minutes",
        type=float,
        default=20,
        help="the same on the other captures, in steps (default: %(default)s)",
    )
    given.add_argument(
        "--at-once",
        type=int,
        default=1,
        help="how many of the other captures are trained side by side (default: %(default)s)",
    )
    given.add_argument(
        "--tuning-seconds",
        type=float,
        default=180,
        help="for each setting that nerfacto's best is chosen from; 0: the likely best (default: %(default)s)",
    )
    given.add_argument(
        "--nerfstudio",
        default=os.environ.get("IN2N_NERFSTUDIO_PYTHON"),
        metavar="PYTHON",
        help="a Python that has nerfstudio 1.1.5 (default: $IN2N_NERFSTUDIO_PYTHON, else one is installed)",
    )
    given.add_argument(
        "--nerfstudio-folder",
        type=Path,
        metavar="FOLDER",
        help="where it is installed, 7 GB (default: beside the engine's environment)",
    )
    given.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="for both sides (default: %(default)s)"
    )
    return given


if __name__ == "__main__":
    sys.exit(main())
