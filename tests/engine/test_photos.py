"""Photos into a workspace: against OpenCV and a known scene; nothing half-written."""

import errno
import json
import threading
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from in2n_blender.engine import photos
from in2n_blender.engine.photos import UnreadablePhoto, decode, load_images, normalise_capture, normalise_photo
from in2n_blender.link.requests import ImportCapture
from in2n_blender.scene.camera import Intrinsics
from in2n_blender.scene.capture import PinholeCapture
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.lens import Lens, pinhole_for, undistort
from in2n_blender.scene.reporting import Progress, Reporter
from in2n_blender.workspace.layout import Workspace
from tests.scene.captures import ring, write_transforms

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
    seen = pattern(undistort(lens, centres(k.width, k.height)))
    return np.round(np.nan_to_num(seen, nan=0.0)).astype(np.uint8)


def seen_by(k):
    pixels = centres(k.width, k.height)
    return pattern((pixels - [k.cx, k.cy]) / [k.fx, k.fy])


@pytest.mark.parametrize("side", [1000, 160, 101])
@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
def test_the_normalised_photo_is_what_its_camera_sees(lens, side):
    target, _ = pinhole_for(lens).fitted(side)
    image = normalise_photo(photograph(lens), lens, target, side)
    assert image.shape == (target.height, target.width, 3) and target.fx == target.fy
    error = np.abs(image - seen_by(target))
    # at the border the photo's outermost half pixel is repeated, and scaling has no neighbours there
    assert error.max() < 6 and error[3:-3, 3:-3].max() < 1.6 and error.mean() < 0.4


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
def test_undistortion_is_opencvs(lens):
    full = pinhole_for(lens)
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8)
    photo = cv2.GaussianBlur(noise, (0, 0), 2)
    photo = ((photo.astype(np.float32) - 128) * 3 + 128).clip(0, 255).astype(np.uint8)
    matrix = lambda k: np.array([[k.fx, 0, k.cx - 0.5], [0, k.fy, k.cy - 0.5], [0, 0, 1]])  # noqa: E731
    undistort_map = (
        cv2.fisheye.initUndistortRectifyMap if lens.model == "opencv_fisheye" else cv2.initUndistortRectifyMap
    )
    distortion = np.array(lens.distortion or (0.0,) * 4)
    maps = undistort_map(matrix(lens.intrinsics), distortion, np.eye(3), matrix(full), (320, 240), cv2.CV_32FC1)
    expected = cv2.remap(photo, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    difference = np.abs(normalise_photo(photo, lens, full, 1000).astype(int) - expected)
    assert difference.max() <= 3 and difference.mean() < 0.3  # OpenCV rounds the map to 1/32 of a pixel


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


def test_decode_refuses_broken_photos(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    for content in (b"", b"text", data[: len(data) // 2]):
        (tmp_path / "b.jpg").write_bytes(content)
        with pytest.raises(UnreadablePhoto):
            decode(tmp_path / "b.jpg")


# -- whole imports

FILE = {"size": (48, 32), "fl_x": 40.0, "fl_y": 41.0, "cx": 23.0, "cy": 17.0, "k1": -0.1, "k2": 0.02}


@pytest.fixture
def source(tmp_path):
    write_transforms(tmp_path / "dog", ring(8), **FILE)
    return tmp_path / "dog"


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_import(source, tmp_path):
    events = []
    (source / "images/002.png").unlink()
    workspace = Workspace(tmp_path / "work")
    capture = normalise_capture(
        ImportCapture(workspace=str(workspace.root), source=str(source), preset="draft", hold_out_every=4),
        Reporter(events.append),
    )
    assert set(contents(workspace.root)) == {"capture.json"} | {f"images/{v.name}.png" for v in capture.views}
    assert PinholeCapture.load(workspace.capture_json).to_json() == capture.to_json()
    assert (
        capture.missing == ("002",) and capture.preset == "draft" and capture.source == str(source / "transforms.json")
    )
    assert [v.name for v in capture.held_out_views] == ["003", "007"]
    progress = [e for e in events if isinstance(e, Progress)]
    assert [p.done for p in progress] == sorted(p.done for p in progress) and progress[-1].done == progress[
        -1
    ].total == 7
    assert any("1 of 8 photos" in e for e in events if isinstance(e, str))
    images = load_images(workspace, capture)
    lens = Lens("brown", Intrinsics(48, 32, 40.0, 41.0, 23.0, 17.0), (-0.1, 0.02, 0, 0, 0, 0))
    for view, image in zip(capture.views, images):
        k = view.camera.intrinsics
        assert image.dtype == np.float32 and image.shape == (k.height, k.width, 3)
        expected = normalise_photo(decode(source / f"images/{view.name}.png"), lens, k, 48)
        np.testing.assert_allclose(image, expected / np.float32(255))


def test_transparency_and_a_source_inside_the_workspace(tmp_path):
    workspace = Workspace(tmp_path / "work")
    write_transforms(workspace.root / "capture", ring(3), camera_model="PINHOLE", size=(10, 10))
    for i in range(3):
        Image.new("RGBA", (10, 10), (10, 20, 30, 128)).save(workspace.root / f"capture/images/00{i}.png")
    capture = normalise_capture(
        ImportCapture(workspace=str(workspace.root), source=str(workspace.root / "capture")), Reporter()
    )
    assert capture.source == "capture/transforms.json"
    for image in load_images(workspace, capture):
        np.testing.assert_allclose(
            image, np.broadcast_to(np.array([10, 20, 30, 128]) / np.float32(255), (10, 10, 4)), rtol=1e-6
        )


def test_exif_rotation(tmp_path):
    write_transforms(tmp_path / "dog", ring(3), photos=False, w=8, h=12, fl_y=None)
    upright = np.random.default_rng(0).integers(0, 256, (12, 8, 3)).astype(np.uint8)
    (tmp_path / "dog/images").mkdir()
    for i, orientation in enumerate((1, 6, 8)):
        stored = np.rot90(upright, {1: 0, 6: 1, 8: -1}[orientation])
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"dog/images/00{i}.png", exif=exif)
    workspace = Workspace(tmp_path / "work")
    capture = normalise_capture(ImportCapture(workspace=str(workspace.root), source=str(tmp_path / "dog")), Reporter())
    for image in load_images(workspace, capture):
        np.testing.assert_array_equal(np.round(image * 255).astype(np.uint8), upright)


def test_an_unreadable_photo_is_named_and_left_out(source, tmp_path):
    whole = (source / "images/001.png").read_bytes()
    (source / "images/001.png").write_bytes(whole[: len(whole) // 2])  # its header is intact
    (source / "images/002.png").write_bytes(b"no image")
    log = []
    workspace = Workspace(tmp_path / "work")
    capture = normalise_capture(
        ImportCapture(workspace=str(workspace.root), source=str(source)),
        Reporter(lambda e: log.append(e) if isinstance(e, str) else None),
    )
    assert sorted(capture.missing) == ["001", "002"] and len(capture.views) == 6
    assert not (workspace.images / "001.png").exists()
    assert any("001" in line for line in log)


def test_two_readable_photos_are_too_few_and_leave_nothing(source, tmp_path):
    for i in range(2, 8):
        whole = (source / f"images/00{i}.png").read_bytes()
        (source / f"images/00{i}.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(In2nError, match="Only two of the 8 photos") as caught:
        normalise_capture(ImportCapture(workspace=str(tmp_path / "work"), source=str(source)), Reporter())
    assert caught.value.code == "too_few_photos"
    assert not (tmp_path / "work").exists()


def test_an_unknown_preset(source, tmp_path):
    with pytest.raises(In2nError) as caught:
        normalise_capture(
            ImportCapture(workspace=str(tmp_path / "work"), source=str(source), preset="huge"), Reporter()
        )
    assert caught.value.code == "unknown_preset" and not (tmp_path / "work").exists()


def import_then(source, workspace):
    normalise_capture(ImportCapture(workspace=str(workspace.root), source=str(source)), Reporter())
    return contents(workspace.root)


def test_importing_again_replaces_everything(source, tmp_path):
    workspace = Workspace(tmp_path / "work")
    before = import_then(source, workspace)
    write_transforms(tmp_path / "cat", ring(4), size=(20, 20))
    capture = normalise_capture(ImportCapture(workspace=str(workspace.root), source=str(tmp_path / "cat")), Reporter())
    after = contents(workspace.root)
    assert len(after) == 5 < len(before) and capture.name == "cat"
    assert [p.name for p in workspace.root.iterdir() if p.name.startswith(".")] == []


def test_a_cancelled_import_keeps_the_earlier_one(source, tmp_path):
    workspace = Workspace(tmp_path / "work")
    before = import_then(source, workspace)
    seen = []
    with pytest.raises(Cancelled):
        normalise_capture(
            ImportCapture(workspace=str(workspace.root), source=str(source), preset="draft"),
            Reporter(seen.append, lambda: any(isinstance(e, Progress) and e.done for e in seen)),
        )
    assert contents(workspace.root) == before and len(list(workspace.root.iterdir())) == 2


def test_cancelling_stops_in_the_middle_of_a_photo(source, tmp_path, monkeypatch):
    """Every step of the undistortion asks; the import ends without finishing the photos it is at."""
    started, finished = threading.Event(), []

    def endless(photo, lens, target, side, check):
        started.set()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            check()
            time.sleep(0.01)
        finished.append(True)

    monkeypatch.setattr(photos, "normalise_photo", endless)
    with pytest.raises(Cancelled):
        normalise_capture(
            ImportCapture(workspace=str(tmp_path / "work"), source=str(source)), Reporter(cancelled=started.is_set)
        )
    assert not finished and not (tmp_path / "work").exists()


@pytest.mark.parametrize("code, number", [("disk_full", errno.ENOSPC), ("cannot_write", errno.EACCES)])
def test_a_full_disk_keeps_the_earlier_import(source, tmp_path, monkeypatch, code, number):
    workspace = Workspace(tmp_path / "work")
    before = import_then(source, workspace)
    save, calls = Image.Image.save, []

    def fails_later(self, *args, **kwargs):
        calls.append(1)
        if len(calls) > 3:
            raise OSError(number, "as the system says")
        return save(self, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", fails_later)
    with pytest.raises(In2nError) as caught:
        normalise_capture(ImportCapture(workspace=str(workspace.root), source=str(source), preset="draft"), Reporter())
    assert caught.value.code == code
    assert contents(workspace.root) == before and len(list(workspace.root.iterdir())) == 2


@pytest.mark.parametrize("step", ["staged", "old images aside", "new images in place"])
def test_an_import_killed_at_any_step_is_cleared_up_by_the_next(source, tmp_path, step):
    workspace = Workspace(tmp_path / "work")
    before = import_then(source, workspace)
    staging, replaced = workspace.root / ".importing-1", workspace.root / ".replaced-.importing-1"
    (staging / "images").mkdir(parents=True)
    (staging / "images/new.png").write_bytes(b"new")
    (staging / "capture.json").write_text(json.dumps("new"))
    if step != "staged":
        workspace.images.rename(replaced)
    if step == "new images in place":
        (staging / "images").rename(workspace.images)
    photos._settle(workspace)
    expected = {"capture.json": b'"new"', "images/new.png": b"new"} if step == "new images in place" else before
    assert contents(workspace.root) == expected and len(list(workspace.root.iterdir())) == 2


def test_images_that_do_not_fit_their_capture(source, tmp_path):
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
