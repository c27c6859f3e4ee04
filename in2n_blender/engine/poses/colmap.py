"""COLMAP as the searches call it: quiet, on a few threads, and ended early when the job is cancelled."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pycolmap

from ...scene.errors import Cancelled
from ...scene.reporting import Reporter

THREADS = min(os.cpu_count() or 1, 8)
ASKED_EVERY = 0.1  # seconds, whether the job was cancelled
PAIRS_AT_ONCE = 24
pycolmap.logging.minloglevel = pycolmap.logging.ERROR.value


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
        Cancelled.
    """
    reader = pycolmap.ImageReaderOptions(existing_camera_id=camera)
    if masks is not None:
        reader.mask_path = masks
    options = pycolmap.FeatureExtractionOptions(num_threads=THREADS, use_gpu=False)
    options.sift.max_num_features = most
    how = database, images, names, pycolmap.CameraMode.SINGLE, reader, options
    run_colmap(lambda token: pycolmap.extract_features(*how, cancellation_token=token), report)


def match_pairs(database: Path, pairs: Sequence[tuple[str, str]], folder: Path, report: Reporter) -> None:
    """Compare the features of pairs of pictures.

    Args:
        database: Holds the features, and gets what matches.
        pairs: Names of pictures.
        folder: For a list of them.
        report: Told of the pairs, and asked whether the job was cancelled.

    Raises:
        Cancelled: What was compared is kept.
    """
    listed = folder / "pairs.txt"
    for first in range(0, len(pairs), PAIRS_AT_ONCE):
        report.progress(first, len(pairs), "pairs", "Comparing photos")
        some = pairs[first : first + PAIRS_AT_ONCE]
        listed.write_text("".join(f"{one} {other}\n" for one, other in some), encoding="utf-8")
        matching = pycolmap.FeatureMatchingOptions(num_threads=THREADS, use_gpu=False)
        how = database, matching, pycolmap.ImportedPairingOptions(match_list_path=listed)
        run_colmap(lambda token, how=how: pycolmap.match_image_pairs(*how, cancellation_token=token), report)
