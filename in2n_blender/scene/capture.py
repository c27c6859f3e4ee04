"""A capture: photos with cameras and sparse points, as read from the user's files and as kept in a workspace."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .camera import Camera
from .capture_checks import check_texts, check_unique, checked_view, rows_of_three
from .errors import In2nError, what_is_wrong
from .lens import Lens, pinhole_for
from .text import text_of
from .tracks import LOST, Tracks

MAXIMUM_POINTS = 50_000
FAR_AWAY = 100.0  # extents of the capture: from here on float32 would show, at 1e-5 of an extent


DARK, LIGHT = "dark", "light"


@dataclass(frozen=True)
class PhotoMask:
    """A picture that says which pixels of a photo are to be left alone.

    Attributes:
        path: The file, of the photo's shape.
        ignores: DARK: what is black, or LIGHT: what is not.
    """

    path: Path
    ignores: str = DARK


@dataclass(frozen=True)
class DepthMap:
    """A picture that says how far away each pixel of a photo is, as a phone's LiDAR measured it.

    Attributes:
        path: A picture of one channel, of the photo's shape but of any size; 0 or NaN where nothing was measured.
        unit: What a value of 1 is in the capture's units, along the camera's axis.
        confidence: A picture of the same size that says how sure each pixel is; None where all are.
        least_confidence: Its value from which on a pixel is believed.
        shape: (width, height), up to a scale, of files that are bare numbers row by row; None where they say it.
    """

    path: Path
    unit: float = 1e-3
    confidence: Path | None = None
    least_confidence: float = 0.0
    shape: tuple[int, int] | None = None


@dataclass(frozen=True)
class Frame:
    """One photo of a capture as the user's files describe it, still distorted, at its own size.

    Attributes:
        name: A plain file name.
        photo: The file.
        lens: In pixels of the photo after `orientation` was applied to what is stored.
        camera_to_world: (4, 4) float64, rigid, OpenGL axes, in the files' own coordinates.
        held_out: Whether the files keep it from training; None: they do not say.
        orientation: EXIF's, 1 to 8.
        mask: What of the photo is to be left alone, None where the files do not say.
        depth: How far away its pixels are, None where the files do not say.
    """

    name: str
    photo: Path
    lens: Lens
    camera_to_world: np.ndarray
    held_out: bool | None = None
    orientation: int = 1
    mask: PhotoMask | None = None
    depth: DepthMap | None = None


@dataclass(frozen=True)
class Capture:
    """What a reader returns, in the files' own coordinates and units.

    Attributes:
        name: The capture's.
        source: The file or folder that was read.
        frames: Its usable photos.
        points: (P, 3) float64 sparse points.
        point_colors: (P, 3) uint8.
        missing: Names of frames that the files list but whose photo is not there.
        unusable: Name -> why, of frames whose photo is there but broken, or whose pose or lens is none.
        notes: What the user should know of it, a sentence each.
        tracks: Which frames see which points, by their numbers in `frames`; None where the files do not say.
    """

    name: str
    source: Path
    frames: tuple[Frame, ...]
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    point_colors: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.uint8))
    missing: tuple[str, ...] = ()
    unusable: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tracks: Tracks | None = None


@dataclass(frozen=True)
class View:
    """One normalised photo: undistorted, with square pixels.

    Attributes:
        name: A plain file name.
        image: Its file, relative to the workspace, with "/".
        camera: Fits the image exactly; its pose is relative to the capture's offset.
        held_out: Whether it is kept from training.
        mask: The file of its mask, relative to the workspace, white where the photo counts; "" where all of it does.
    """

    name: str
    image: str
    camera: Camera
    held_out: bool = False
    mask: str = ""


@dataclass(frozen=True)
class PinholeCapture:
    """The capture as a workspace keeps it (capture.json): pinhole views whose cameras fit the images on disk exactly.

    Attributes:
        name: The capture's.
        source: Where it was read from; relative to the workspace if it lies inside it, else absolute.
        preset: The name of the preset that it was made with.
        views: The normalised photos.
        points: (P, 3) float32 sparse points, relative to the offset.
        point_colors: (P, 3) uint8.
        missing: Names of frames without a view, because their photo is not there or cannot be used.
        notes: What the user should know of it, a sentence each.
        offset: (3,) float64 in the capture's own coordinates and units; poses and points are relative to it, so that
            float32 is enough for them (see `map_offset`).
        tracks: Which views see which points, by their numbers in `views`; None where that is not known.
    """

    name: str
    source: str
    preset: str
    views: tuple[View, ...]
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    point_colors: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.uint8))
    missing: tuple[str, ...] = ()
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))
    notes: tuple[str, ...] = ()
    tracks: Tracks | None = None

    @property
    def training_views(self) -> tuple[View, ...]:
        return tuple(v for v in self.views if not v.held_out)

    @property
    def held_out_views(self) -> tuple[View, ...]:
        return tuple(v for v in self.views if v.held_out)

    def with_views(self, views: tuple[View, ...]) -> PinholeCapture:
        """The capture with some of its views, by their names.

        Args:
            views: In any order, and with whatever is new about them.

        Returns:
            What sees its points is theirs, too.
        """
        numbers = {view.name: number for number, view in enumerate(views)}
        new = np.array([numbers.get(view.name, LOST) for view in self.views], np.int64)
        return replace(self, views=views, tracks=self.tracks and self.tracks.with_photos(new))

    def to_json(self) -> dict:
        tracks = {"tracks": self.tracks.to_json()} if self.tracks else {}
        return {
            **tracks,
            "name": self.name,
            "source": self.source,
            "preset": self.preset,
            "offset": np.asarray(self.offset, np.float64).tolist(),
            "missing": list(self.missing),
            "notes": list(self.notes),
            "views": [
                {
                    "name": v.name,
                    "image": v.image,
                    "held_out": v.held_out,
                    **({"mask": v.mask} if v.mask else {}),
                    **v.camera.to_json(),
                }
                for v in self.views
            ],
            "points": np.round(np.asarray(self.points, np.float64), 6).tolist(),
            "point_colors": np.asarray(self.point_colors).tolist(),
        }

    @staticmethod
    def from_json(data: object, where: str = "capture.json") -> PinholeCapture:
        """What `to_json` wrote, or a stranger: nothing of it is believed.

        Args:
            data: Parsed JSON.
            where: Its file, for messages.

        Raises:
            In2nError: "bad_capture" for names that are not plain or not unique, images outside the workspace, numbers
                that are not finite, sizes that are not positive, poses that are not rigid.
        """
        try:
            if not isinstance(data, dict):
                raise ValueError("it is not an object")
            check_texts(data)
            views = tuple(View(*checked_view(number, view)) for number, view in enumerate(data["views"], 1))
            check_unique([view.name for view in views])
            points, colors = (rows_of_three(data[key], key) for key in ("points", "point_colors"))
            if len(points) != len(colors) or ((colors < 0) | (colors > 255)).any():
                raise ValueError("its points and their colours do not fit")
            offset = rows_of_three([data.get("offset", [0, 0, 0])], "offset")
            if len(offset) != 1:
                raise ValueError("its offset is not three numbers")
            return PinholeCapture(
                data["name"],
                data["source"],
                data["preset"],
                views,
                points.astype(np.float32),
                colors.astype(np.uint8),
                tuple(data["missing"]),
                offset[0],
                tuple(data.get("notes", ())),
                Tracks.from_json(data["tracks"], len(points), len(views)) if data.get("tracks") else None,
            )
        except (ValueError, TypeError, OverflowError, KeyError) as error:
            reason = what_is_wrong(error)
            raise In2nError(
                "bad_capture",
                f"{where} cannot be used as a capture: {reason}.",
                "Import the capture again, into a new workspace.",
            ) from None

    @staticmethod
    def load(path: Path) -> PinholeCapture:
        """Read capture.json.

        Args:
            path: The file.

        Raises:
            In2nError: "missing_file", and "bad_capture" as `from_json`.
        """
        try:
            data = json.loads(text_of(path))
        except FileNotFoundError:
            raise In2nError(
                "missing_file", f"{path} does not exist.", "Import a capture into this workspace first."
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise In2nError(
                "bad_capture",
                f"{path} cannot be read ({reason}).",
                "Import the capture again, into a new workspace.",
            ) from None
        return PinholeCapture.from_json(data, str(path))


def pinhole_capture(capture: Capture, longest_side: int, hold_out_every: int = 8, preset: str = "") -> PinholeCapture:
    """The normalised capture that a capture becomes: needs numpy only and reads no photo.

    Of the sparse points at most MAXIMUM_POINTS stay, chosen with a fixed seed.

    Args:
        capture: What a reader returned.
        longest_side: Photos are scaled down, never up, to at most so many pixels.
        hold_out_every: n; where the files do not say which views are held out, every n-th is (0: none), starting in
            the middle of the first such run of views.
        preset: The name of the preset, to be kept with it.

    Returns:
        The capture, with poses and points relative to its offset.

    Raises:
        In2nError: "bad_setting", "bad_intrinsics", "too_few_photos".
    """
    if longest_side < 1 or hold_out_every < 0 or hold_out_every == 1:
        raise In2nError(
            "bad_setting",
            f"Photos of {longest_side} pixels with every {hold_out_every}th view held out cannot be made.",
            "Hold out every second view at most, or 0 for none.",
        )
    held_out = _held_out(capture.frames, hold_out_every)
    if len(held_out) - sum(held_out) < 3:
        raise In2nError(
            "too_few_photos",
            (
                f"Only {len(held_out) - sum(held_out)} photos of {capture.source} are left to train on; the others are "
                "held out."
            ),
            "Hold out fewer views.",
        )
    pinholes = {lens: pinhole_for(lens).fitted(longest_side)[0] for lens in {frame.lens for frame in capture.frames}}
    offset = map_offset(np.array([frame.camera_to_world[:3, 3] for frame in capture.frames]), capture.points)
    views = tuple(
        View(
            f.name,
            f"images/{f.name}.png",
            Camera(pinholes[f.lens], _moved(f.camera_to_world, offset)),
            out,
            f"masks/{f.name}.png" if f.mask else "",
        )
        for f, out in zip(capture.frames, held_out)
    )
    points, colors, tracks = np.asarray(capture.points, np.float64), capture.point_colors, capture.tracks
    if len(points) > MAXIMUM_POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(len(points), MAXIMUM_POINTS, replace=False))
        points, colors, tracks = points[chosen], colors[chosen], tracks and tracks.of_points(chosen)
    source = Path(capture.source).expanduser().resolve().as_posix()
    missing = capture.missing + tuple(capture.unusable)
    relative = (points - offset).astype(np.float32)
    about = (missing, offset, capture.notes, tracks)
    return PinholeCapture(capture.name, source, preset, views, relative, colors, *about)


def map_offset(positions: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where the origin of a capture is to be moved: a round number near its cameras if they are far away, else zero.

    Captures in map coordinates (UTM metres, say) are millions of metres from the origin, where float32, which Blender
    and the engine compute in, knows no centimetres. Captures nearer than FAR_AWAY times their extent stay as they are.

    Args:
        positions: (n, 3) float64 camera centres.
        points: (p, 3) float64 sparse points, none where the cameras alone tell the extent.

    Returns:
        (3,) float64, a multiple of the power of ten above the capture's extent.
    """
    middle = np.median(positions, 0)
    extents = [np.median(np.linalg.norm(at - middle, axis=1)) for at in (positions, points) if len(at)]
    extent = float(max(extents)) or 1.0
    if np.linalg.norm(middle) <= FAR_AWAY * extent:
        return np.zeros(3)
    step = 10.0 ** math.ceil(math.log10(extent))
    return np.round(middle / step) * step


def _moved(camera_to_world: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The pose (4, 4) relative to the offset (3,)."""
    pose = np.array(camera_to_world, np.float64)
    pose[:3, 3] -= offset
    return pose


def _held_out(frames: tuple[Frame, ...], every: int) -> list[bool]:
    if any(f.held_out is not None for f in frames):
        return [bool(f.held_out) for f in frames]
    return [every > 0 and i % every == every // 2 for i in range(len(frames))]
