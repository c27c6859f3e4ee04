"""Pictures of strangers: their sizes are known before they are decoded."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from in2n_blender.engine.importing import normalise_capture
from in2n_blender.engine.photos import MAXIMUM_PIXELS, UnreadablePhoto, decode
from in2n_blender.engine.pictures import MOST_PIXELS, opened, provenance_of, read_srgb
from in2n_blender.engine.poses import video
from in2n_blender.link.requests import ImportCapture
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.reporting import Reporter
from tests.scene.captures import write_transforms

ROOT = Path(__file__).resolve().parents[2]


def bomb(path, width, height):
    """A PNG that says a size and is a few bytes long: decoding it would need memory for all of it."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(100_000)))
        + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("width, height", [(13_300, 13_300), (60_000, 60_000), (2**31 - 1, 1), (10_300, 10_300)])
def test_a_photo_larger_than_any_camera_takes_is_refused_before_it_is_decoded(tmp_path, monkeypatch, width, height):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: pytest.fail("it was decoded"))
    photo = bomb(tmp_path / "a.png", width, height)
    with pytest.raises(UnreadablePhoto):
        decode(photo)
    with pytest.raises((ValueError, Image.DecompressionBombError)):
        read_srgb(photo)
    assert provenance_of(photo) is None


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_chunk_that_says_it_is_longer_than_its_file_takes_no_memory(tmp_path):
    """Reads it in a process that may take 256 MiB more than it has."""
    Image.new("RGB", (12, 8)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    at = whole.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(whole[:at] + b"\x7f\xff\xff\xff" + whole[at + 4 :])
    code = (
        "import resource, sys; from pathlib import Path; from in2n_blender.engine.photos import decode\n"
        "limit = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize() + (1 << 28)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "try: print(decode(Path(sys.argv[1])).shape)\n"
        "except Exception as error: print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.png")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() in ("(8, 12, 3)", "UnreadablePhoto"), done.stderr


def test_a_photo_of_another_size_than_its_capture_says_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(UnreadablePhoto, match="instead of 12 x 8"):
        decode(bomb(tmp_path / "a.png", 8_000, 8_000), size=(12, 8))


def test_an_import_names_such_photos_and_goes_on(tmp_path):
    write_transforms(tmp_path / "c")
    bomb(tmp_path / "c/images/002.png", 13_320, 8_880)
    said = []
    capture = normalise_capture(
        ImportCapture(workspace=str(tmp_path / "w"), source=str(tmp_path / "c")), Reporter(said.append)
    )
    assert len(capture.views) == 4 and capture.missing == ("002",) and any("002" in str(text) for text in said)


def test_the_limits_let_a_medium_format_camera_pass():
    assert MAXIMUM_PIXELS >= 102 * 10**6 and MOST_PIXELS >= 4096 * 4096


PEAK = """
import resource, sys
from pathlib import Path
from PIL import Image
from in2n_blender.engine.photos import decode, forget_lenses, normalise_photo
from in2n_blender.scene.camera import Intrinsics
from in2n_blender.scene.lens import Lens, pinhole_for
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
width, height = map(int, sys.argv[2:4])
lens = Lens("opencv", Intrinsics(width, height, width, width, width / 2, height / 2), (0.01,))
photo = decode(Path(sys.argv[1]))
made = normalise_photo(photo, lens, pinhole_for(lens).fitted(1024)[0], 1024)
print(made.shape, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures as Linux does")
def test_a_large_photo_is_undistorted_within_bounds(tmp_path):
    """Of 24 million pixels: those of 100 million, which take half a minute, are for the benchmark."""
    Image.fromarray(np.zeros((4000, 6000, 3), np.uint8)).save(tmp_path / "a.png")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "a.png"), "6000", "4000"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 900, done.stdout


@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {}\n"])
def test_a_playlist_that_is_called_a_video_is_not_followed(tmp_path, text):
    frames = [Image.fromarray(np.full((32, 32, 3), value, np.uint8)) for value in (0, 90, 200)]
    frames[0].save(tmp_path / "other.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "a.mp4").write_text(text.format(tmp_path / "other.gif"))
    with pytest.raises(In2nError) as refused:
        video.extract_frames(tmp_path / "a.mp4", 3, tmp_path / "frames", Reporter())
    assert refused.value.code == "bad_video"
    assert len(video.extract_frames(tmp_path / "other.gif", 3, tmp_path / "frames", Reporter())) >= 1


def test_a_list_of_frames_cannot_name_files_elsewhere(tmp_path):
    (tmp_path / "frames").mkdir()
    for listed in ('{"frames": ["../secret.jpg"], "complete": true}', "[1]", '{"frames": [5], "complete": true}'):
        (tmp_path / "frames" / "frames.json").write_text(listed)
        (tmp_path / "a.mp4").write_bytes(b"no video")
        with pytest.raises(In2nError, match="cannot be read as a video"):
            video.extract_frames(tmp_path / "a.mp4", 3, tmp_path / "frames", Reporter())


def test_a_picture_is_closed_again(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    with opened(tmp_path / "a.png") as picture:
        picture.load()
    (tmp_path / "a.png").unlink()
