"""Photos into arrays: against OpenCV and a known scene; what cannot be read is named."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from in2n_blender.engine import photos
from in2n_blender.engine.importing import normalise_capture
from in2n_blender.engine.photos import UnreadablePhoto, decode, load_images, normalise_photo
from in2n_blender.link.requests import ImportCapture
from in2n_blender.scene.camera import Intrinsics
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.lens import Lens, pinhole_for
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.layout import Workspace
from tests.scene.captures import ring, write_transforms
from tests.scene.opencv_lens import opencv_undistort

SHAPE = Intrinsics(320, 240, 250.0, 260.0, 155.0, 125.0)
LENSES = {
    "barrel": Lens("opencv", SHAPE, (-0.28, 0.11, 1e-3, -7e-4, -0.02)),
    "fisheye": Lens("opencv_fisheye", Intrinsics(320, 240, 180.0, 184.0, 164.0, 118.0), (-0.03, 0.01, -0.004, 0.001)),
    "unequal focal lengths": Lens("pinhole", SHAPE),
}


def pattern(directions):
    """(..., 3) in [0, 255]: what is seen in the directions at depth 1, smooth at the scale of a pixel."""
    x, y = directions[..., 0], directions[..., 1]
    waves = np.stack([np.sin(9 * x + 2), np.cos(11 * y), np.sin(7 * x - 8 * y)], -1)
    return 128 + 100 * waves


def centres(width, height):
    return np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1)


def photograph(lens):
    k = lens.intrinsics
    seen = pattern(opencv_undistort(lens, centres(k.width, k.height)))
    return np.round(np.nan_to_num(seen, nan=0.0)).astype(np.uint8)


def seen_by(k):
    pixels = centres(k.width, k.height)
    return pattern((pixels - [k.cx, k.cy]) / [k.fx, k.fy])


@pytest.mark.parametrize("side", [1000, 160, 101, 50])
@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
def test_the_normalised_photo_is_what_its_camera_sees(lens, side):
    target, _ = pinhole_for(lens).fitted(side)
    image = normalise_photo(photograph(lens), lens, target, side)
    assert image.shape == (target.height, target.width, 3) and target.fx == target.fy
    error = np.abs(image - seen_by(target))
    # at the border the photo's outermost half pixel is repeated, and scaling has no neighbours there
    assert error.max() < 6 and error[3:-3, 3:-3].max() < 1.6 and error.mean() < 0.45


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
def test_undistortion_is_opencvs(lens):
    full = pinhole_for(lens)
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8)
    photo = cv2.GaussianBlur(noise, (0, 0), 2)
    photo = ((photo.astype(np.float32) - 128) * 3 + 128).clip(0, 255).astype(np.uint8)
    matrix = lambda k: np.array([[k.fx, 0, k.cx - 0.5], [0, k.fy, k.cy - 0.5], [0, 0, 1]])
    undistort_map = (
        cv2.fisheye.initUndistortRectifyMap if lens.model == "opencv_fisheye" else cv2.initUndistortRectifyMap
    )
    distortion = np.array(lens.distortion or (0.0,) * 4)
    maps = undistort_map(matrix(lens.intrinsics), distortion, np.eye(3), matrix(full), (320, 240), cv2.CV_32FC1)
    expected = cv2.remap(photo, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    difference = np.abs(normalise_photo(photo, lens, full, 1000).astype(int) - expected)
    assert difference.max() <= 3 and difference.mean() < 0.3  # OpenCV rounds the map to 1/32 of a pixel


def bomb(path, side):
    """A valid PNG of side x side black pixels in a few kilobytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = bytes(1 + (side + 7) // 8)
    packed = zlib.compressobj(9)
    data = b"".join(packed.compress(row) for _ in range(side)) + packed.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    bomb(tmp_path / "a.png", 10_500)  # what PIL itself lets through
    assert (tmp_path / "a.png").stat().st_size < 100_000
    with pytest.raises(UnreadablePhoto, match="10500 x 10500 pixels"):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
@pytest.mark.parametrize("channels", [3, 4])
def test_a_large_photo_is_the_same_channel_by_channel(lens, channels, monkeypatch):
    photo = np.random.default_rng(0).integers(0, 256, (240, 320, channels)).astype(np.uint8)
    target, _ = pinhole_for(lens).fitted(100)
    at_once = normalise_photo(photo, lens, target, 100)
    monkeypatch.setattr(photos, "HUGE_PIXELS", 1000)
    np.testing.assert_array_equal(normalise_photo(photo, lens, target, 100), at_once)


@pytest.mark.parametrize("lens", [*LENSES.values(), Lens("pinhole", Intrinsics(320, 240, 250.0, 250.0, 155.0, 125.0))])
def test_a_much_larger_photo_is_averaged_over_blocks_first_and_stays_where_it_is(lens, monkeypatch):
    photo, (target, _) = photograph(lens), pinhole_for(lens).fitted(40)
    quick = normalise_photo(photo, lens, target, 40).astype(int)
    monkeypatch.setattr(photos, "OVERSAMPLED", 100)
    whole = normalise_photo(photo, lens, target, 40).astype(int)
    assert np.abs(quick - whole).max() <= 3 and not np.array_equal(quick, whole)
    assert np.abs(quick - whole)[2:-2, 2:-2].max() <= 1


def test_a_square_pinhole_photo_is_copied():
    lens = Lens("pinhole", Intrinsics(30, 20, 25.0, 25.0, 14.0, 11.0))
    photo = np.random.default_rng(0).integers(0, 256, (20, 30, 4)).astype(np.uint8)
    np.testing.assert_array_equal(normalise_photo(photo, lens, lens.intrinsics, 512), photo)


def test_scaling_down_does_not_alias():
    lens = Lens("pinhole", Intrinsics(300, 200, 250.0, 250.0, 150.0, 100.0))
    stripes = np.zeros((200, 300, 3), np.uint8)
    stripes[:, ::2] = 255
    target, _ = lens.intrinsics.fitted(75)
    image = normalise_photo(stripes, lens, target, 75)
    assert np.abs(image.astype(float) - 127.5).max() < 12


def test_what_hides_behind_transparency_does_not_show():
    lens = Lens("opencv", Intrinsics(200, 200, 180.0, 180.0, 100.0, 100.0), (-0.2,))
    photo = np.zeros((200, 200, 4), np.uint8)
    photo[..., 1] = 255  # green behind the transparent half
    photo[:, :103] = [200, 40, 60, 255]
    target, _ = pinhole_for(lens).fitted(64)
    image = normalise_photo(photo, lens, target, 64)
    visible = image[image[..., 3] > 8][:, :3].astype(int)
    assert np.abs(visible - [200, 40, 60]).max() <= 8
    assert image[32, 5, 3] == 255 and image[32, -5].tolist() == [0, 0, 0, 0]


def test_decode_turns_and_reduces(tmp_path):
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), pixels)
    np.testing.assert_array_equal(decode(tmp_path / "a.png", 6), np.rot90(pixels, -1))
    np.testing.assert_array_equal(decode(tmp_path / "a.png", 8), np.rot90(pixels))
    np.testing.assert_array_equal(decode(tmp_path / "a.png", 3), pixels[::-1, ::-1])
    np.testing.assert_array_equal(decode(tmp_path / "a.png", 5), pixels.transpose(1, 0, 2))
    grey = np.linspace(0, 65535, 24).astype(np.uint16).reshape(4, 6)
    cv2.imwrite(str(tmp_path / "grey16.png"), grey)
    assert np.abs(decode(tmp_path / "grey16.png")[..., 1] - grey / 257).max() <= 0.5
    color = np.random.default_rng(0).integers(0, 65536, (4, 6, 4)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "color16.png"), color)
    assert np.abs(decode(tmp_path / "color16.png") - color[..., [2, 1, 0, 3]] / 257).max() <= 1
    Image.new("LA", (3, 2), (7, 9)).save(tmp_path / "la.png")
    assert decode(tmp_path / "la.png")[0, 0].tolist() == [7, 7, 7, 9]
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "cmyk.jpg")
    assert decode(tmp_path / "cmyk.jpg")[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("stored", range(1, 9))
@pytest.mark.parametrize("form", ["tif", "png", "avif"])
def test_what_the_file_says_of_its_orientation_is_not_looked_at(tmp_path, form, stored):
    """PIL turns TIFF by itself."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24], pixels[16:, :24] = (250, 20, 20), (20, 20, 250)
    exif = Image.Exif()
    exif[0x0112] = stored
    Image.fromarray(pixels).save(tmp_path / f"a.{form}", exif=exif, **({"quality": 95} if form == "avif" else {}))
    for asked in (1, stored):
        Image.fromarray(pixels).save(tmp_path / "plain.png")
        decoded, expected = decode(tmp_path / f"a.{form}", asked), decode(tmp_path / "plain.png", asked)
        assert decoded.shape == expected.shape and np.abs(decoded.astype(int) - expected).mean() < 6


def test_decode_refuses_broken_photos(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    for content in (b"", b"text", data[: len(data) // 2]):
        (tmp_path / "b.jpg").write_bytes(content)
        with pytest.raises(UnreadablePhoto):
            decode(tmp_path / "b.jpg")


def test_images_that_do_not_fit_their_capture(tmp_path):
    source = tmp_path / "dog"
    write_transforms(source, ring(8), size=(48, 32))
    workspace = Workspace(tmp_path / "work")
    capture = normalise_capture(ImportCapture(workspace=str(workspace.root), source=str(source)), Reporter())
    for content, code in (
        (None, "missing_file"),
        (b"broken", "bad_image"),
        (np.zeros((5, 5, 3), np.uint8), "bad_image"),
    ):
        path = workspace.images / "003.png"
        path.unlink(missing_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            Image.fromarray(content).save(path)
        with pytest.raises(In2nError) as caught:
            load_images(workspace, capture)
        assert caught.value.code == code


@pytest.mark.parametrize("scale, kind", [(1, "float32"), (255, "float32"), (65535, "float32"), (65535, "uint16")])
def test_grey_of_any_depth_keeps_its_light(tmp_path, scale, kind):
    grey = np.linspace(0.1, 0.9, 40).reshape(5, 8)
    Image.fromarray((grey * scale).astype(kind)).save(tmp_path / "p.tif")
    photo = decode(tmp_path / "p.tif")
    assert photo.shape == (5, 8, 3)
    np.testing.assert_allclose(photo / 255, np.repeat(grey[..., None], 3, 2), atol=0.004)
