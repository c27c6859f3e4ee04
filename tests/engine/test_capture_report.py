"""The report of a capture: what was done to photos is what it finds; its files; the job."""

import json
import re

import numpy as np
import pytest
from PIL import Image, ImageFilter

from in2n_blender.engine.capture_report import report_capture
from in2n_blender.engine.importing import normalise_capture
from in2n_blender.link.requests import ImportCapture, ReportCapture
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.improvements import blurred, improvements
from in2n_blender.scene.photo_report import CaptureReport, Sightings, report_of
from in2n_blender.scene.photo_signals import measured
from in2n_blender.scene.reporting import Progress, Reporter
from in2n_blender.workspace.layout import Workspace
from in2n_blender.workspace.reported import capture_report
from tests.engine.textured_room import SIDE, WALLS, cameras, picture, textures

COUNT = 14
STOPS = {2: -1.0, 5: 0.7, 9: -0.5}
BLURRED = (4, 11)


def on_the_walls(count=1500, seed=3):
    random = np.random.default_rng(seed)
    walls, at = np.array(WALLS, np.float64), random.uniform(0, SIDE, (count, 2))
    which = random.integers(0, len(walls), count)
    return walls[which, 0] + at[:, :1] * walls[which, 1] + at[:, 1:] * walls[which, 2]


def in_stops(image, stops):
    """An sRGB picture, exposed otherwise."""
    srgb = image / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4) * 2.0**stops
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.clip(linear, 0, 1) ** (1 / 2.4) - 0.055)
    return np.round(srgb * 255).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photos():
    """Of a room, some exposed otherwise and some blurred."""
    walls, found = textures(), []
    for number, camera in enumerate(cameras(COUNT)):
        image = in_stops(picture(camera, walls), STOPS.get(number, 0.0))
        if number in BLURRED:
            image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1.5)))
        found.append(image)
    return found


def room(points=True):
    views = tuple(View(f"photo_{i:02}", f"images/photo_{i:02}.png", camera) for i, camera in enumerate(cameras(COUNT)))
    at = on_the_walls().astype(np.float32) if points else np.zeros((0, 3), np.float32)
    return PinholeCapture("room", "room", "standard", views, at, np.zeros(at.shape, np.uint8), ("photo_99",))


def reported(capture, photos):
    sightings = Sightings(capture)
    return report_of(capture, [measured(image, *sightings.of(i)) for i, image in enumerate(photos)])


def test_exposure_and_blur_that_were_given_are_found(photos):
    found = list(reported(room(), photos).photos.values())
    for number, photo in enumerate(found):
        assert photo.exposure_ev == pytest.approx(STOPS.get(number, 0.0), abs=0.12), number
        assert np.abs(photo.balance_ev).max() < 0.15
        assert blurred(photo) == (number in BLURRED), (number, photo.sharpness)


def test_a_tint_is_found(photos):
    tinted = [image.copy() for image in photos]
    tinted[7][..., 0] = in_stops(photos[7], -0.4)[..., 0]
    balance = list(reported(room(), tinted).photos.values())[7].balance_ev
    assert balance[0] == pytest.approx(-0.4, abs=0.1) and abs(balance[1]) < 0.1


def test_without_points_blur_is_found_and_exposure_is_not_guessed(photos):
    found = reported(room(points=False), photos)
    assert [blurred(photo) for photo in found.photos.values()] == [i in BLURRED for i in range(COUNT)]
    assert all(photo.exposure_ev is None and photo.points == 0 for photo in found.photos.values())
    assert not found.has_points and all(0 < photo.overlap <= 1 for photo in found.photos.values())


def test_masked_and_transparent_pixels_are_not_looked_at(photos):
    """A black box over most of the photo makes it neither darker nor sharper."""
    capture, spoiled = room(), photos[6].copy()
    spoiled[:, 60:] = np.random.default_rng(0).integers(0, 40, spoiled[:, 60:].shape)
    counts = np.zeros(spoiled.shape[:2], bool)
    counts[:, :60] = True
    sightings = Sightings(capture)
    given = [measured(image, *sightings.of(i)) for i, image in enumerate(photos)]
    with_alpha = np.dstack([spoiled, np.where(counts, 255, 0).astype(np.uint8)])
    for image, mask in ((spoiled, counts), (with_alpha, None)):
        given[6] = measured(image, *sightings.of(6), mask)
        photo = report_of(capture, given).photos["photo_06"]
        assert abs(photo.exposure_ev) < 0.15 and 0.75 < photo.sharpness < 1.3


def test_json_and_back(photos):
    found = reported(room(), photos)
    assert CaptureReport.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert found.left_out == ("photo_99",)


@pytest.fixture
def source(photos, tmp_path):
    """The room as a capture of nerfstudio's."""
    folder, frames = tmp_path / "room", []
    (folder / "images").mkdir(parents=True)
    for i, (camera, image) in enumerate(zip(cameras(COUNT), photos)):
        Image.fromarray(image).save(folder / f"images/photo_{i:02}.png")
        pose = camera.camera_to_world.tolist()
        frames.append({"file_path": f"images/photo_{i:02}.png", "transform_matrix": pose})
    k = cameras(1)[0].intrinsics
    lens = {"w": k.width, "h": k.height, "fl_x": k.fx, "fl_y": k.fy, "cx": k.cx, "cy": k.cy}
    rows = "\n".join("{:.5f} {:.5f} {:.5f} 9 9 9".format(*point) for point in on_the_walls())
    kinds = [*(f"float {axis}" for axis in "xyz"), *(f"uchar {colour}" for colour in ("red", "green", "blue"))]
    header = "\n".join(["ply", "format ascii 1.0", "element vertex 1500", *(f"property {k}" for k in kinds)])
    (folder / "points.ply").write_text(f"{header}\nend_header\n{rows}\n")
    table = {**lens, "ply_file_path": "points.ply", "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(table))
    return folder


def imported(source, folder, log=None, cancelled=lambda: False):
    normalise_capture(
        ImportCapture(workspace=str(folder), source=str(source), preset="standard"),
        Reporter((lambda event: None) if log is None else log.append, cancelled),
    )
    return Workspace(folder)


def test_an_import_writes_it_and_says_what_would_improve_the_capture(source, tmp_path):
    log = []
    workspace = imported(source, tmp_path / "work", log)
    found = capture_report(workspace)
    assert blurred(found.photos["photo_04"]) and found.photos["photo_02"].exposure_ev == pytest.approx(-1.0, abs=0.12)
    said = improvements(found)
    assert any("photo_04, photo_11 are blurred" in line for line in said) and set(said) <= set(log)
    assert any("Exposure differs by" in line for line in said) and len(said) <= 3


def test_the_page_holds_all_that_it_shows(source, tmp_path):
    workspace = imported(source, tmp_path / "work")
    text = workspace.capture_report_html.read_text(encoding="utf-8")
    assert len(re.findall(r'<img alt="" src="data:image/jpeg;base64,[A-Za-z0-9+/=]{500,}"', text)) == COUNT
    assert not re.search(r'(src|href)="(?!data:)', text) and "<script" not in text
    assert all(f"<b>photo_{i:02}</b>" in text for i in range(COUNT)) and "are blurred" in text


def test_the_report_of_another_capture_is_none(source, tmp_path):
    workspace = imported(source, tmp_path / "work")
    workspace.capture_json.write_text(workspace.capture_json.read_text() + "\n")
    assert capture_report(workspace) is None
    workspace.capture_report_json.write_text("{}")
    assert capture_report(workspace) is None


def test_the_job_makes_what_is_not_there(source, tmp_path):
    workspace = imported(source, tmp_path / "work")
    first = capture_report(workspace)
    for file in (workspace.capture_report_json, workspace.capture_report_html):
        file.unlink()
    events = []
    result = report_capture(ReportCapture(workspace=str(workspace.root)), Reporter(events.append))
    again = capture_report(workspace)
    assert {n: p.exposure_ev for n, p in again.photos.items()} == {n: p.exposure_ev for n, p in first.photos.items()}
    assert result["improvements"] == list(improvements(again)) and workspace.capture_report_html.is_file()
    assert any(isinstance(event, Progress) and event.total == COUNT for event in events)


@pytest.mark.parametrize("name", ["capture-report.html", "capture-report.json"])
def test_a_file_of_the_users_stays(source, tmp_path, name):
    """It costs the import its report alone; the job says why."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / name).write_text('{"mine": 1}')
    log = []
    workspace = imported(source, tmp_path / "work", log)
    assert workspace.capture_json.is_file() and any("report was not written" in str(line) for line in log)
    assert (tmp_path / "work" / name).read_text() == '{"mine": 1}'
    with pytest.raises(In2nError) as error:
        report_capture(ReportCapture(workspace=str(workspace.root)), Reporter())
    assert error.value.code == "not_ours"
