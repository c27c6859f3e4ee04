"""What other trainers read of an exported dataset: pycolmap, our own readers, and nerfstudio's own parser.

    python tests/benchmarks/outputs_datasets.py --out DIR --workspace WORKSPACE [--edit NAME] [--nerfstudio PYTHON]

`rows` gives the bars, for `outputs.py`, too. nerfstudio lives in an environment of its own, whose Python is given;
without one its bars are left out, and said to be.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from in2n_blender.engine.nerf.checkpoint import read_checkpoint  # noqa: E402
from in2n_blender.engine.output.datasets import export_dataset  # noqa: E402
from in2n_blender.link.requests import ExportDataset  # noqa: E402
from in2n_blender.scene.capture import PinholeCapture  # noqa: E402
from in2n_blender.scene.readers import colmap, transforms  # noqa: E402
from in2n_blender.scene.reporting import Reporter  # noqa: E402
from in2n_blender.workspace.layout import Workspace  # noqa: E402

POSE_BAR = 1e-9
NERFSTUDIO_POSE_BAR = 1e-5  # it keeps poses in float32, as parts of the capture's extent
# What nerfstudio makes of a dataset, its own changes of the coordinates taken out again.
PARSE = """
import json, sys
from pathlib import Path
import numpy as np
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
try:
    import open3d
except ImportError:  # it wants libraries of the system's
    open3d = None
found = {}
for split in ("train", "val", "test"):
    config = NerfstudioDataParserConfig(data=Path(sys.argv[1]), downscale_factor=1,
                                        load_3D_points=open3d is not None,
                                        orientation_method="none", center_method="none", auto_scale_poses=False)
    outputs = config.setup().get_dataparser_outputs(split=split)
    cameras = outputs.cameras
    points = outputs.metadata.get("points3D_xyz")
    found[split] = {
        "names": [Path(name).name for name in outputs.image_filenames],
        "masks": [str(name) for name in outputs.mask_filenames or ()],
        "poses": np.asarray(cameras.camera_to_worlds, np.float64).tolist(),
        "lenses": [[float(getattr(cameras, key)[i]) for key in ("width", "height", "fx", "fy", "cx", "cy")]
                   for i in range(len(outputs.image_filenames))],
        "points": None if open3d is None else 0 if points is None else len(points),
    }
Path(sys.argv[2]).write_text(json.dumps(found))
"""


def rows(workspace: Workspace, edit: str | None, out: Path, nerfstudio: str | None = None) -> list[dict]:
    """The bars of a dataset that is exported for it.

    Args:
        workspace: Whose capture it is.
        edit: The edit's name; None: the reconstruction's photos.
        out: Folder for the dataset.
        nerfstudio: A Python that has nerfstudio; None: its bars are left out.

    Returns:
        Of each bar {"name", "value", "bar", "holds"}.
    """
    export_dataset(ExportDataset(workspace=str(workspace.root), edit=edit, out=str(out)), Reporter())
    capture = PinholeCapture.load(workspace.capture_json)
    views = {view.name: view for view in (capture.training_views if edit else capture.views)}
    pictures, found = _pictures(workspace, capture, edit), []
    readers = {
        "nerfstudio's file by our reader": lambda: transforms.read(out / "transforms.json"),
        "COLMAP's by our reader": lambda: colmap.read(colmap.find(out / "sparse")),
    }
    for name, read in readers.items():
        frames = {frame.name: frame for frame in read().frames}
        error = max(
            np.abs(frame.camera_to_world - _own(views[key], capture.offset)).max() for key, frame in frames.items()
        )
        found += [_at_most(f"{name}: pose error", error, POSE_BAR), _all(f"{name}: pictures", len(frames), len(views))]
        wrong = sum(_differ(frame.photo, pictures[key]) for key, frame in frames.items())
        found.append(_at_most(f"{name}: pictures with another pixel", wrong, 0))
    found += _pycolmap_rows(out, views, capture, pictures)
    return found + (_nerfstudio_rows(out, views, capture, nerfstudio) if nerfstudio else [])


def _pycolmap_rows(out: Path, views: dict, capture: PinholeCapture, pictures: dict[str, np.ndarray]) -> list[dict]:
    import pycolmap

    model = pycolmap.Reconstruction(out / "sparse" / "0")
    errors, wrong = [], 0
    for image in model.images.values():
        view = next(view for view in views.values() if image.name.startswith(f"{view.name}."))
        pose = np.eye(4)
        pose[:3] = image.cam_from_world().inverse().matrix()
        errors.append(np.abs(pose @ np.diag([1.0, -1.0, -1.0, 1.0]) - _own(view, capture.offset)).max())
        wrong += _differ(out / "images" / image.name, pictures[view.name])
    return [
        _at_most("pycolmap: pose error", max(errors), POSE_BAR),
        _all("pycolmap: pictures", model.num_images(), len(views)),
        _at_most("pycolmap: pictures with another pixel", wrong, 0),
        _all("pycolmap: points", model.num_points3D(), len(capture.points)),
    ]


def _nerfstudio_rows(out: Path, views: dict, capture: PinholeCapture, python: str) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        script, answer = Path(folder) / "parse.py", Path(folder) / "found.json"
        script.write_text(PARSE, encoding="utf-8")
        subprocess.run([python, str(script), str(out), str(answer)], check=True, stdout=subprocess.DEVNULL)
        found = json.loads(answer.read_text(encoding="utf-8"))
    held_out = {view.name for view in views.values() if view.held_out}
    parts = [found["train"], found["val"]]
    listed = {Path(name).stem for part in parts for name in part["names"]}
    extent = np.ptp([_own(view, capture.offset)[:3, 3] for view in views.values()], axis=0).max()
    pose_errors, lens_errors = [], []
    for part in parts:
        for name, pose, lens in zip(part["names"], part["poses"], part["lenses"]):
            view = views[Path(name).stem]
            k = view.camera.intrinsics
            pose_errors.append(np.abs(np.array(pose) - _own(view, capture.offset)[:3]).max() / extent)
            lens_errors.append(np.abs(np.array(lens) - [k.width, k.height, k.fx, k.fy, k.cx, k.cy]).max())
    told_apart = not held_out or {Path(name).stem for name in found["val"]["names"]} == held_out
    points = found["train"]["points"]
    points_row = [] if points is None else [_all("nerfstudio: points", points, len(capture.points))]
    return [
        *points_row,
        _all("nerfstudio: pictures", len(listed), len(views)),
        _at_most("nerfstudio: pose error, of the cameras' extent", max(pose_errors), NERFSTUDIO_POSE_BAR),
        _at_most("nerfstudio: lens error in pixels", max(lens_errors), 1e-3),
        _all("nerfstudio: held-out pictures told apart", int(told_apart), 1),
    ]


def _pictures(workspace: Workspace, capture: PinholeCapture, edit: str | None) -> dict[str, np.ndarray]:
    """View name -> what its picture has to be, taken from where training takes it."""
    if edit is None:
        return {view.name: np.asarray(Image.open(workspace.root / view.image)) for view in capture.views}
    colors = read_checkpoint(workspace.edit(edit))[0]["dataset"].numpy()
    found, start = {}, 0
    for view in capture.training_views:
        k = view.camera.intrinsics
        end = start + k.width * k.height
        found[view.name], start = colors[start:end].reshape(k.height, k.width, -1), end
    return found


def _own(view, offset: np.ndarray) -> np.ndarray:
    """(4, 4) the view's pose in the capture's own coordinates."""
    pose = np.array(view.camera.camera_to_world, np.float64)
    pose[:3, 3] += offset
    return pose


def _differ(file: Path, expected: np.ndarray) -> bool:
    return not np.array_equal(np.asarray(Image.open(file)), expected)


def _at_most(name: str, value: float, bar: float) -> dict:
    return {"name": name, "value": float(value), "bar": f"<= {bar:g}", "holds": bool(value <= bar)}


def _all(name: str, value: int, whole: int) -> dict:
    return {"name": name, "value": value, "bar": f"= {whole}", "holds": value == whole}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--edit")
    parser.add_argument("--nerfstudio", help="a Python that has nerfstudio")
    args = parser.parse_args()
    found = rows(Workspace(args.workspace), args.edit, args.out / "dataset", args.nerfstudio)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "result.json").write_text(json.dumps({"bars": found}, indent=1))
    for row in found:
        print(f"{'holds' if row['holds'] else 'FAILS'}  {row['name']}: {row['value']:g} ({row['bar']})")
    if not args.nerfstudio:
        print("nerfstudio's parser was not asked: no --nerfstudio")
    return 0 if all(row["holds"] for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
