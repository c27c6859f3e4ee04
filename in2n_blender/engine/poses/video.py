"""Sharp, evenly spaced frames of a video, as photos.

The video is cut into as many equal stretches as frames are wanted; of each the sharpest frame of a few is kept.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from PIL import Image

from ...scene.errors import In2nError
from ...scene.names import is_plain
from ...scene.reporting import Reporter
from ...workspace.files import atomic_path, read_json, write_json
from ..photos import MAXIMUM_PIXELS
from ..pictures import write_jpeg

TRIED = 5  # frames of a stretch that are looked at, at most
SHARPNESS_SIDE = 480  # pixels on the longer side, at which sharpness is measured
TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
LIST = "frames.json"
# A file of any name may be a playlist, which FFmpeg would follow to other files and to the network.
FORMATS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,gif,h264,hevc,m4v,av1,ivf"
OWN_FILE_ALONE = {"protocol_whitelist": "file", "format_whitelist": FORMATS}


def extract_frames(video: Path, count: int, folder: Path, report: Reporter) -> tuple[Path, ...]:
    """Write frames of a video into a folder; where some are there, go on behind them.

    Args:
        video: Its file.
        count: How many frames are wanted; a shorter video gives all that it has.
        folder: For the frames: 000000.jpg and so on, and a list of them.
        report: Told of every frame.

    Returns:
        The frames' files, in order.

    Raises:
        In2nError: "bad_video", "disk_full", "cannot_write".
        Cancelled: Between two frames; those that are written stay.
    """
    done = _listed(folder)
    if done.get("complete"):
        return tuple(folder / name for name in done["frames"])
    names = [name for name in done.get("frames", ()) if (folder / name).is_file()]
    numbers = list(done.get("numbers", ()))[: len(names)]
    try:
        with av.open(f"file:{video}", options=OWN_FILE_ALONE) as opened:
            stream = _stream(opened, video)
            total = _frame_count(stream)
            stretch = max(total / count, 1.0)
            wanted = min(count, total)
            for number, index, best in _sharpest(opened, stream, stretch, wanted, len(names), report):
                name = f"{number:06}.jpg"
                with atomic_path(folder / name) as temporary:
                    write_jpeg(best, temporary, quality=95)
                names.append(name)
                numbers.append(index)
                write_json(folder / LIST, {"frames": names, "numbers": numbers, "complete": False}, durable=False)
                report.progress(len(names), wanted, "frames", "Choosing frames of the video")
    except (av.FFmpegError, ValueError) as error:
        raise _bad(video, str(error)) from None
    if not names:
        raise _bad(video, "it holds no picture")
    write_json(folder / LIST, {"frames": names, "numbers": numbers, "complete": True})
    return tuple(folder / name for name in names)


def frame_numbers(folder: Path) -> dict[int, Path]:
    """Which frames of the video were chosen.

    Args:
        folder: As `extract_frames` filled it.

    Returns:
        The frame's number in the video, from 0 -> its file.
    """
    listed = _listed(folder)
    numbers = listed.get("numbers")
    pairs = zip(numbers if isinstance(numbers, list) else (), listed.get("frames", ()))
    return {number: folder / name for number, name in pairs if isinstance(number, int)}


def sharpness(picture: Image.Image) -> float:
    """How sharp a picture is: the variance of its Laplacian (Pech-Pacheco et al. 2000), at a fixed size.

    Args:
        picture: Of any size.

    Returns:
        0 for a plain picture; more is sharper.
    """
    scale = SHARPNESS_SIDE / max(picture.size)
    size = tuple(max(3, round(side * scale)) for side in picture.size)
    grey = np.asarray(picture.convert("L").resize(size, Image.Resampling.BOX), np.float32)
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    return float(laplacian.var())


def _sharpest(opened, stream, stretch: float, wanted: int, first: int, report: Reporter):
    """Yields (number, number of the frame, picture) of every stretch from `first` on. Sharpness is compared within a
    stretch alone."""
    step = max(1, int(stretch // TRIED))
    number, best, chosen, sharp = 0, None, 0, -1.0
    for index, frame in enumerate(opened.decode(stream)):
        report.check()
        current = min(int(index / stretch), wanted - 1)
        if current != number:
            if best is not None:
                yield number, chosen, best
            number, best, sharp = current, None, -1.0
        if current < first or index % step:
            continue
        picture = _upright(frame)
        value = sharpness(picture)
        if value > sharp:
            best, chosen, sharp = picture, index, value
    if best is not None:
        yield number, chosen, best


def _upright(frame) -> Image.Image:
    picture = frame.to_image()
    turn = TURNS.get(round(getattr(frame, "rotation", 0) or 0) % 360)
    return picture.transpose(turn) if turn is not None else picture


def _stream(opened, video: Path):
    if not opened.streams.video:
        raise _bad(video, "it holds no picture")
    stream = opened.streams.video[0]
    if stream.codec_context is None:
        raise _bad(video, "what it is encoded with is not known")
    if stream.width * stream.height > MAXIMUM_PIXELS:
        raise _bad(video, f"{stream.width} x {stream.height} pixels are too many")
    stream.codec_context.options = {"max_pixels": str(MAXIMUM_PIXELS)}  # of frames that are larger than it says
    stream.thread_type = "AUTO"
    return stream


def _frame_count(stream) -> int:
    """As the file says, else as its length and rate say."""
    if stream.frames:
        return stream.frames
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    length = float(stream.duration * stream.time_base) if stream.duration else 0.0
    if not length and stream.container.duration:
        length = stream.container.duration / av.time_base
    return max(1, round(length * rate))


def _listed(folder: Path) -> dict:
    try:
        listed = read_json(folder / LIST)
    except In2nError:
        return {}
    names = listed.get("frames") if isinstance(listed, dict) else None
    return listed if isinstance(names, list) and all(map(is_plain, names)) else {}


def _bad(video: Path, reason: str) -> In2nError:
    return In2nError("bad_video", f"{video} cannot be read as a video: {reason}.", "Convert it to MP4 with H.264.")
