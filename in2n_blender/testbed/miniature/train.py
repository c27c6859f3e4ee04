"""Train the miniature: `python3 -m in2n_blender train-miniature`. Renders its pairs, trains, evaluates, exports."""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from ...engine.device import pick_device
from ...models.catalogue import DESCRIPTION_FILE, MINIATURE
from ...scene.errors import In2nError
from . import pairs
from .evaluate import evaluate_to_folder, photo_sheet
from .settings import TrainingConfig
from .trainer import train


def _parse(argv: list[str]) -> argparse.Namespace:
    home = Path(os.environ.get("IN2N_HOME") or Path.home() / ".cache" / "in2n_blender")
    parser = argparse.ArgumentParser(prog="train-miniature", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=TrainingConfig.steps)
    parser.add_argument("--minutes", type=float, help="end after so many minutes of training in place of --steps")
    parser.add_argument("--batch", type=int, help="pictures of 64x64 a step (16; 256 on a GPU)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves the choice to PyTorch")
    parser.add_argument(
        "--bfloat16", action="store_true", help="compute in bfloat16 on the CPU too (where it has AVX512-BF16 or AMX)"
    )
    parser.add_argument(
        "--initial", type=Path, help="folder of an editor (`bundled`: the bundled weights) that a new run starts from"
    )
    parser.add_argument("--learning-rate", type=float, default=TrainingConfig.learning_rate)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=home / "miniature-pairs", help="folder of the rendered pairs")
    parser.add_argument("--scenes", type=int, default=300, help="scenes to render for training")
    parser.add_argument("--held-out-scenes", type=int, default=12, help="scenes to render for the evaluation")
    parser.add_argument(
        "--blender-python", default=sys.executable, help="renders the pairs: `blender`, or a Python that can import bpy"
    )
    parser.add_argument("--no-render", action="store_true", help="take the cache as it is")
    parser.add_argument("--out", type=Path, default=home / "miniature-run", help="run folder")
    parser.add_argument(
        "--weights", type=Path, help="with --evaluate: the editor's folder (default: the bundled weights)"
    )
    parser.add_argument(
        "--evaluate", action="store_true", help="do not train: evaluate and write result.json and a sheet to --out"
    )
    parser.add_argument(
        "--photos", type=Path, help="with --evaluate: a folder of photographs to edit too, shown in photos.png"
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run `train-miniature`.

    Args:
        argv: Its command line.

    Returns:
        The exit code: 0 done, 1 something the user can mend, 130 interrupted.

    Raises:
        SystemExit: From argparse.
    """
    try:
        _run(_parse(argv))
    except In2nError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(arguments: argparse.Namespace) -> None:
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = pick_device(arguments.device)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.evaluate:
        _render(arguments, pairs.HELD_OUT_FIRST, arguments.held_out_scenes, wait_for=arguments.held_out_scenes)
        weights = arguments.weights or MINIATURE.folder
        evaluate_to_folder(weights, arguments.cache, arguments.out, device)
        if arguments.photos:
            photo_sheet(weights, arguments.photos, device).save(arguments.out / "photos.png")
        return
    rendering = _render(arguments, 0, arguments.scenes, wait_for=min(4, arguments.scenes))
    try:
        _train(arguments, device)
    finally:
        if rendering is not None and rendering.poll() is None:
            rendering.terminate()


def _train(arguments: argparse.Namespace, device: torch.device) -> None:
    photographs = pairs.load_photographs(pairs.write_photographs(arguments.cache / "photographs"))
    initial = MINIATURE.folder if arguments.initial == Path("bundled") else arguments.initial
    earlier = _description(initial) if initial else {}
    config = TrainingConfig(
        steps=arguments.steps,
        batch=arguments.batch or (256 if device.type == "cuda" else 16),
        learning_rate=arguments.learning_rate,
        bfloat16=arguments.bfloat16,
        seed=arguments.seed,
        earlier_steps=earlier.get("training_steps", 0),
        earlier_hours=earlier.get("training_hours", 0.0),
    )
    stops = []
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda number, frame: stops.append(number))
    sampler = pairs.PairSampler(pairs.RenderedPairs(arguments.cache), photographs, seed=int(time.time()))
    train(arguments.out, sampler, config, device, arguments.minutes, stopped=lambda: bool(stops), initial=initial)
    print(f"Weights: {arguments.out / 'weights'}", flush=True)


def _description(folder: Path) -> dict:
    path = folder / DESCRIPTION_FILE
    if not path.exists():
        raise In2nError("no_miniature", f"There is no miniature in {folder}.", f"It has a file {DESCRIPTION_FILE}.")
    return json.loads(path.read_text(encoding="utf-8"))


def _render(arguments: argparse.Namespace, first: int, scenes: int, wait_for: int):
    """Start the rendering of what the cache lacks and wait until `wait_for` scenes are there; None if all were."""
    if arguments.no_render or _rendered(arguments.cache, first, scenes) >= scenes:
        return None
    photographs = pairs.write_photographs(arguments.cache / "photographs")
    try:
        process = pairs.start_rendering(arguments.cache, first, scenes, photographs, arguments.blender_python)
    except OSError as error:
        raise _no_blender(arguments, str(error)) from error
    try:
        while (done := _rendered(arguments.cache, first, scenes)) < wait_for:
            if process.poll() is not None:
                raise _no_blender(arguments, f"see {arguments.cache / 'render.log'}")
            print(f"rendering: {done} of {wait_for} scenes", flush=True)
            time.sleep(2)
    except BaseException:
        process.terminate()
        raise
    return process


def _no_blender(arguments: argparse.Namespace, why: str) -> In2nError:
    return In2nError(
        "no_blender",
        f"The pairs could not be rendered by “{arguments.blender_python}” ({why}).",
        "Name Blender's program, or a Python that has bpy, with --blender-python.",
    )


def _rendered(cache: Path, first: int, scenes: int) -> int:
    path = cache / "index.json"
    if not path.exists():
        return 0
    return sum(first <= int(scene) < first + scenes for scene in json.loads(path.read_text(encoding="utf-8"))["scenes"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
