"""COLMAP as the searches call it: quiet, on a few threads, and ended early when the job is cancelled."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pycolmap

from ...scene.errors import Cancelled, In2nError
from ...scene.reporting import Reporter
from ...scene.tracks import LOST, Tracks
from ...workspace.files import write_error

THREADS = min(os.cpu_count() or 1, 8)
ASKED_EVERY = 0.1  # seconds, whether the job was cancelled
PAIRS_AT_ONCE = 24
ROOM = 32 << 20  # bytes that must be free: more than a call writes, for where it cannot write COLMAP ends the process
pycolmap.logging.minloglevel = pycolmap.logging.ERROR.value


@contextmanager
def opened_database(database: Path) -> Iterator[pycolmap.Database]:
    """COLMAP's database, closed behind the block.

    Args:
        database: Its file; made where it is missing.

    Raises:
        In2nError: "disk_full" where less than ROOM is free; "cannot_write"; "bad_database".
    """
    with _said_why(database), pycolmap.Database.open(database) as opened:
        yield opened


@contextmanager
def _said_why(database: Path) -> Iterator[None]:
    """What COLMAP says of a database is no more than that it did not work."""
    try:
        if shutil.disk_usage(database.parent).free < ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield
    except OSError as error:
        raise write_error(database, error) from error
    except RuntimeError as error:
        try:
            with tempfile.TemporaryFile(dir=database.parent) as file:
                file.write(bytes(1 << 20))
        except OSError as reason:
            raise write_error(database, reason) from error
        if "database" not in str(error).lower():
            raise
        raise In2nError(
            "bad_database",
            f"{database} cannot be used: it is damaged, or its disk or share does not let files be locked.",
            "Remove that file, or choose a workspace folder on a disk of this computer.",
        ) from error


def tracks_of(points: Sequence[pycolmap.Point3D], numbers: dict[int, int]) -> Tracks:
    """Which photos see points of a model.

    Args:
        points: The model's, whose errors were measured.
        numbers: The number of each image that counts, by its id.
    """
    seen = [[numbers.get(element.image_id, LOST) for element in point.track.elements] for point in points]
    errors = [point.error if point.error >= 0 else np.nan for point in points]
    return Tracks.of([[photo for photo in one if photo != LOST] for one in seen], errors)


def run_colmap(call: Callable[[object], None], report: Reporter) -> None:
    """A long call of COLMAP's in a thread, which ends early when the job is cancelled.

    Args:
        call: Takes a cancellation token of COLMAP's; what it raises is raised here.
        report: Asked ten times a second whether the job was cancelled.

    Raises:
        Cancelled.
    """
    token, errors = pycolmap.CancellationToken(), []

    def work() -> None:
        try:
            call(token)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="colmap", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(ASKED_EVERY)
        if report.is_cancelled():
            token.cancel()
            thread.join()
            raise Cancelled()
    if errors:
        raise errors[0]


def extract_features(
    database: Path, images: Path, names: list[str], camera: int, most: int, report: Reporter, masks: Path | None = None
) -> None:
    """Find the features of pictures that were taken with one camera.

    Args:
        database: Holds the camera, and gets the features.
        images: The pictures' folder.
        names: Of the pictures.
        camera: The number of their camera in the database.
        most: Features of a picture.
        report: Asked whether the job was cancelled.
        masks: The folder of the pictures' masks, where they have any.

    Raises:
        In2nError: As `opened_database`.
        Cancelled.
    """
    reader = pycolmap.ImageReaderOptions(existing_camera_id=camera)
    if masks is not None:
        reader.mask_path = masks
    options = pycolmap.FeatureExtractionOptions(num_threads=THREADS, use_gpu=False)
    options.sift.max_num_features = most
    how = database, images, names, pycolmap.CameraMode.SINGLE, reader, options
    with _said_why(database):
        run_colmap(lambda token: pycolmap.extract_features(*how, cancellation_token=token), report)


def match_pairs(database: Path, pairs: Sequence[tuple[str, str]], folder: Path, report: Reporter) -> None:
    """Compare the features of pairs of pictures.

    Args:
        database: Holds the features, and gets what matches.
        pairs: Names of pictures.
        folder: For a list of them.
        report: Told of the pairs, and asked whether the job was cancelled.

    Raises:
        In2nError: As `opened_database`.
        Cancelled: What was compared is kept.
    """
    listed, verifying = folder / "pairs.txt", pycolmap.TwoViewGeometryOptions()
    verifying.ransac.random_seed = 0  # of every pair, whichever thread takes it and whatever was compared before
    for first in range(0, len(pairs), PAIRS_AT_ONCE):
        report.progress(first, len(pairs), "pairs", "Comparing photos")
        some = pairs[first : first + PAIRS_AT_ONCE]
        listed.write_text("".join(f"{one} {other}\n" for one, other in some), encoding="utf-8")
        matching = pycolmap.FeatureMatchingOptions(num_threads=THREADS, use_gpu=False)
        how = database, matching, pycolmap.ImportedPairingOptions(match_list_path=listed), verifying
        with _said_why(database):
            run_colmap(lambda token, how=how: pycolmap.match_image_pairs(*how, cancellation_token=token), report)
