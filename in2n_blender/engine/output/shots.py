"""The job `shot`: one picture for Blender's render engine. The scenes last rendered stay in memory for the next one."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ... import __version__
from ...link.requests import RenderShot
from ...scene.errors import In2nError
from ...scene.region import Region
from ...scene.reporting import Reporter
from ...scene.shot import Shot
from ...workspace.layout import Workspace
from ...workspace.provenance import result_folder
from ..device import describe_device, scene_device
from ..nerf.scene import Scene, load_scene
from ..nerf.shot_rendering import DATA_PASSES, ShotRenderer, ShotSettings
from ..nerf.subject import Subject
from ..pictures import not_finite

SCENES_KEPT = 2  # before and after


def render_shot(request: RenderShot, report: Reporter) -> dict:
    """Render one picture to a file.

    Args:
        request: The camera, the edit whose scene is rendered, and how.
        report: Told how many pixels are done, and asked whether the job was cancelled.

    Returns:
        {"file", "passes": {name: [height, width, channels]}, "seconds", "device", "version"}: the file is a .npy of
        float32, the passes one after another, each row by row from the top.

    Raises:
        In2nError: "bad_shot", "bad_region", "not_trained", "bad_checkpoint", "no_device", "not_finite".
        OSError: The file cannot be written.
        Cancelled: No file is written.
    """
    shot, settings = Shot.from_json(request.shot), _settings(request)
    scene = loaded(Workspace(request.workspace), request.edit, request.device)
    began = time.monotonic()
    passes = ShotRenderer(scene.scene, scene.subject(request.subject)).render(shot, settings, report)
    seconds = time.monotonic() - began
    if not all(np.isfinite(values).all() for values in passes.values()):
        raise not_finite("A rendered picture")
    _write(request.out, np.concatenate([values.ravel() for values in passes.values()]))
    return {
        "file": request.out,
        "passes": {name: list(values.shape) for name, values in passes.items()},
        "seconds": round(seconds, 4),
        "device": describe_device(scene.scene.device),
        "version": __version__,
    }


def _write(file: str, values: np.ndarray) -> None:
    """A .npy, which is read once and removed by who asked: it need not outlive a crash. `np.save` does not say why a
    file cannot be written."""
    with open(file, "wb") as opened:
        np.lib.format.write_array_header_1_0(opened, np.lib.format.header_data_from_array_1_0(values))
        opened.write(values.data)


def _settings(request: RenderShot) -> ShotSettings:
    unknown = set(request.passes) - set(DATA_PASSES)
    if unknown:
        raise In2nError("bad_shot", f"There is no pass {min(unknown)!r:.40}.", "Use the same version on both sides.")
    matrix = np.array(request.to_scene or np.eye(4).ravel(), np.float64)
    if matrix.size != 16 or not np.isfinite(matrix).all() or np.linalg.det(matrix.reshape(4, 4)[:3, :3]) <= 0:
        raise In2nError("bad_shot", "The capture's place in the scene is not one.", "Check the capture's Empty.")
    place = matrix.reshape(4, 4)
    return ShotSettings(request.samples, request.rays_at_once, tuple(request.passes), request.transparent, place)


@dataclass
class _Loaded:
    """A scene with what is found out about it once."""

    scene: Scene
    last: tuple[str, Subject] | None = None

    @cached_property
    def bounds(self) -> Region:
        return Region.around(self.scene.bounds())

    def subject(self, wanted: dict) -> Subject | None:
        """What alone is rendered. The last one is kept, whose distances take a moment to prepare."""
        if not wanted:
            return None
        region = self.bounds if wanted.get("type") == "bounds" else Region.from_json(wanted)
        if self.last is None or self.last[0] != region.hash:
            self.last = (region.hash, Subject(self.scene, region))
        return self.last[1]


_kept: OrderedDict[tuple, _Loaded] = OrderedDict()


def loaded(workspace: Workspace, edit: str | None, device: str) -> _Loaded:
    """A scene from memory, or from its checkpoint where that is not the one in memory.

    Args:
        workspace: The scene's.
        edit: The edit's name; None: the reconstruction.
        device: As for `scene_device`.

    Returns:
        The scene, ready to be rendered.

    Raises:
        In2nError: As `load_scene`.
    """
    files = (result_folder(workspace, edit) / "checkpoint.safetensors", workspace.capture_json)
    stamps = tuple((file.stat().st_mtime_ns, file.stat().st_size) if file.is_file() else None for file in files)
    key = (str(files[0]), stamps, str(scene_device(device)))
    if key not in _kept:
        for old in [old for old in _kept if old[0] == key[0]]:
            del _kept[old]
        _kept[key] = _Loaded(load_scene(workspace, edit, device))
    _kept.move_to_end(key)
    while len(_kept) > SCENES_KEPT:
        _kept.popitem(last=False)
    return _kept[key]
