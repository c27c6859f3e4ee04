"""Against PIL, on files that PIL writes."""

import pytest
from PIL import Image, ImageOps

from in2n_blender.scene.photo_header import foreign_format, read_image_header
from tests.scene.captures import png_bytes, write_png


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_size_and_orientation_agree_with_pil(tmp_path, suffix, orientation):
    path = tmp_path / f"photo{suffix}"
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
        exif[0x010F] = "A camera maker with a long name"
    Image.new("RGB", (31, 17)).save(path, exif=exif)
    header = read_image_header(path)
    assert (header.width, header.height, header.orientation) == (31, 17, orientation or 1)
    with Image.open(path) as image:
        assert header.upright_size == ImageOps.exif_transpose(image).size


def test_progressive_jpeg_with_a_thumbnail(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(
        tmp_path / "p.jpg", exif=exif, progressive=True, icc_profile=b"x" * 70000, comment=b"hello"
    )
    header = read_image_header(tmp_path / "p.jpg")
    assert (header.width, header.height, header.orientation) == (40, 30, 6)


def test_png_with_orientation(tmp_path):
    write_png(tmp_path / "p.png", 9, 5, orientation=8)
    assert read_image_header(tmp_path / "p.png").upright_size == (5, 9)


def test_another_format_is_not_an_error(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "p.ppm")
    assert read_image_header(tmp_path / "p.ppm") is None and foreign_format(tmp_path / "p.ppm") is None


@pytest.mark.parametrize(
    "suffix, options", [("webp", {}), ("webp", {"lossless": True}), ("bmp", {}), ("gif", {}), ("tga", None)]
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_formats_without_exif(tmp_path, suffix, options, mode):
    if options is None or (suffix == "gif" and mode == "RGBA"):
        options, suffix = {}, "png"
    Image.new(mode, (301, 17), (200, 10, 20, 90)[: len(mode)]).save(tmp_path / f"p.{suffix}", **options)
    header = read_image_header(tmp_path / f"p.{suffix}")
    assert (header.width, header.height, header.orientation) == (301, 17, 1)


def test_a_camera_raw_file_is_not_its_thumbnail(tmp_path):
    Image.new("RGB", (16, 12)).save(tmp_path / "p.tif")
    (tmp_path / "p.tif").rename(tmp_path / "p.dng")
    assert read_image_header(tmp_path / "p.dng") is None and foreign_format(tmp_path / "p.dng") == "Camera raw"


@pytest.mark.parametrize(
    "data", [b"", png_bytes(5, 5)[:20], b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe0\0\x10", b"II*\0\xff\xff\xff\xff"]
)
def test_broken_files(tmp_path, data):
    (tmp_path / "p").write_bytes(data)
    with pytest.raises(ValueError):
        read_image_header(tmp_path / "p")


def test_broken_exif_is_ignored(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "p.jpg", exif=b"Exif\0\0MM\0*\0\0\xff\xff")
    assert read_image_header(tmp_path / "p.jpg").orientation == 1
