"""Everything that reads a file or a message which may be a stranger's, each with a whole one to be damaged.

A reader either returns, or raises In2nError, or one of what its docstring names.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from in2n_blender.models import catalogue
from in2n_blender.scene.camera_path import CameraPath, through_views
from in2n_blender.scene.capture import DepthMap, PinholeCapture, pinhole_capture
from in2n_blender.scene.photo_header import read_image_header
from in2n_blender.scene.readers import read
from in2n_blender.scene.readers.regions import read_region
from in2n_blender.scene.reporting import Reporter
from in2n_blender.scene.shot import Shot
from in2n_blender.workspace import edits, journal, outputs, provenance, stages
from in2n_blender.workspace.layout import Workspace
from tests.faults import wire
from tests.scene.captures import write_transforms
from tests.scene.formats import WRITERS


@dataclass(frozen=True)
class Reader:
    """What reads a file.

    Attributes:
        name: In words.
        write: Makes a whole file in a folder, and returns it.
        read: Reads it.
        raises: What it may raise beside In2nError.
    """

    name: str
    write: Callable[[Path], Path]
    read: Callable[[Path], object]
    raises: tuple[type[Exception], ...] = ()


def _capture_reader(name: str) -> Reader:
    writer, file = WRITERS[name]

    def write(folder: Path) -> Path:
        writer(folder)
        return folder / file

    def read_it(path: Path) -> object:
        folder = name == "realityscan xmp"
        return pinhole_capture(read(path.parent.parent if folder else path), 24)

    return Reader(name, write, read_it)


def _written(name: str, make: Callable[[Path], object]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(make(folder)))
        return folder / name

    return write


def _pinhole(folder: Path) -> PinholeCapture:
    write_transforms(folder / "captured")
    return pinhole_capture(read(folder / "captured"), 12)


def _path(folder: Path) -> dict:
    return through_views(_pinhole(folder), 3, name="way").to_json()


def _box(folder: Path) -> dict:
    return {"type": "box", "center": [0, 0, 0], "size": [1, 2, 3], "soft_edge": 0.1}


def _mesh(folder: Path) -> Path:
    corners = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    head = "ply\nformat ascii 1.0\nelement vertex 8\nproperty float x\nproperty float y\nproperty float z\n"
    head += "element face 6\nproperty list uchar int vertex_indices\nend_header\n"
    rows = [" ".join(map(str, row)) for row in [*corners, *((4, *face) for face in faces)]]
    (folder / "region.ply").write_text(head + "\n".join(rows) + "\n")
    return folder / "region.ply"


def _points(folder: Path) -> Path:
    """The sparse points beside a capture, little-endian."""
    write_transforms(folder)
    table = json.loads((folder / "transforms.json").read_text())
    (folder / "transforms.json").write_text(json.dumps({**table, "ply_file_path": "points.ply"}))
    head = "ply\nformat binary_little_endian 1.0\nelement vertex 20\n"
    head += "".join(f"property float {name}\n" for name in "xyz")
    head += "".join(f"property uchar {name}\n" for name in ("red", "green", "blue")) + "end_header\n"
    row = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
    (folder / "points.ply").write_bytes(head.encode() + np.zeros(20, row).tobytes())
    return folder / "points.ply"


def _archive(folder: Path) -> Path:
    write_transforms(folder / "captured")
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted((folder / "captured").rglob("*")):
            file.write(path, path.relative_to(folder))
    shutil.rmtree(folder / "captured")
    return folder / "a.zip"


def _read_archive(path: Path) -> object:
    try:
        return read(path)
    finally:
        for made in path.parent.glob("* unpacked*"):
            shutil.rmtree(made)


def _shot(folder: Path) -> dict:
    camera = _pinhole(folder).views[0].camera
    return Shot((camera,)).to_json()


def _job(folder: Path) -> dict:
    requests = [{"method": "edit", "params": {"name": "e"}}]
    return {"label": "Edit", "requests": requests, "state": "failed", "why": "w", "done": 1, "total": 3}


def _unfinished(path: Path) -> object:
    found = journal.unfinished(path.parent)
    return found and found.factor


def _edit(folder: Path) -> dict:
    return {"name": "e", "instruction": "i", "guidance_text": 7.5, "provenance": {"kind": "edit"}, "segments": []}


def _read_edit(path: Path) -> object:
    workspace = Workspace(path.parents[2])
    return edits.segments_in(edits.read_edit(workspace, "e")), provenance.outdated(workspace, "e")


def _in_edit(name: str, make: Callable[[Path], object]) -> Callable[[Path], Path]:
    return lambda folder: _written(name, make)(folder / "edits" / "e")


def _described(folder: Path) -> dict:
    known = [{"name": "snow", "phrases": ["make it snow"], "rendered": True}]
    return {"guidance_text": 3.0, "guidance_image": 1.5, "steps": 20, "working_side": 64, "instructions": known}


def _stages(folder: Path) -> dict:
    return {"import": {"settings": {"import": {"source": "x"}}, "result": {"views": 3}}}


def _picture(form: str, **options) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        pixels = np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"a.{form}", **options)
        return folder / f"a.{form}"

    return write


READERS = [
    *(_capture_reader(name) for name in WRITERS),
    Reader("capture.json", _written("capture.json", lambda f: _pinhole(f).to_json()), PinholeCapture.load),
    Reader("camera path", _written("way.json", _path), CameraPath.load),
    Reader("region", _written("region.json", _box), read_region),
    Reader("region mesh", _mesh, read_region),
    Reader("points", _points, lambda path: read(path.parent)),
    Reader("archive", _archive, _read_archive),
    Reader("worker's answers", lambda f: wire.write_lines(f / "said", wire.GOOD_ANSWERS), wire.read_answers),
    Reader("client's requests", lambda f: wire.write_lines(f / "asked", wire.GOOD_REQUESTS), wire.read_requests),
    Reader("shot", _written("shot.json", _shot), lambda path: Shot.from_json(_loads(path))),
    Reader("job.json", _written("job.json", _job), _unfinished),
    Reader("edit.json", _in_edit("edit.json", _edit), _read_edit),
    Reader("state.json", _in_edit("state.json", lambda f: {"done": True, **_edit(f)}), _read_edit),
    Reader("stages", _written("run.json", _stages), lambda path: stages.Stages(path).settings("import")),
    Reader(
        "manifest",
        _written(outputs.MANIFEST, lambda f: {"made": {"a": None, "b/c": "0" * 40}}),
        lambda path: outputs.made_by_us(path.parent),
    ),  # fmt: skip
    Reader(
        "model description",
        _written(catalogue.DESCRIPTION_FILE, _described),
        lambda path: catalogue.read_folder(path.parent),
    ),  # fmt: skip
    *(
        Reader(f"{form} header", _picture(form), read_image_header, (ValueError, OSError))
        for form in ("png", "jpg", "tiff", "webp", "bmp", "gif")
    ),
]


def _loads(path: Path) -> object:
    """What a request's JSON would have held; what is none never comes so far."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None


def engine_readers() -> list[Reader]:
    """Those that need torch, COLMAP or FFmpeg: checkpoints, whole pictures and videos."""
    from in2n_blender.engine.measured_depth import believed_depth
    from in2n_blender.engine.nerf.checkpoint import read_checkpoint, save_checkpoint
    from in2n_blender.engine.photos import UnreadablePhoto, decode
    from in2n_blender.engine.pictures import BROKEN, provenance_of
    from in2n_blender.engine.poses.video import extract_frames
    from tests.faults.test_not_finite import tiny_trainer

    def checkpoint(folder: Path) -> Path:
        trainer = tiny_trainer()
        trainer.step()
        tensors, numbers = trainer.state()
        state = {**numbers, "settings": trainer.settings.to_json(), "seed": 0, "near": 0.05, "has_alpha": False}
        state |= {"transform": {"center": [0, 0, 0], "scale": 1.0}, "done": False, "seconds": 1.0}
        save_checkpoint(folder, tensors, state)
        return folder / "checkpoint.safetensors"

    def restore(path: Path) -> None:
        found = read_checkpoint(path.parent)
        if found:
            tiny_trainer().restore(*found)

    pictures = [
        Reader(f"{form} photo", _picture(form), lambda path: (decode(path), provenance_of(path)), (UnreadablePhoto,))
        for form in ("png", "jpg", "tiff", "webp", "bmp", "gif", "heic")
    ]

    def frames(path: Path) -> None:
        try:
            extract_frames(path, 2, path.parent / "frames", Reporter())
        finally:
            shutil.rmtree(path.parent / "frames", ignore_errors=True)

    return [
        Reader("checkpoint", checkpoint, restore),
        *pictures,
        Reader("depth", _depth, lambda path: believed_depth(DepthMap(path, 1e-3)), BROKEN),
        Reader("exr depth", _exr_depth, lambda path: believed_depth(DepthMap(path)), BROKEN),
        Reader("compressed depth", _compressed, lambda path: believed_depth(DepthMap(path, shape=(96, 64))), BROKEN),
        Reader("video", _video, frames),
    ]


def _depth(folder: Path) -> Path:
    depth = np.arange(96, dtype=np.uint16).reshape(8, 12) * 100
    Image.fromarray(depth).save(folder / "a.png")
    return folder / "a.png"


def _exr_depth(folder: Path) -> Path:
    import OpenEXR

    values = {"R": np.arange(96, dtype=np.float32).reshape(8, 12)}
    OpenEXR.File({"type": OpenEXR.scanlineimage}, values).write(str(folder / "a.exr"))
    return folder / "a.exr"


def _compressed(folder: Path) -> Path:
    import lzfse

    (folder / "a.depth").write_bytes(lzfse.compress(np.arange(6144, dtype="<f4").tobytes()))
    return folder / "a.depth"


def _video(folder: Path) -> Path:
    import av  # takes its time to load

    with av.open(str(folder / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return folder / "a.mp4"
