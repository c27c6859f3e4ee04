"""Gaussian splats of a trained scene, refined against it, in the capture's coordinates."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...link.requests import MakeSplats
from ...scene.errors import In2nError
from ...scene.readers.regions import read_region
from ...scene.region import Region
from ...scene.reporting import Reporter
from ...scene.splats import DIRECT, ROTATION, SCALES, Splats, splat_bytes
from ...scene.spz import spz_bytes
from ...workspace.files import atomic_path, write_json
from ...workspace.hashes import scene_hash
from ...workspace.layout import Workspace
from ...workspace.provenance import PHOTOS, SCENE, Provenance, is_done, photos_hash, result_folder
from ..device import describe_device
from ..nerf.kernels.launch import available
from ..nerf.regions import InsideTest
from ..nerf.scene import Scene, load_scene
from ..pictures import save_srgb
from ..splats.rasterizer import View, draw
from ..splats.refinement import Target, refine
from ..splats.seeding import seed
from ..splats.sources import render_sources, source_cameras
from ..splats.splat import COEFFICIENTS, COLOR, MEAN, OPACITY, SCALE
from ..splats.splat import ROTATION as TURN
from ..splats.targets import targets_of
from .records import record_of, refuse_foreign

KINDS = ("ply", "spz")
LEAST_OPACITY = 0.02  # of a splat that is written


@dataclass(frozen=True)
class Made:
    """Splats, and how they came about.

    Attributes:
        rows: (n, COLUMNS) on the CPU.
        psnr_seeded: dB of the splats before they were refined, on the training views, against the field's own pictures.
        psnr_db: That of the refined ones.
        seconds: By part: "looking" (rendering the field), "making", "refining".
        targets: What they were refined to, the training views' first.
    """

    rows: torch.Tensor
    psnr_seeded: float
    psnr_db: float
    seconds: dict[str, float]
    targets: list[Target]


def make_splats(request: MakeSplats, report: Reporter) -> dict:
    """Splats of an edit or of the reconstruction, to splats/<edit>.ply and .spz, and a picture of them.

    Splats of the same scene and settings that are there are not made again.

    Args:
        request: Which edit (None: the reconstruction), how many splats, what is kept.
        report: Told how far it is, and asked whether the job was cancelled.

    Returns:
        {"ply", "spz", "splats", "psnr_seeded", "psnr_db", "looking", "making", "refining", "writing", "seconds",
        "device", "finished", "offset"}: how many there are, dB on the training views against the field before and after
        refinement, seconds of each part and of all, whether the scene was computed to its end, and what they are
        relative to, in the capture's own coordinates. The same, with what they were made from, is beside them as JSON.

    Raises:
        In2nError: "empty_splats" where nothing is seen, "not_ours" where splats that no job of ours made have their
            name, and what reading the region raises.
        Cancelled: Earlier splats are as they were.
    """
    started = time.monotonic()
    workspace = Workspace(request.workspace)
    files = {kind: workspace.splats(request.edit, f".{kind}") for kind in (*KINDS, "png")}
    record_file = workspace.splats(request.edit, ".json")
    region = None if request.keep is None else read_region(request.keep)
    made_from = _provenance(workspace, request, region)
    record = record_of(record_file)
    paths = {kind: str(files[kind]) for kind in KINDS}
    if record.get("provenance") == made_from.to_json() and all(path.is_file() for path in files.values()):
        for kind in KINDS:
            report.artifact("splats", files[kind])
        done = {key: value for key, value in record.items() if key != "provenance"}
        return {**paths, **done, "finished": is_done(workspace, request.edit)}
    refuse_foreign(record_file, list(files.values()), "make the splats again")
    scene = load_scene(workspace, request.edit, request.device)
    made = splats_of_scene(scene, request, region, report)
    writing = time.monotonic()
    report.progress(0, 1, "part", "Writing the splats")
    splats = as_columns(made.rows)
    contents = {"ply": splat_bytes(splats), "spz": spz_bytes(splats)}
    report.check()
    write_json(record_file, {})  # of no scene, until all files are
    for kind, content in contents.items():
        with atomic_path(files[kind]) as temporary:
            temporary.write_bytes(content)
    _write_picture(files["png"], made)
    result = {
        "splats": len(made.rows),
        "psnr_seeded": round(made.psnr_seeded, 3),
        "psnr_db": round(made.psnr_db, 3),
        **{part: round(seconds, 3) for part, seconds in made.seconds.items()},
        "writing": round(time.monotonic() - writing, 3),
        "seconds": round(time.monotonic() - started, 3),
        "device": describe_device(scene.device),
        "finished": is_done(workspace, request.edit),
        "offset": scene.capture.offset.tolist(),
    }
    write_json(record_file, {**result, "provenance": made_from.to_json()})
    report.progress(1, 1, "part", f"{len(made.rows)} splats", 0.0)
    for kind in KINDS:
        report.artifact("splats", files[kind])
    return {**paths, **result}


def splats_of_scene(scene: Scene, request: MakeSplats, region: Region | None, report: Reporter) -> Made:
    """Splats of a trained scene.

    Args:
        scene: In capture coordinates.
        request: How many splats and steps, and whether the background is kept.
        region: What is kept; None: everything, or without the background what lies in the scene's bounds.
        report: Told how far it is, and asked whether the job was cancelled.

    Returns:
        The refined splats, without those that became transparent.

    Raises:
        In2nError: "empty_splats".
        Cancelled.
    """
    started = time.monotonic()
    inside = _inside(scene, region or (None if request.background else Region.around(scene.bounds())))
    of_views, between = source_cameras([view.camera for view in scene.capture.training_views])
    sources = render_sources(scene, [*of_views, *between], report)
    looked = time.monotonic()
    nearest = scene.model.near / scene.transform.scale
    rows = seed(sources, scene.transform, request.splats, report, inside, scene.has_alpha, nearest)
    if not len(rows):
        raise In2nError(
            "empty_splats",
            "The scene shows no surface where splats are wanted.",
            "Reconstruct longer, or keep a larger region.",
        )
    device = scene.device if available(scene.device) else torch.device("cpu")  # where Warp is
    rows = rows.to(device)
    targets = targets_of(sources, rows, scene.has_alpha, report, inside)
    seeded, made = psnr(rows, targets[: len(of_views)], report), time.monotonic()
    refine(rows, targets, request.steps, report)
    rows = rows[rows[:, OPACITY].sigmoid() > LEAST_OPACITY].contiguous()
    refined = psnr(rows, targets[: len(of_views)], report)
    seconds = {"looking": looked - started, "making": made - looked, "refining": time.monotonic() - made}
    return Made(rows.cpu(), seeded, refined, seconds, targets)


def psnr(rows: torch.Tensor, targets: list[Target], report: Reporter) -> float:
    """How near splats are to what they should show.

    Args:
        rows: (n, COLUMNS) splats.
        targets: Pictures of the same device.
        report: Asked whether the job was cancelled.

    Returns:
        dB, the pictures' mean, before black, of the pixels that count.

    Raises:
        Cancelled.
    """
    found = []
    for target in targets:
        report.check()
        off = (draw(rows, target.view).picture.clamp(0, 1) - target.color) ** 2
        counted = off if target.weight is None else off[target.weight > 0]
        found.append(-10 * float(torch.log10(counted.mean().clamp_min(1e-10))) if counted.numel() else 100.0)
    return float(np.mean(found))


def as_columns(rows: torch.Tensor) -> Splats:
    """Splats as a file has them.

    Args:
        rows: (n, COLUMNS) on the CPU.

    Returns:
        With normals of 0, which 3D Gaussian Splatting writes, too, and the higher harmonics channel after channel.
    """
    values = rows.numpy()
    rest = values[:, COLOR].reshape(-1, COEFFICIENTS, 3)[:, 1:].transpose(0, 2, 1).reshape(len(values), -1)
    none = np.zeros(len(values), np.float32)
    columns = dict(zip("xyz", values[:, MEAN].T)) | {name: none for name in ("nx", "ny", "nz")}
    columns |= dict(zip(DIRECT, values[:, COLOR.start : COLOR.start + 3].T))
    columns |= {f"f_rest_{i}": column for i, column in enumerate(rest.T)}
    columns["opacity"] = values[:, OPACITY]
    turn = values[:, TURN] / np.linalg.norm(values[:, TURN], axis=1, keepdims=True)
    return Splats(columns | dict(zip(SCALES, values[:, SCALE].T)) | dict(zip(ROTATION, turn.T)))


def _inside(scene: Scene, region: Region | None):
    """Which points (n, 3) in capture coordinates are in a region: a function, None where there is no region."""
    if region is None:
        return None
    test = InsideTest(region.transformed(scene.transform.matrix), scene.device)
    return lambda points: test.membership(scene.transform.apply(points.to(scene.device))).cpu() > 0


def _provenance(workspace: Workspace, request: MakeSplats, region: Region | None) -> Provenance:
    """The photos' cameras say from where the field is looked at; the splats are relative to the offset."""
    settings = {
        "splats": request.splats,
        "steps": request.steps,
        "background": request.background,
        "keep": None if region is None else region.hash,
        "offset": record_of(workspace.capture_json).get("offset", [0.0, 0.0, 0.0]),
    }
    inputs = {SCENE: scene_hash(result_folder(workspace, request.edit)), PHOTOS: photos_hash(workspace)}
    return Provenance("splats", settings, inputs)


def _write_picture(path: Path, made: Made) -> None:
    view = made.targets[0].view
    picture = draw(made.rows, View(view.rotation, view.position, view.lens, view.width, view.height))
    save_srgb(path, picture.over(1.0).clamp(0, 1).numpy())
