"""Structure from motion by COLMAP (Schönberger and Frahm 2016): features, matches, and cameras one after another.

All is kept in a database in the search's folder: a search that was stopped goes on with what is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ...scene.tracks import LOST, Tracks
from .colmap import THREADS, extract_features, match_pairs, opened_database, tracks_of
from .lenses import adjusted
from .pairs import choose_pairs
from .prepared import Prepared, PreparedPhoto

MOST_FEATURES = 4096
MANY = 10  # photos by one lens, which tell more of its distortion than one number
FOCAL_LENGTH = 1.2  # of the longer side, where EXIF says nothing
LEAST_MATCHES = 15
LEAST_FEATURES = 100
LEAST_VIEWS = 3  # that see a point
HINT = "Take twenty or more sharp photos that overlap by half, walking round the scene, not turning on the spot."
# For a capture that the usual demands on the first two photos leave without cameras.
LENIENT = {"init_min_num_inliers": 40, "init_min_tri_angle": 4.0, "abs_pose_min_num_inliers": 15}


@dataclass(frozen=True)
class Placed:
    """A camera that has been found.

    Attributes:
        photo: Of which.
        camera_from_world: (3, 4) OpenCV's axes.
        model: COLMAP's name of the lens model.
        parameters: The lens's, in pixels of the prepared picture.
    """

    photo: PreparedPhoto
    camera_from_world: np.ndarray
    model: str
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class Solution:
    """What was found.

    Attributes:
        placed: The cameras.
        points: (p, 3) float64.
        colors: (p, 3) uint8.
        error: Mean reprojection error in pixels of the prepared pictures.
        lost: Name -> why, of photos whose camera was not found.
        others: How many photos each of the other, smaller models has, which do not join with this one.
        tracks: Which cameras see which points, by their numbers in `placed`.
    """

    placed: tuple[Placed, ...]
    points: np.ndarray
    colors: np.ndarray
    error: float
    lost: dict[str, str]
    others: tuple[int, ...] = ()
    tracks: Tracks | None = None


Arrival = Callable[[list[Placed], np.ndarray, np.ndarray], None]


class Solver:
    """A search for the cameras of photos.

    Args:
        prepared: The photos.
        folder: The search's; database.db is kept there.
        in_order: Whether the photos are frames of a video.
        report: Told of every stage, and asked ten times a second whether the job was cancelled.
    """

    def __init__(self, prepared: Prepared, folder: Path, in_order: bool, report: Reporter):
        self.prepared, self.folder, self.in_order, self.report = prepared, folder, in_order, report
        self.database = folder / "database.db"
        self.by_file = {photo.file: photo for photo in prepared.photos}
        pycolmap.set_random_seed(0)

    def solve(self, arrived: Arrival = lambda placed, points, colors: None) -> Solution:
        """Find the cameras.

        Args:
            arrived: Told of all cameras and points that are found so far, whenever there are more.

        Returns:
            The largest model.

        Raises:
            In2nError: "no_cameras_found"; as `opened_database`.
            Cancelled.
        """
        self._find_features()
        self._match()
        models = self._map(arrived, {}) or self._map(arrived, LENIENT)
        if not models:
            raise In2nError("no_cameras_found", self._why_none(), HINT)
        best, *others = sorted(models, key=lambda model: -model.num_reg_images())
        best = adjusted(best, self.report)
        placed = self._placed(best)
        best.update_point_3d_errors()
        kept = _kept(best)
        points, colors = _places_and_colours(kept)
        tracks = _tracks(kept, best.images, placed)
        lost = self._lost({one.photo.file for one in placed})
        sizes = tuple(model.num_reg_images() for model in others)
        return Solution(tuple(placed), points, colors, best.compute_mean_reprojection_error(), lost, sizes, tracks)

    def _find_features(self) -> None:
        """Of a few photos at once, one a thread; those of photos that have some are kept."""
        with opened_database(self.database) as database:
            if not database.num_images():
                self._note_photos(database)
            images = {image.name: image for image in database.read_all_images()}
            has_some = {name for name, image in images.items() if database.exists_keypoints(image.image_id)}
        left = [photo for photo in self.prepared.photos if photo.file not in has_some]
        done = len(self.prepared.photos) - len(left)
        for (_, masked), members in _grouped(left).items():
            for first in range(0, len(members), THREADS):
                self._progress(done, "photos", "Looking for features")
                names = members[first : first + THREADS]
                camera = images[names[0]].camera_id
                masks = self.prepared.masks if masked else None
                extract_features(self.database, self.prepared.images, names, camera, MOST_FEATURES, self.report, masks)
                done += len(names)

    def _note_photos(self, database) -> None:
        """All at once, before there are features: the results depend on their numbers, which threads would mix up."""
        cameras: dict[str, int] = {}
        rigs: dict[str, int] = {}
        groups = Counter(photo.camera for photo in self.prepared.photos)
        with pycolmap.DatabaseTransaction(database):
            for photo in self.prepared.photos:
                if photo.camera not in cameras:
                    cameras[photo.camera], rigs[photo.camera] = _write_camera(database, photo, groups)
                image = pycolmap.Image(name=photo.file, camera_id=cameras[photo.camera])
                image.image_id = database.write_image(image)
                frame = pycolmap.Frame()
                frame.rig_id = rigs[photo.camera]
                frame.add_data_id(image.data_id)
                database.write_frame(frame)

    def _match(self) -> None:
        with opened_database(self.database) as database:
            images = sorted(database.read_all_images(), key=lambda image: image.name)
            descriptors = [np.asarray(database.read_descriptors(image.image_id).data) for image in images]
            pairs = [
                (images[i].name, images[j].name)
                for i, j in choose_pairs(descriptors, self.in_order)
                if not database.exists_two_view_geometry(images[i].image_id, images[j].image_id)
            ]
        match_pairs(self.database, pairs, self.folder, self.report)

    def _map(self, arrived: Arrival, lenient: dict) -> list:
        """All models; none where no two photos fit each other."""
        count = len(self.prepared.photos)
        options = pycolmap.IncrementalPipelineOptions(
            num_threads=1,  # of several, the sums depend on which is first, and with them what is placed where
            min_model_size=min(10, max(3, count // 2)),
            image_path=self.prepared.images,
        )
        options.random_seed = 0
        for name, value in lenient.items():
            setattr(options.mapper, name, value)
        manager = pycolmap.ReconstructionManager()
        with opened_database(self.database) as database:
            pipeline = pycolmap.IncrementalPipeline(options, database, manager)

            def one_more() -> None:
                model = manager.get(manager.size() - 1)
                self._progress(model.num_reg_images(), "photos", "Placing cameras")
                arrived(self._placed(model), *_places_and_colours(_kept(model)))

            for event in ("INITIAL_IMAGE_PAIR_REG_CALLBACK", "NEXT_IMAGE_REG_CALLBACK"):
                pipeline.add_callback(getattr(pycolmap.IncrementalPipelineCallback, event), one_more)
            self._progress(0, "photos", "Placing cameras")
            pipeline.run()
        return [manager.get(number) for number in range(manager.size())]

    def _placed(self, model) -> list[Placed]:
        found = []
        for image in model.images.values():
            if image.has_pose:
                camera = model.cameras[image.camera_id]
                found.append(
                    Placed(
                        self.by_file[image.name],
                        np.array(image.cam_from_world().matrix()),
                        camera.model.name,
                        tuple(map(float, camera.params)),
                    )
                )
        return sorted(found, key=lambda one: one.photo.file)

    def _lost(self, placed: set[str]) -> dict[str, str]:
        """Why each photo has no camera."""
        with opened_database(self.database) as database:
            images = {image.name: image.image_id for image in database.read_all_images()}
            pairs, inliers = database.read_two_view_geometry_num_inliers()
            best = Counter()
            for pair, number in zip(pairs, inliers):
                for image in pycolmap.pair_id_to_image_pair(pair):
                    best[image] = max(best[image], number)
            features = {name: database.num_keypoints_for_image(number) for name, number in images.items()}
        lost = {}
        for photo in self.prepared.photos:
            if photo.file in placed:
                continue
            if features.get(photo.file, 0) < LEAST_FEATURES:
                lost[photo.name] = "There is too little to hold on to in it: it is blurred, dark or plain."
            elif best[images[photo.file]] < LEAST_MATCHES:
                lost[photo.name] = "It has no overlap with the other photos."
            else:
                lost[photo.name] = "It does not fit where the other photos were taken."
        return lost

    def _why_none(self) -> str:
        reasons = Counter(self._lost(set()).values())
        most = reasons.most_common(1)[0] if reasons else ("", 0)
        count = len(self.prepared.photos)
        return f"The cameras of these {count} photos were not found. Of {most[1]} of them: {most[0]}"

    def _progress(self, done: int, unit: str, message: str) -> None:
        self.report.progress(done, len(self.prepared.photos), unit, message)


def _grouped(photos: list[PreparedPhoto]) -> dict[tuple[str, bool], list[str]]:
    """The files of photos that are read alike: by one camera, with masks or without."""
    groups: dict[tuple[str, bool], list[str]] = {}
    for photo in photos:
        groups.setdefault((photo.camera, photo.masked), []).append(photo.file)
    return groups


def _write_camera(database, photo: PreparedPhoto, groups: Counter) -> tuple[int, int]:
    """The camera's number, and that of the rig that is it alone."""
    model = "OPENCV" if groups[photo.camera] >= MANY else "SIMPLE_RADIAL"
    width, height = photo.prepared_size
    focal = photo.focal or FOCAL_LENGTH * max(width, height)
    camera = pycolmap.Camera.create_from_model_name(0, model, focal, width, height)
    camera.has_prior_focal_length = photo.focal is not None
    camera.camera_id = database.write_camera(camera)
    rig = pycolmap.Rig()
    rig.add_ref_sensor(camera.sensor_id)
    return camera.camera_id, database.write_rig(rig)


def _kept(model) -> list:
    """A model's points that at least three photos see."""
    return [point for point in model.points3D.values() if point.track.length() >= LEAST_VIEWS]


def _places_and_colours(points) -> tuple[np.ndarray, np.ndarray]:
    if not points:
        return np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
    return np.array([point.xyz for point in points]), np.array([point.color for point in points], np.uint8)


def _tracks(points, images, placed: list[Placed]) -> Tracks:
    """Which of the placed photos see a model's points."""
    files = {one.photo.file: number for number, one in enumerate(placed)}
    return tracks_of(points, {number: files.get(image.name, LOST) for number, image in images.items()})
