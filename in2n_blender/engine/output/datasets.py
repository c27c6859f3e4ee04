"""The pictures that an edit was trained on, or the photos, as a dataset that any trainer goes on with.

<folder>/
  images/<name>.png            the pictures; of an edit those of its training views, as they now are
  masks/<name>.png.png         white where a picture counts, where any picture has a mask
  transforms.json  points.ply  nerfstudio
  sparse/0/                    COLMAP; test.txt: the held-out pictures
  dataset.json                 what it was made from
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ...link.requests import ExportDataset
from ...scene.camera import Camera
from ...scene.capture import PinholeCapture, View
from ...scene.errors import In2nError
from ...scene.reporting import Reporter, seconds_left
from ...workspace.files import atomic_path, write_error, write_json
from ...workspace.hashes import checkpoint_state, scene_hash
from ...workspace.imported import load_capture
from ...workspace.layout import Workspace, absolute
from ...workspace.outputs import claim, made_by_us, record, remove_made, unchanged
from ...workspace.provenance import PHOTOS, SCENE, Provenance, is_done, photos_hash, result_folder
from ..nerf.checkpoint import bad_checkpoint, read_checkpoint
from ..nerf.dataset import DATASET_VIEWS
from ..photos import Photos
from ..pictures import to_bytes
from .dataset_files import (
    MODEL_FILES,
    POINTS,
    TEST_LIST,
    TRANSFORMS,
    DatasetPicture,
    write_colmap,
    write_transforms,
)
from .records import record_of

RECORD, PICTURES = "dataset.json", ("images/", "masks/")


@dataclass(frozen=True)
class _Source:
    """A picture of the dataset, and where its pixels come from.

    pixels: (height, width, 3 or 4) uint8 of an edited view; None: the photo's own file.
    """

    picture: DatasetPicture
    view: View
    pixels: np.ndarray | None = None


def export_dataset(request: ExportDataset, report: Reporter) -> dict:
    """Write the reconstruction's photos or an edit's pictures with their cameras, in the capture's own coordinates.

    An edit has pictures of its training views alone, so that no picture of before is measured against it. A dataset of
    the same pictures that is there is not made again.

    Args:
        request: Which edit (None: the reconstruction), for whom, and the folder.
        report: Told of every picture, and asked whether the job was cancelled.

    Returns:
        {"folder", "format", "views", "held_out", "masks", "points", "bytes", "seconds", "finished"}, bytes: of all its
        files, finished: whether the scene was computed to its end. The same, with what it was made from, is in
        dataset.json.

    Raises:
        In2nError: "no_capture", "bad_capture", "not_trained", "bad_checkpoint", "not_ours" where somebody else's file
            is in the way, "missing_file", "disk_full", "cannot_write".
        Cancelled: What was written is known as ours, and no file lists it.
    """
    started = time.monotonic()
    workspace = Workspace(request.workspace)
    folder = absolute(request.out) if request.out else workspace.dataset(request.edit)
    capture = load_capture(workspace)
    made_from = _provenance(workspace, request, capture)
    before = _record(folder)
    if before.get("provenance") == made_from.to_json() and unchanged(folder, before.get("files", [""])):
        report.artifact("dataset", folder / RECORD)
        return _told(before, folder, workspace, request)
    sources = list(_sources(workspace, capture, request.edit))
    pictures = [source.picture for source in sources]
    wanted = _names(pictures, capture, request.format)
    claim(folder, [*wanted, RECORD])
    remove_made(
        folder, [RECORD, *(name for name in _ours(folder) if not name.startswith(PICTURES))]
    )  # lists of pictures
    _write_pictures(folder, workspace, sources, report)
    points = capture.points.astype(np.float64) + capture.offset
    if request.format != "colmap":
        write_transforms(folder, pictures, points, capture.point_colors)
    if request.format != "nerfstudio":
        write_colmap(folder, pictures, points, capture.point_colors)
    remove_made(folder, [name for name in _ours(folder) if name not in wanted])  # of an earlier dataset
    result = {
        "format": request.format,
        "views": len(pictures),
        "held_out": sum(picture.held_out for picture in pictures),
        "masks": sum(bool(picture.mask) for picture in pictures),
        "points": len(points),
        "bytes": sum((folder / name).stat().st_size for name in wanted),
        "seconds": round(time.monotonic() - started, 3),
    }
    write_json(folder / RECORD, {**result, "edit": request.edit, "files": wanted, "provenance": made_from.to_json()})
    record(folder, [*wanted, RECORD])
    report.progress(len(sources), len(sources), "pictures", "Pictures written", 0.0)
    report.artifact("dataset", folder / RECORD)
    return _told(result, folder, workspace, request)


def _told(result: dict, folder: Path, workspace: Workspace, request: ExportDataset) -> dict:
    kept = {key: value for key, value in result.items() if key not in ("provenance", "files", "edit")}
    return {"folder": str(folder), **kept, "finished": is_done(workspace, request.edit)}


def _provenance(workspace: Workspace, request: ExportDataset, capture: PinholeCapture) -> Provenance:
    """The reconstruction's pictures are the photos, whatever was computed from them."""
    inputs = {PHOTOS: photos_hash(workspace)}
    if request.edit:
        inputs[SCENE] = scene_hash(result_folder(workspace, request.edit))
    return Provenance("dataset", {"format": request.format, "offset": capture.offset.tolist()}, inputs)


def _record(folder: Path) -> dict:
    found = record_of(folder / RECORD)
    whole = all(isinstance(name, str) for name in found.get("files") or [None])
    return found if whole and RECORD in made_by_us(folder) else {}


def _sources(workspace: Workspace, capture: PinholeCapture, edit: str | None) -> Iterator[_Source]:
    """The dataset's pictures in the order of the capture's views."""
    edited = _edited(workspace, capture, edit) if edit else {}
    views = capture.training_views if edit else capture.views
    some_masked = any(view.mask for view in views)  # then all are: nerfstudio wants a mask for every picture, or none
    for view in views:
        suffix = ".png" if edit else Path(view.image).suffix
        name = f"{view.name}{suffix}"
        mask = f"{name}.png" if some_masked else ""
        yield _Source(
            DatasetPicture(name, _in_own_coordinates(view.camera, capture.offset), view.held_out, mask),
            view,
            edited.get(view.name),
        )


def _in_own_coordinates(camera: Camera, offset: np.ndarray) -> Camera:
    pose = np.array(camera.camera_to_world, np.float64)
    pose[:3, 3] += offset
    return replace(camera, camera_to_world=pose)


def _edited(workspace: Workspace, capture: PinholeCapture, edit: str) -> dict[str, np.ndarray]:
    """View name -> (height, width, 3 or 4) uint8: what the edit's checkpoint holds; dataset/ may be ahead of it."""
    found = read_checkpoint(workspace.edit(edit))
    colors = found[0].get("dataset") if found else None
    if colors is None:
        raise In2nError(
            "not_trained",
            f"The edit “{edit}” has no edited pictures in {workspace.root}.",
            "Run the edit first.",
        )
    sizes = [(v.camera.intrinsics.height, v.camera.intrinsics.width) for v in capture.training_views]
    some = found[0].get(DATASET_VIEWS)  # of an edit that is not done
    chosen = list(range(len(sizes))) if some is None else some.tolist()
    fits = all(type(view) is int and 0 <= view < len(sizes) for view in chosen)
    counts = [sizes[view][0] * sizes[view][1] for view in chosen] if fits else []
    if not fits or colors.dtype != torch.uint8 or colors.shape not in {(sum(counts), 3), (sum(counts), 4)}:
        raise bad_checkpoint("The checkpoint's edited photos do not fit the capture.")
    edited = {
        capture.training_views[view].name: pixels.view(*sizes[view], -1).numpy()
        for view, pixels in zip(chosen, colors.split(counts))
    }
    if len(edited) == len(sizes):
        return edited
    if parent := found[1].get("parent"):
        return _edited(workspace, capture, parent) | edited
    left = tuple(view for view in capture.training_views if view.name not in edited)
    light = (checkpoint_state(workspace.reconstruction) or {}).get("light")
    return edited | {view.name: to_bytes(photo) for view, photo in zip(left, Photos(workspace, left, light))}


def _names(pictures: list[DatasetPicture], capture: PinholeCapture, form: str) -> list[str]:
    """What the dataset consists of, relative to its folder."""
    names = [f"images/{picture.name}" for picture in pictures]
    names += [f"masks/{picture.mask}" for picture in pictures if picture.mask]
    if form != "colmap":
        names += [TRANSFORMS, *([POINTS] if len(capture.points) else [])]
    if form != "nerfstudio":
        names += [*MODEL_FILES, *([TEST_LIST] if any(picture.held_out for picture in pictures) else [])]
    return names


def _ours(folder: Path) -> list[str]:
    """What datasets of ours left in a folder that other commands may have written to, too."""
    described = (TRANSFORMS, POINTS, TEST_LIST, *MODEL_FILES)
    return [name for name in made_by_us(folder) if name in described or name.startswith(PICTURES)]


def _write_pictures(folder: Path, workspace: Workspace, sources: list[_Source], report: Reporter) -> None:
    started = time.monotonic()
    for index, source in enumerate(sources):
        left = seconds_left(started, index, len(sources))
        report.progress(index, len(sources), "pictures", f"Writing {source.picture.name}", left)
        path = folder / "images" / source.picture.name
        if source.pixels is None:
            _copy(workspace.photo(source.view.image), path)
        else:
            _write_png(path, source.pixels)
        if source.picture.mask:
            _write_mask(folder / "masks" / source.picture.mask, workspace, source.view)


def _write_mask(path: Path, workspace: Workspace, view: View) -> None:
    if view.mask:
        _copy(workspace.photo(view.mask), path)
        return
    k = view.camera.intrinsics
    _write_png(path, np.full((k.height, k.width), 255, np.uint8))


def _copy(source: Path, path: Path) -> None:
    with atomic_path(path, durable=False) as temporary:
        try:
            shutil.copyfile(source, temporary)
        except FileNotFoundError:
            raise In2nError(
                "missing_file", f"{source} does not exist.", "Import the capture again, into a new workspace."
            ) from None
        except OSError as error:
            raise write_error(path, error) from error


def _write_png(path: Path, pixels: np.ndarray) -> None:
    with atomic_path(path, durable=False) as temporary:
        Image.fromarray(pixels).save(temporary, compress_level=4)
