"""Agisoft Metashape's cameras.xml (File > Export > Export Cameras).

The camera model is of the Metashape Professional manual, appendix "Camera models": with x = X / Z and y = Y / Z,
    x' = x (1 + K1 r^2 + K2 r^4 + K3 r^6 + K4 r^8) + P1 (r^2 + 2 x^2) + 2 P2 x y
    y' = y (1 + K1 r^2 + K2 r^4 + K3 r^6 + K4 r^8) + P2 (r^2 + 2 y^2) + 2 P1 x y
    u = w / 2 + cx + x' f + x' B1 + y' B2,  v = h / 2 + cy + y' f
so that P1 and P2 are OpenCV's the other way round. A fisheye's x and y have the angle from the axis for their radius.
Poses are camera-to-chunk with OpenCV's axes; the chunk's or component's transform (scale, rotation, translation) leads
to the world, which may be geocentric.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from ..camera import Intrinsics
from ..capture import Capture
from ..errors import In2nError
from ..lens import Lens
from .checks import finite, photo_size, positive
from .contents import load_xml, numbers
from .finding import PhotoSearch, usual_folders
from .listing import ListedPhoto, build_capture
from .masks import MaskFinder
from .panoramas import faces
from .poses import from_opencv

GEOCENTRIC = 1e6  # metres from the origin: more is a place on the earth, seen from its middle
LENSES = {"frame": "brown", "fisheye": "thin_prism_fisheye", "equidistant": "thin_prism_fisheye"}
SPHERICAL = ("spherical", "equirectangular")


def find(path: Path) -> Path | None:
    """The XML file of cameras in a path.

    Args:
        path: A file or a folder.

    Returns:
        The file, None where there is none that begins as Metashape's do.
    """
    candidates = [path] if path.is_file() else sorted(path.glob("*.xml"))
    return next((p for p in candidates if p.suffix.lower() == ".xml" and _is_metashapes(p)), None)


def read(path: Path) -> Capture:
    """Read cameras.xml.

    Args:
        path: The file.

    Returns:
        The capture in the world's coordinates; where these are geocentric, in metres east, north and up of the cameras.

    Raises:
        In2nError: "missing_file", "bad_capture" and what `build_capture` raises.
    """
    chunks = [chunk for chunk in load_xml(path).iter("chunk") if chunk.find(".//camera") is not None]
    chunk = max(
        chunks, key=lambda c: sum(t is not None for t in (k.find("transform") for k in c.iter("camera"))), default=None
    )
    if chunk is None:
        raise In2nError(
            "bad_capture", f"{path} has no cameras.", "Align the photos in Metashape, then export the cameras again."
        )
    notes = [f"{len(chunks) - 1} other chunks of {path.name} were not used."] if len(chunks) > 1 else []
    sensors = {sensor.get("id"): sensor for sensor in chunk.iter("sensor")}
    cameras, more = _of_one_component(chunk)
    to_world = _to_world(chunk, cameras[0] if cameras else None, path)
    search, masks, listed = PhotoSearch(*usual_folders(path.parent)), {}, []
    for camera in cameras:
        label = camera.get("label") or f"camera {camera.get('id')}"
        photo = search.find(label)
        entry = _listed(label, photo, camera, sensors.get(camera.get("sensor_id")), to_world)
        if photo:
            mask = masks.setdefault(photo.parent, MaskFinder(photo.parent)).find(photo)
            entry = replace(entry, mask=mask)
        sensor = sensors.get(camera.get("sensor_id"))
        listed += (
            faces(entry) if sensor is not None and sensor.get("type") in SPHERICAL and not entry.problem else [entry]
        )
    listed = _levelled(listed)
    return build_capture(path, path.parent, listed, np.zeros((0, 3)), np.zeros((0, 3), np.uint8), (*notes, *more))


def _is_metashapes(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return b"<chunk" in file.read(1 << 16)
    except OSError:
        return False


def _of_one_component(chunk: Element) -> tuple[list[Element], list[str]]:
    """The enabled cameras of the largest component; each has coordinates of its own."""
    cameras = [c for c in chunk.iter("camera") if c.get("enabled", "true").lower() not in ("0", "false")]
    notes = []
    left_out = sum(1 for _ in chunk.iter("camera")) - len(cameras)
    if left_out:
        notes.append(f"{left_out} photos are disabled in Metashape and were not used.")
    aligned = [c.get("component_id") for c in cameras if c.find("transform") is not None]
    if len(set(aligned)) > 1:
        largest = max(set(aligned), key=lambda one: (aligned.count(one), str(one)))
        others = [c for c in cameras if c.find("transform") is not None and c.get("component_id") != largest]
        cameras = [c for c in cameras if c not in others]
        notes.append(f"{len(others)} photos are of other components, which do not hang together, and were not used.")
    aligned_first = sorted(cameras, key=lambda c: c.find("transform") is None)
    return aligned_first, notes


def _to_world(chunk: Element, camera: Element | None, path: Path) -> np.ndarray:
    """(4, 4) from the coordinates of the cameras: of their component, or of the chunk."""
    wanted = None if camera is None else camera.get("component_id")
    component = next(
        (c for c in chunk.iter("component") if c.get("id") == wanted and c.find("transform") is not None), chunk
    )
    transform, matrix = component.find("transform"), np.eye(4)
    if transform is None:
        return matrix
    scale = transform.findtext("scale")
    rotation = transform.findtext("rotation")
    translation = transform.findtext("translation")
    label = f"the chunk in {path.name}"
    if rotation:
        matrix[:3, :3] = numbers(rotation, 9, "The rotation", label).reshape(3, 3)
    if scale:
        matrix[:3, :3] *= positive(scale, "The scale", label)
    if translation:
        matrix[:3, 3] = numbers(translation, 3, "The translation", label)
    return matrix


def _listed(
    label: str, photo: Path | None, camera: Element, sensor: Element | None, to_world: np.ndarray
) -> ListedPhoto:
    problem, pose, size = None, None, None
    try:
        if camera.find("transform") is None:
            raise In2nError("bad_capture", "Metashape did not align it.", "Align the photos again.")
        if sensor is None:
            raise In2nError("bad_capture", "Its sensor is not listed.", "Export the cameras again.")
        matrix = numbers(camera.findtext("transform"), 16, "The transform", label).reshape(4, 4)
        pose, size = from_opencv(to_world @ matrix), _size(sensor, label)
    except In2nError as error:
        problem = error
    return ListedPhoto(label, photo, pose, size, lambda w, h: _lens(sensor, w, h, label), problem=problem)


def _size(sensor: Element, label: str) -> tuple[int, int]:
    resolution = next(
        (r for r in (_calibration(sensor).find("resolution"), sensor.find("resolution")) if r is not None), None
    )
    if resolution is None:
        raise In2nError("bad_capture", f"The sensor of {label} has no resolution.", "Export the cameras again.")
    return photo_size(resolution.get("width"), resolution.get("height"), label)


def _calibration(sensor: Element) -> Element:
    """The adjusted calibration; of the initial one where nothing was adjusted."""
    found = sensor.findall("calibration")
    return next((c for c in found if c.get("class") == "adjusted"), found[0] if found else Element("calibration"))


def _lens(sensor: Element, width: int, height: int, label: str) -> Lens:
    calibration = _calibration(sensor)
    kind = calibration.get("type") or sensor.get("type") or "frame"
    model = LENSES.get(kind)
    if model is None:
        raise In2nError(
            "unknown_camera_model",
            f"The camera model “{kind}” of {label} is not known.",
            "Let Metashape export undistorted photos, and the cameras again.",
        )
    value = lambda key: finite(calibration.findtext(key) or 0, key, label)
    if calibration.find("f") is not None:
        fy = positive(calibration.findtext("f"), "f", label)
        fx, skew = fy + value("b1"), value("b2")
    else:  # as older versions write it
        fx, fy = (positive(calibration.findtext(key), key, label) for key in ("fx", "fy"))
        skew = value("skew")
    k = Intrinsics(width, height, positive(fx, "f + b1", label), fy, width / 2 + value("cx"), height / 2 + value("cy"))
    k1, k2, k3, k4, p1, p2 = (value(key) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if model == "brown":
        lens = Lens(model, k, (k1, k2, p2, p1, k3, k4, skew / fx))
        return Lens("pinhole", k) if lens.is_pinhole else lens
    return Lens(model, k, (k1, k2, p2, p1, k3, k4, 0.0, 0.0, skew / fx))


def _levelled(listed: list[ListedPhoto]) -> list[ListedPhoto]:
    """Geocentric poses relative to the cameras' middle, with z up there; all others as they are."""
    poses = [entry.camera_to_world for entry in listed if entry.problem is None]
    if not poses:
        return listed
    middle = np.median([pose[:3, 3] for pose in poses], 0)
    if np.linalg.norm(middle) < GEOCENTRIC:
        return listed
    up = middle / np.linalg.norm(middle)
    east = np.cross([0.0, 0.0, 1.0], up)
    east = east / np.linalg.norm(east) if np.linalg.norm(east) > 1e-9 else np.array([1.0, 0.0, 0.0])
    level = np.eye(4)
    level[:3, :3] = np.stack([east, np.cross(up, east), up])
    level[:3, 3] = -level[:3, :3] @ middle
    moved = lambda entry: replace(entry, camera_to_world=level @ entry.camera_to_world)
    return [entry if entry.problem else moved(entry) for entry in listed]
