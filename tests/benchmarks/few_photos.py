"""Few photos: `python3 tests/benchmarks/few_photos.py --out DIR --capture FOLDER --testbed FOLDER [--seeds N]`.

Reconstructs the capture with 11 of its training photos (and with all), and every capture of the testbed's folder with
10, by the draft preset: with and without what sparse points tell. Nerfacto trains beside it, as long as this engine,
where there is a nerfstudio. Writes result.json (every row, and every bar: name, value, bar, holds) and a sheet a
capture. Every part is kept in DIR as soon as it is done: stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
sys.path[:0] = [str(REPOSITORY), str(HERE)]

from reconstruction import Bench, nerfacto_variants  # noqa: E402

from in2n_blender.cli.setup import engine_python  # noqa: E402
from in2n_blender.cli.terminal import Interruption  # noqa: E402
from in2n_blender.workspace.files import read_json, write_json  # noqa: E402

TRANSFORMS = "transforms.json"
CAPTURE_PHOTOS, TESTBED_PHOTOS = 11, 10
LEAST_FOX_DB, LEAST_GAIN_DB, MOST_TIME, AHEAD_DB = 26.5, 2.5, 1.3, 2.0
EVERY = 8  # photos, of which one is held out where the capture does not say


def chosen(count: int, most: int) -> list[int]:
    """Evenly spread, the first and the last among them."""
    return list(range(count)) if count <= most else [round(i * (count - 1) / (most - 1)) for i in range(most)]


def with_fewer(source: Path, folder: Path, most: int) -> Path:
    """A capture of so few of the training photos, and all held-out ones; nothing of the others is known to it."""
    data = read_json(source / TRANSFORMS)
    frames = sorted((f for f in data["frames"] if (source / f["file_path"]).is_file()), key=lambda f: f["file_path"])
    names = [frame["file_path"] for frame in frames]
    held_out = data.get("test_filenames") or names[EVERY // 2 :: EVERY]
    training = [name for name in data.get("train_filenames") or names if name not in held_out]
    training = [training[i] for i in chosen(len(training), most)]
    kept = [frame for frame in frames if frame["file_path"] in {*training, *held_out}]
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("images", data.get("ply_file_path")):
        if name and not (folder / name).exists():
            os.symlink((source / name).resolve(), folder / name)
    write_json(folder / TRANSFORMS, {**data, "frames": kept, "train_filenames": training, "test_filenames": held_out})
    return folder


def rows_of(bench: Bench, name: str, source: Path, seeds: int, peer: bool) -> list[dict]:
    """What each way makes of a capture: {"capture", "way", "seed", "psnr_db", "seconds"}."""
    from against_nerfacto.captures import imported, write_for_nerfstudio
    from against_nerfacto.report import curve
    from reconstruction import Compared

    from in2n_blender.scene.presets import PRESETS

    on = Compared(name, bench.out / "captures" / name, None)
    on.capture = imported(source, PRESETS["draft"].longest_side, on.workspace)
    write_for_nerfstudio(on.capture, on.workspace, on.data)
    found = []
    for seed in range(seeds):
        for way, overrides in (("with points", {}), ("without points", {"points": 0.0})):
            result = bench.engine(
                f"{name}/{way}, seed {seed}", on.workspace, "draft", seed=seed, checkpoints=(), **overrides
            )
            if result:
                found.append({"capture": name, "way": way, "seed": seed, **_scored(curve(on, result)[-1][1], result)})
    if peer and found:
        seconds = max(row["seconds"] for row in found if row["way"] == "with points")
        variant = nerfacto_variants(bench.device)[0]
        result = bench.nerfacto(f"{name}/nerfacto, {variant.name}", on.data, variant, seconds)
        if result:
            found.append({"capture": name, "way": "nerfacto", "seed": 0, **_scored(curve(on, result)[-1][1], result)})
    return found


def _scored(psnr: float, result: dict) -> dict:
    return {"psnr_db": round(float(psnr), 3), "seconds": round(result["seconds"], 1)}


def bars_of(rows: list[dict]) -> list[dict]:
    """Every bar that was measured: {"name", "value", "bar", "holds"}."""
    means = {}
    for capture, way in {(row["capture"], row["way"]) for row in rows}:
        mine = [row for row in rows if (row["capture"], row["way"]) == (capture, way)]
        means[capture, way] = {k: sum(r[k] for r in mine) / len(mine) for k in ("psnr_db", "seconds")}
    bars = []
    for capture in sorted({row["capture"] for row in rows}):
        new, before = means.get((capture, "with points")), means.get((capture, "without points"))
        if not new or not before:
            continue
        gain, time = new["psnr_db"] - before["psnr_db"], new["seconds"] / before["seconds"]
        if capture.endswith("-all"):
            bars.append(_bar(f"{capture}: PSNR gained by points (dB)", gain, 0.0, gain >= 0))
        elif capture.endswith(f"-{CAPTURE_PHOTOS}"):
            bars.append(
                _bar(f"{capture}: held-out PSNR (dB)", new["psnr_db"], LEAST_FOX_DB, new["psnr_db"] >= LEAST_FOX_DB)
            )
        else:
            bars.append(_bar(f"{capture}: PSNR gained by points (dB)", gain, LEAST_GAIN_DB, gain >= LEAST_GAIN_DB))
        bars.append(_bar(f"{capture}: time against training without points", time, MOST_TIME, time <= MOST_TIME))
        peer = means.get((capture, "nerfacto"))
        if peer:
            ahead = new["psnr_db"] - peer["psnr_db"]
            bars.append(_bar(f"{capture}: ahead of nerfacto (dB)", ahead, AHEAD_DB, ahead >= AHEAD_DB))
    return bars


def _bar(name: str, value: float, bar: float, holds: bool) -> dict:
    return {"name": name, "value": round(value, 3), "bar": bar, "holds": bool(holds)}


def main() -> int:
    if any(importlib.util.find_spec(name) is None for name in ("torch", "nerfacc")):
        with Interruption() as interruption:  # the engine's environment, made first if need be
            python = engine_python(interruption, ("engine", "test"))
        return subprocess.call([str(python), str(Path(__file__).resolve()), *sys.argv[1:]])
    given = parser().parse_args()
    out = given.out.expanduser().resolve()
    out.mkdir(parents=True, exist_ok=True)
    bench = Bench(out, given.nerfstudio, "cpu" if given.device == "auto" else given.device, None)
    captures = []
    if given.capture:
        source = given.capture.expanduser().resolve()
        captures += [(f"{source.name}-{CAPTURE_PHOTOS}", source, CAPTURE_PHOTOS), (f"{source.name}-all", source, 10**6)]
    if given.testbed:
        for file in sorted(given.testbed.expanduser().resolve().glob(f"*/{TRANSFORMS}")):
            captures.append((f"{file.parent.name}-{TESTBED_PHOTOS}", file.parent, TESTBED_PHOTOS))
    rows: list[dict] = []
    for name, source, most in captures:
        few = with_fewer(source, out / "sources" / name, most)
        rows += rows_of(bench, name, few, given.seeds, given.nerfstudio is not None)
        write_json(out / "result.json", {"rows": rows, "bars": bars_of(rows), "notes": bench.notes})
    for bar in bars_of(rows):
        print(f"{'holds' if bar['holds'] else 'MISSED':6}  {bar['value']:10.4g} {bar['bar']:10.4g}  {bar['name']}")
    print(json.dumps(bench.notes)) if bench.notes else None
    return 0 if all(bar["holds"] for bar in bars_of(rows)) else 1


def parser() -> argparse.ArgumentParser:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    given.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the results and what is kept")
    given.add_argument("--capture", type=Path, metavar="FOLDER", help="of many photos, with a transforms.json")
    given.add_argument("--testbed", type=Path, metavar="FOLDER", help="of captures, as the testbed renders them")
    given.add_argument("--seeds", type=int, default=1, help="of each way (default: %(default)s)")
    given.add_argument(
        "--nerfstudio",
        type=Path,
        default=os.environ.get("IN2N_NERFSTUDIO_PYTHON"),
        metavar="PYTHON",
        help="a Python that has nerfstudio (default: $IN2N_NERFSTUDIO_PYTHON; without one nerfacto is left out)",
    )
    given.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    return given


if __name__ == "__main__":
    sys.exit(main())
