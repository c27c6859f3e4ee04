"""Photos or a video without camera poses: what of them a folder or a file holds. Their cameras have to be found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import In2nError
from .readers import record3d
from .readers.listing import natural_order

PHOTOS = frozenset((".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".heic", ".heif", ".avif"))
VIDEOS = frozenset((".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm", ".mts", ".3gp"))
USUAL_FOLDERS = ("images", "photos", "input", "frames")
FEWEST = 3


@dataclass(frozen=True)
class BarePhotos:
    """What was found.

    Attributes:
        source: The folder or the video that was asked for.
        folder: Under which the photos lie.
        photos: Their files, in natural order; none of a video.
        video: Its file; None where there are photos.
    """

    source: Path
    folder: Path
    photos: tuple[Path, ...] = ()
    video: Path | None = None


def find(path: Path | str) -> BarePhotos | None:
    """The photos or the video that a path means.

    Args:
        path: A video, one of the photos, or a folder that holds photos (itself, or in a folder such as images/, or in
            one folder for each camera) or one video.

    Returns:
        What was found; None where there is nothing of the kind.

    Raises:
        In2nError: "several_videos" for a folder with several videos and no photos.
    """
    path = Path(path).expanduser()
    if recorded := record3d.video_of(path):  # beside it are depth maps, which are no photos
        return BarePhotos(path, recorded.parent, video=recorded)
    if path.is_file():
        if path.suffix.lower() in VIDEOS:
            return BarePhotos(path, path.parent, video=path)
        return find(path.parent) if path.suffix.lower() in PHOTOS else None
    if not path.is_dir():
        return None
    for folder in (path, *(path / name for name in USUAL_FOLDERS)):
        photos = _photos_in(folder)
        if photos:
            return BarePhotos(path, folder, photos)
    videos = sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEOS and file.is_file())
    if len(videos) > 1:
        raise In2nError(
            "several_videos", f"{path} holds {len(videos)} videos and no photos.", "Choose one of the videos."
        )
    return BarePhotos(path, path, video=videos[0]) if videos else None


def _photos_in(folder: Path) -> tuple[Path, ...]:
    """Those of the folder, or where it has none, those of its folders: of one camera each."""
    own = _files(folder)
    if own:
        return own
    folders = sorted(f for f in folder.iterdir() if f.is_dir()) if folder.is_dir() else []
    inner = [f for f in folders if not f.name.startswith((".", "mask")) and f.name not in USUAL_FOLDERS]
    return tuple(photo for each in inner for photo in _files(each))


def _files(folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        return ()
    found = [
        f for f in folder.iterdir() if f.suffix.lower() in PHOTOS and not f.name.startswith((".", "dynamic_mask_"))
    ]
    return tuple(sorted((f for f in found if f.is_file()), key=lambda f: natural_order(f.name)))
