"""Gaussian splats against the photos that the field never saw, drawn by a rasteriser that is not ours.

    python tests/benchmarks/outputs_splats.py --out DIR --workspace NAME=WORKSPACE ... [--splats N] [--steps N]

`splat_rows` gives the bars, for `outputs.py`, too. A workspace is only read: the splats are made in a copy under DIR.
The sheets show a held-out photo, the field and the splats, side by side.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from in2n_blender.engine.nerf.scene import load_scene  # noqa: E402
from in2n_blender.engine.output.splats import make_splats  # noqa: E402
from in2n_blender.link.requests import MakeSplats  # noqa: E402
from in2n_blender.scene.reporting import Progress, Reporter  # noqa: E402
from in2n_blender.workspace.layout import Workspace  # noqa: E402
from tests.benchmarks.splat_reference import picture, read_ply  # noqa: E402

MOST_BELOW = 2.0  # dB below the field's own pictures of the held-out views
LONGEST_EXPORT = 60.0  # seconds of writing
SHEET_VIEWS, SHEET_SIDE = 4, 320


def splat_rows(name: str, workspace: Workspace, out: Path, splats: int, steps: int | None = None) -> list[dict]:
    """The bars of the splats of a trained workspace's reconstruction.

    Args:
        name: What the scene is called in the rows.
        workspace: Trained, with held-out views; it is read alone.
        out: Folder for the copy that the splats are made in, and for <name>.png, the sheet.
        splats: How many there may be.
        steps: Of refinement; None: the request's default.

    Returns:
        Of each bar {"name", "value", "bar", "holds"}, and what was measured beside them with no bar, "holds" None.
    """
    copy = _copied(workspace, out / name)
    given = {} if steps is None else {"steps": steps}
    made = make_splats(MakeSplats(workspace=str(copy.root), splats=splats, device="cpu", **given), Reporter(_tell))
    columns = read_ply(Path(made["ply"]))
    scene = load_scene(copy, None, "cpu")
    field, drawn, rows_of_sheet = [], [], []
    for view in scene.capture.held_out_views:
        photo = _photo(copy.photo(view.image))
        rendered = scene.render(view.camera).rgb_srgb.numpy()
        k = view.camera.intrinsics
        seen = picture(columns, view.camera.camera_to_world, (k.fx, k.fy, k.cx, k.cy), k.width, k.height)
        seen = np.clip(seen[..., :3] + (1 - seen[..., 3:]) * float(scene.has_alpha), 0, 1)
        field.append(_psnr(rendered, photo))
        drawn.append(_psnr(seen, photo))
        rows_of_sheet.append((photo, rendered, seen))
    _sheet(rows_of_sheet[:: max(1, len(rows_of_sheet) // SHEET_VIEWS)][:SHEET_VIEWS], out / f"{name}.png")
    below, seconds = float(np.mean(field) - np.mean(drawn)), made["writing"]
    measured = {
        "field, held out, dB": float(np.mean(field)),
        "splats, held out, dB": float(np.mean(drawn)),
        "splats before refinement against the field's training views, dB": made["psnr_seeded"],
        "splats against the field's training views, dB": made["psnr_db"],
        **{f"{part}, s": made[part] for part in ("looking", "making", "refining")},
        ".ply, MB": Path(made["ply"]).stat().st_size / 1e6,
        ".spz, MB": Path(made["spz"]).stat().st_size / 1e6,
    }
    return [
        _row(f"{name}: splats", made["splats"], f"<= {splats}", made["splats"] <= splats),
        _row(f"{name}: dB below the field, held out", below, f"<= {MOST_BELOW:g}", below <= MOST_BELOW),
        _row(f"{name}: writing, s", seconds, f"<= {LONGEST_EXPORT:g}", seconds <= LONGEST_EXPORT),
        *(_row(f"{name}: {what}", value, "", None) for what, value in measured.items()),
    ]


def _row(name: str, value: float, bar: str, holds: bool | None) -> dict:
    return {"name": name, "value": value, "bar": bar, "holds": None if holds is None else bool(holds)}


def _copied(workspace: Workspace, folder: Path) -> Workspace:
    """The parts of a workspace that splats are made from, in a folder of our own."""
    copy = Workspace(folder)
    copy.root.mkdir(parents=True, exist_ok=True)
    shutil.copy(workspace.capture_json, copy.capture_json)
    for part in ("images", "masks", "reconstruction"):
        if (workspace.root / part).is_dir():
            shutil.copytree(workspace.root / part, copy.root / part, dirs_exist_ok=True)
    return copy


def _photo(path: Path) -> np.ndarray:
    """(height, width, 3) from 0 to 1, over white."""
    pixels = np.asarray(Image.open(path).convert("RGBA"), np.float64) / 255
    return pixels[..., :3] * pixels[..., 3:] + 1 - pixels[..., 3:]


def _psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(((one - other) ** 2).mean()))


def _sheet(rows: list[tuple], path: Path) -> None:
    """Photo, field, splats from left to right, a view a row."""
    whole = np.concatenate([np.concatenate(row, 1) for row in rows])
    large = max(1, SHEET_SIDE // rows[0][0].shape[1])
    pixels = np.clip(whole * 255 + 0.5, 0, 255).astype(np.uint8).repeat(large, 0).repeat(large, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _tell(event: object) -> None:
    if isinstance(event, Progress) and event.done % 25 == 0:
        print(f"  {event.message} {event.done}/{event.total}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--workspace", required=True, nargs="+", metavar="NAME=WORKSPACE")
    parser.add_argument("--splats", type=int, default=500_000)
    parser.add_argument("--steps", type=int)
    args = parser.parse_args()
    rows = []
    for given in args.workspace:
        name, _, folder = given.partition("=")
        for row in splat_rows(name, Workspace(folder), args.out, args.splats, args.steps):
            rows.append(row)
            verdict = {True: "holds", False: "FAILS", None: "     "}[row["holds"]]
            print(f"{verdict}  {row['name']}: {row['value']:.4g} {row['bar'] and '(' + row['bar'] + ')'}", flush=True)
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "result.json").write_text(json.dumps({"bars": rows}, indent=1))
    return 0 if all(row["holds"] is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
