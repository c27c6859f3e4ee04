"""What leaves a scene, measured: meshes, textures, splats, datasets.

    python -m tests.benchmarks.outputs --out DIR --workspaces DIR [--only PART ...] [--bpy PYTHON] [--nerfstudio PYTHON]

--workspaces holds reconstructed workspaces by the scenes' names: island, street and courtyard (of the testbed, see
`testbed --help`), demo (the island once more, of the bundled photos) and fox. Those that are missing are left out, and
said to be. DIR gets result.json (every bar: name, value, bar, holds), a file for each part as it ends, which a further
run does not make again, and sheets: photo, field and textured mesh, or splats, of held-out views of each scene.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from in2n_blender.engine.pictures import to_bytes  # noqa: E402
from in2n_blender.workspace.files import read_json, write_json  # noqa: E402
from in2n_blender.workspace.layout import Workspace  # noqa: E402
from tests.benchmarks.bars import Bar  # noqa: E402
from tests.benchmarks.outputs_datasets import rows as dataset_rows  # noqa: E402
from tests.benchmarks.outputs_meshes import closed_rows, mesh_rows, nose_rows, texture_rows  # noqa: E402
from tests.benchmarks.outputs_splats import splat_rows  # noqa: E402

TESTBED = ("island", "street", "courtyard")
DEMO_LEAST = 24.0  # dB
SPLATS, MOST_SPLATS = ("demo", "fox", "street"), 500_000
VERDICTS = {True: "holds", False: "MISSED", None: ""}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workspaces", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=None, metavar="PART", help="such as mesh-island, texture-demo")
    parser.add_argument("--bpy", type=Path, default=Path(sys.executable), help="a Python with bpy")
    parser.add_argument("--nerfstudio", type=Path, default=None, help="a Python with nerfstudio")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows, sheet = [], {}
    for part, measure in parts(given, sheet).items():
        file = given.out / f"part-{part}.json"
        if given.only is not None and part not in given.only:
            continue
        if not file.exists():
            print(f"--- {part}", flush=True)
            write_json(file, [_plain(row) for row in measure()])
        rows += read_json(file)
    for name, pictures in sheet.items():
        Image.fromarray(to_bytes(np.concatenate(pictures, 1))).save(given.out / f"sheet-{name}.png")
    write_json(given.out / "result.json", rows)
    for row in rows:
        print(f"{VERDICTS[row['holds']]:6}  {row['value']:10.4g}  {row['bar']!s:>10}  {row['name']}")
    return 0 if all(row["holds"] is not False for row in rows) else 1


def parts(given, sheet: dict) -> dict:
    """What is measured, by name: functions of nothing that return bars."""
    work, found = given.out / "work", {}
    for name in (*TESTBED, "demo", "fox"):
        source, copy = given.workspaces / name, work / name
        if not (source / "reconstruction").is_dir():
            print(f"left out: {name}, as {source} is no reconstructed workspace")
            continue
        if not copy.exists():
            unwanted = ("edits", "renders", "meshes", "splats", "datasets")
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*unwanted))
        if name in TESTBED:
            truth = given.out / f"surfaces-{name}.npz"
            found[f"mesh-{name}"] = lambda name=name, copy=copy, truth=truth: mesh_rows(
                name, copy, truth, given.bpy, ROOT
            )
        least = DEMO_LEAST if name == "demo" else None
        found[f"texture-{name}"] = lambda name=name, copy=copy, least=least: texture_rows(name, copy, sheet, least)
        found[f"closed-{name}"] = lambda name=name, copy=copy: closed_rows(name, copy)
        if name == "fox":
            found["nose-fox"] = lambda copy=copy: nose_rows(copy)
        if name in SPLATS:
            found[f"splats-{name}"] = lambda name=name, copy=copy: splat_rows(
                name, Workspace(copy), given.out / f"splats-{name}", MOST_SPLATS
            )
        found[f"dataset-{name}"] = lambda name=name, copy=copy: dataset_rows(
            Workspace(copy), None, given.out / f"dataset-{name}", given.nerfstudio and str(given.nerfstudio)
        )
    return found


def _plain(row: Bar | dict) -> dict:
    """As JSON, whatever numbers it was made of; holds None: nothing is asked of the value."""
    row = asdict(row) if isinstance(row, Bar) else row
    bar = row["bar"] if isinstance(row["bar"], str) else float(row["bar"])
    holds = None if row["holds"] is None else bool(row["holds"])
    return {"name": row["name"], "value": float(row["value"]), "bar": bar, "holds": holds}


if __name__ == "__main__":
    sys.exit(main())
