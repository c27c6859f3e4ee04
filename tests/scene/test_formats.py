"""Every reader on a scene whose points must appear where the program that wrote the files says; damaged files."""

import json
import math
import re
import struct
import zipfile

import cv2
import numpy as np
import pycolmap
import pytest

from in2n_blender.scene import bare_photos
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.lens import distort
from in2n_blender.scene.readers import archive, record3d
from in2n_blender.scene.readers import read as read_capture
from in2n_blender.scene.reporting import Reporter
from tests.scene.captures import png_bytes
from tests.scene.formats import POINTS, WRITERS, metashape, nvm, photos

LEFT_OUT = {"meshroom": 1, "meshroom of 2019": 1, "bundler": 1}  # photos that the program could not place


def seen(frame, points):
    """The pixels in which our frame shows points of the capture."""
    local = (points - frame.camera_to_world[:3, 3]) @ frame.camera_to_world[:3, :3]
    return distort(frame.lens, np.c_[local[:, 0] / -local[:, 2], local[:, 1] / local[:, 2]])


@pytest.mark.parametrize("name", WRITERS)
def test_points_appear_where_the_program_says(tmp_path, name):
    written = WRITERS[name][0](tmp_path)
    for given in dict.fromkeys((written.path, tmp_path)):
        capture = read_capture(given)
        assert {frame.name for frame in capture.frames} == set(written.pixels)
        assert len(capture.missing) + len(capture.unusable) == LEFT_OUT.get(name, 0)
        for frame in capture.frames:
            off = np.abs(seen(frame, POINTS) - written.pixels[frame.name]).max()
            assert off < 1e-5, f"{frame.name} is off by {off} pixels"
        if written.has_points:
            np.testing.assert_allclose(capture.points, POINTS, atol=1e-9)
            assert (capture.point_colors == [9, 8, 7]).all()


def test_a_geocentric_chunk_is_levelled(tmp_path):
    """Metres east, north and up of the cameras; their distances stay."""
    written = metashape(tmp_path)
    text = written.path.read_text()
    angle = np.radians(48.0)  # of latitude, at longitude 0
    up, east = np.array([np.cos(angle), 0, np.sin(angle)]), np.array([0.0, 1, 0])
    upright = np.stack([east, np.cross(up, east), up], 1)
    rotation = " ".join(map(repr, upright.ravel().tolist()))
    place = " ".join(map(repr, (up * 6.371e6).tolist()))
    text = re.sub(r"<rotation.*</scale>", f"<rotation>{rotation}</rotation><translation>{place}</translation>", text)
    written.path.write_text(text)
    before = {c.get("label"): c.findtext("transform") for c in _cameras(text) if c.findtext("transform")}
    before = {name: np.array(t.split(), float).reshape(4, 4) for name, t in before.items()}
    capture = read_capture(tmp_path)
    ours = np.array([f.camera_to_world[:3, 3] for f in capture.frames])
    given = np.array([before[f.name][:3, 3] for f in capture.frames])
    np.testing.assert_allclose(ours - ours.mean(0), given - given.mean(0), atol=1e-4)
    assert np.abs(ours).max() < 100
    for frame in capture.frames:
        turned = before[frame.name][:3, :3] @ np.diag([1, -1, -1])
        np.testing.assert_allclose(frame.camera_to_world[:3, :3], turned, atol=1e-4)


def _cameras(text):
    from xml.etree import ElementTree

    return ElementTree.fromstring(text.encode()).iter("camera")


def test_what_metashape_left_aside_is_said(tmp_path):
    written = metashape(tmp_path)
    text = written.path.read_text()
    text = re.sub(r"(<camera id=\"1\"[^>]*>)<transform>[^<]*</transform>", r"\1", text)
    written.path.write_text(text)
    capture = read_capture(tmp_path)
    assert "disabled" in capture.notes[0] and list(capture.unusable) == ["IMG_01"]
    assert "did not align" in capture.unusable["IMG_01"]


def test_an_nvm_with_a_fixed_calibration(tmp_path):
    written = nvm(tmp_path)
    text = written.path.read_text().replace("NVM_V3", "NVM_V3 FixedK 70 33 71 22 0", 1)
    written.path.write_text(text)
    k = read_capture(tmp_path).frames[0].lens.intrinsics
    assert (k.fx, k.fy, k.cx, k.cy) == (70, 71, 33, 22)


def test_stray_scanner_with_its_photos_still_in_the_video(tmp_path):
    WRITERS["stray scanner"][0](tmp_path)
    for photo in (tmp_path / "rgb").iterdir():
        photo.unlink()
    (tmp_path / "rgb.mp4").write_bytes(b"film")
    with pytest.raises(In2nError) as caught:
        read_capture(tmp_path)
    assert caught.value.code == "no_photos" and "Import rgb.mp4 as a video" in caught.value.hint
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth/000000.png").write_bytes(png_bytes(4, 4))
    for given in (tmp_path, tmp_path / "rgb.mp4", tmp_path / "odometry.csv"):
        found = bare_photos.find(given)
        assert found.video == tmp_path / "rgb.mp4" and not found.photos, "depth maps are no photos"


def test_a_recording_with_photos_of_its_video(tmp_path):
    """The poses of those alone, by their numbers."""
    written = WRITERS["stray scanner"][0](tmp_path)
    photos = sorted((tmp_path / "rgb").iterdir())
    names = [f"chosen/{i}.png" for i in range(3)]
    (tmp_path / "chosen").mkdir()
    chosen = {number: photos[number].rename(tmp_path / name) for number, name in zip((0, 2, 5), names)}
    capture = record3d.read(tmp_path / "odometry.csv", chosen)
    assert [frame.photo.name for frame in capture.frames] == ["0.png", "1.png", "2.png"] and not capture.missing
    for frame, number in zip(capture.frames, (0, 2, 5)):
        off = np.abs(seen(frame, POINTS) - written.pixels[photos[number].stem]).max()
        assert off < 1e-5, f"{frame.name} is off by {off} pixels"


def test_a_panorama_that_was_cut_for_realityscan_bends_nothing(tmp_path):
    """Its tool writes “division” without coefficients; a model that bends and is not known is one sentence."""
    WRITERS["realityscan xmp"][0](tmp_path)
    files = sorted((tmp_path / "images").glob("*.xmp"))
    for file in files:
        text = file.read_text().replace("brown3", "division")
        file.write_text(text.replace("-0.08 0.02 0.004 0 0 0", "0 0 0 0 0 0"))
    capture = read_capture(tmp_path)
    assert {frame.lens.model for frame in capture.frames} == {"pinhole"} and not capture.unusable
    for file in files:
        file.write_text(file.read_text().replace("division", "kbrown3"))
    assert len(read_capture(tmp_path).frames) == len(files)
    files[0].write_text(files[0].read_text().replace("0 0 0 0 0 0", "-0.2 0 0 0 0 0"))
    capture = read_capture(tmp_path)
    assert len(capture.frames) == len(files) - 1 and "“kbrown3”" in capture.unusable[files[0].stem]
    files[0].write_text(files[0].read_text().replace("kbrown3", "division"))
    capture = read_capture(tmp_path)
    assert len(capture.frames) == len(files) - 1
    said = "What the lens model “division” of IMG_00.png does cannot be told exactly."
    assert capture.unusable[files[0].stem] == said


@pytest.mark.parametrize("model, k4", [("brown3t2", 0.0), ("brown4t2", 0.003)])
def test_realityscans_tangential_coefficients_are_the_other_way_round(tmp_path, model, k4):
    """Its own export for OpenCV writes k1, k2, t2, t1, k3: the oracle is OpenCV, which has no k4 of that kind."""
    written = WRITERS["realityscan xmp"][0](tmp_path)
    for file in (tmp_path / "images").glob("*.xmp"):
        text = file.read_text().replace("brown3", model)
        file.write_text(text.replace("-0.08 0.02 0.004 0 0 0", f"-0.08 0.02 0.004 {k4} 0.003 -0.002"))
    for frame in read_capture(tmp_path).frames:
        local = (POINTS - frame.camera_to_world[:3, 3]) @ frame.camera_to_world[:3, :3] * [1, -1, -1]
        k = frame.lens.intrinsics
        matrix = np.array([[k.fx, 0, k.cx], [0, k.fy, k.cy], [0, 0, 1]])
        coefficients = np.array([-0.08, 0.02, -0.002, 0.003, 0.004])
        wanted = cv2.projectPoints(local, np.zeros(3), np.zeros(3), matrix, coefficients)[0][:, 0]
        flat = local[:, :2] / local[:, 2:]
        wanted += k4 * (flat**2).sum(1, keepdims=True) ** 4 * flat * [k.fx, k.fy]
        np.testing.assert_allclose(seen(frame, POINTS), wanted, atol=1e-6)
        assert np.abs(wanted - written.pixels[frame.name]).max() > 0.02


def test_a_table_that_may_be_of_the_division_model_says_so(tmp_path):
    path = WRITERS["realityscan table"][0](tmp_path).path
    assert not read_capture(tmp_path).notes
    text = path.read_text().replace(",-0.08,0.02,0.004,0,0.001,-0.002", ",-0.08,0,0,0,0,0")
    path.write_text(text)
    assert [note for note in read_capture(tmp_path).notes if "Division" in note]


@pytest.mark.parametrize("kind", ["fisheye62", "fisheye624"])
def test_opensfms_fisheyes_are_where_colmap_says(tmp_path, kind):
    """COLMAP has its formula with k5 = k6 = s1 = s3 = 0; what these add is a polynomial more."""
    WRITERS["opensfm"][0](tmp_path)
    path = tmp_path / "opensfm/reconstruction.json"
    whole = json.loads(path.read_text())[1]
    d = {"k1": -0.03, "k2": 0.01, "k3": -0.003, "k4": 0.001, "p1": 1e-3, "p2": -2e-3}
    prism = {"s0": 2e-3, "s2": -1e-3} if kind == "fisheye624" else {}
    whole["cameras"]["c"] |= {"projection_type": kind, "focal_x": 0.6, "focal_y": 0.62, **d, **prism}
    path.write_text(json.dumps([whole]))
    lens = read_capture(tmp_path).frames[0].lens
    k, at = lens.intrinsics, np.random.default_rng(0).uniform(-1.2, 1.2, (50, 2))
    parameters = [k.fx, k.fy, k.cx, k.cy, d["k1"], d["k2"], d["p1"], d["p2"], d["k3"], d["k4"]]
    parameters += [prism.get("s0", 0), prism.get("s2", 0)]
    camera = pycolmap.Camera(model="THIN_PRISM_FISHEYE", width=k.width, height=k.height, params=parameters)
    np.testing.assert_allclose(distort(lens, at), camera.img_from_cam(np.c_[at, np.ones(50)]), atol=1e-9)
    more = {"k5": 4e-4, "k6": -2e-4} | ({"s1": 1e-3, "s3": 5e-4} if prism else {})
    whole["cameras"]["c"] |= more
    path.write_text(json.dumps([whole]))
    radius = np.hypot(*at.T)
    flat = at * (np.arctan(radius) / radius)[:, None]
    square = (flat**2).sum(1, keepdims=True)
    bent = flat * (more["k5"] * square**5 + more["k6"] * square**6)
    bent += square**2 * [more.get("s1", 0), more.get("s3", 0)]
    further = distort(read_capture(tmp_path).frames[0].lens, at)
    np.testing.assert_allclose(further - distort(lens, at), bent * [k.fx, k.fy], atol=1e-9)


def test_record3d_with_a_lens_of_its_own_in_every_frame(tmp_path):
    WRITERS["record3d"][0](tmp_path)
    table = json.loads((tmp_path / "metadata.json").read_text())
    table["perFrameIntrinsicCoeffs"] = [[70 + i, 71 + i, 30 + i, 20 + i] for i in range(len(table["poses"]))]
    (tmp_path / "metadata.json").write_text(json.dumps(table))
    for frame in read_capture(tmp_path).frames:
        k, i = frame.lens.intrinsics, int(frame.name)
        assert (k.fx, k.fy, k.cx, k.cy) == (70 + i, 71 + i, 30 + i, 20 + i)


# --- damaged files


def cut(data):
    return data[: len(data) // 2]


def not_a_number(data):
    """A number of a pose that is not finite; of an array, all."""
    if data[:6] == b"\x93NUMPY":
        return data[:128] + b"\xff" * (len(data) - 128)
    found = list(re.finditer(rb"-?\d\.\d{6,}", data))
    if not found:  # a binary file
        return data[: len(data) // 2] + struct.pack("<3d", *[math.nan] * 3) + data[len(data) // 2 + 24 :]
    chosen = found[len(found) // 2]
    return data[: chosen.start()] + b"nan" + data[chosen.end() :]


def huge(data):
    """Counts and sizes beyond all sense."""
    if data[:6] == b"\x93NUMPY":
        return re.sub(rb"'shape': \(\d+,", b"'shape': (999999999999,", data)
    if b"\0" in data:
        return struct.pack("<Q", 1 << 62) + data[8:]
    return re.sub(rb'(?<![\d.e-])(64|48|6|7|25)(?=[\s",<])', b"99999999999999999999", data)


DAMAGE = {
    "truncated": cut,
    "empty": lambda data: b"",
    "of another kind": lambda data: b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "a list": lambda data: b"[1, [2, {}]]",
    "an object": lambda data: b'{"views": 3, "poses": "x", "frames": {}, "K": [1], "shots": []}',
    "not a number": not_a_number,
    "huge": huge,
    "deep": lambda data: b"[" * 100_000 if data[:1] in b"[{" else b"<a>" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_file_is_one_sentence_or_costs_its_photo(tmp_path, name, damage):
    writer, file = WRITERS[name]
    writer(tmp_path)
    path = tmp_path / file
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    try:
        capture = read_capture(path if name != "realityscan xmp" else tmp_path)
        assert len(capture.frames) >= 3
        for frame in capture.frames:
            assert np.isfinite(frame.camera_to_world).all()
            assert all(why.endswith(".") for why in capture.unusable.values())
    except In2nError as error:
        assert error.message.endswith(".") and error.hint and "\n" not in str(error)


WORDS = [b"nan", b"-1", b"0", b"1e400", b"9" * 20, b"null", b"{}", b"[]", b"", b"\xff\xfe", b"\0", b"<a>", b"1e-320"]


def mutated(data, rng):
    """A file with bytes changed, cut out, doubled or put in, or with a number that became something else."""
    for _ in range(rng.integers(1, 5)):
        at, other = (int(v) for v in rng.integers(0, len(data) + 1, 2))
        word = WORDS[rng.integers(len(WORDS))]
        found = list(re.finditer(rb"-?\d+(\.\d+)?", data))
        chosen = found[rng.integers(len(found))].span() if found else (at, at)
        data = [
            data[:at] + bytes([rng.integers(256)]) + data[at + 1 :],
            data[:at] + data[at + int(rng.integers(1, 40)) :],
            data[:at] + word + data[at:],
            data[: chosen[0]] + word + data[chosen[1] :],
            data[:at] + data[other : other + 60] + data[at:],
        ][rng.integers(5)]
    return data


@pytest.mark.parametrize("name", WRITERS)
def test_whatever_happens_to_a_file_is_one_sentence(tmp_path, name):
    writer, file = WRITERS[name]
    writer(tmp_path)
    path, rng = tmp_path / file, np.random.default_rng(7)
    data = path.read_bytes()
    for _ in range(12):
        path.write_bytes(mutated(data, rng))
        try:
            assert len(read_capture(path if name != "realityscan xmp" else tmp_path).frames) >= 3
        except In2nError as error:
            assert error.message.endswith(".") and error.hint and "\n" not in str(error)


@pytest.mark.parametrize("damage", ["truncated", "not a number", "huge"])
@pytest.mark.parametrize("name", WRITERS)
def test_what_can_be_used_is_used_and_the_rest_is_named(tmp_path, name, damage):
    """Whatever is still read of a damaged file is where it was; what is not, is listed or all of it is refused."""
    writer, file = WRITERS[name]
    written, path = writer(tmp_path), tmp_path / file
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    try:
        capture = read_capture(path if name != "realityscan xmp" else tmp_path)
    except In2nError as error:
        assert error.hint
        return
    for frame in capture.frames:
        if damage != "huge":  # which makes other numbers of some
            off = np.abs(seen(frame, POINTS) - written.pixels[frame.name]).max()
            assert off < 1e-5, f"{frame.name} is off by {off} pixels"
    named = {frame.name for frame in capture.frames} | set(capture.unusable) | set(capture.missing)
    if damage == "not a number":
        assert set(written.pixels) <= named and all(why.endswith(".") for why in capture.unusable.values())


@pytest.mark.parametrize("field, value", [("k1", 1e300), ("w", 0.2), ("h", 1e30), ("k2", -1e200), ("cx", 1e308)])
def test_numbers_beyond_all_sense(tmp_path, field, value):
    path = WRITERS["transforms"][0](tmp_path).path
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(In2nError) as caught:
        read_capture(path)
    assert caught.value.code in ("bad_intrinsics", "size_mismatch")


@pytest.mark.parametrize("name", WRITERS)
def test_photos_that_are_missing_or_broken_cost_themselves(tmp_path, name):
    written = WRITERS[name][0](tmp_path)
    found = sorted(p for p in tmp_path.rglob("*") if p.suffix.lower() == ".png" and "90" not in p.name)
    if name == "polycam":
        found = [p for p in found if "corrected" in str(p)]
    if name != "llff":  # which counts its photos
        found[0].unlink()
    found[1].write_bytes(b"\x89PNG\r\n\x1a\nno more")
    capture = read_capture(tmp_path)
    lost = len(capture.missing) + len(capture.unusable) - LEFT_OUT.get(name, 0)
    assert len(capture.frames) == len(written.pixels) - lost and lost == (1 if name == "llff" else 2)


def test_a_pickled_array_is_not_opened(tmp_path):
    photos(tmp_path / "images")
    np.save(tmp_path / "poses_bounds.npy", np.array([{"a": 1}] * 6, object), allow_pickle=True)
    with pytest.raises(In2nError) as caught:
        read_capture(tmp_path)
    assert caught.value.code == "bad_capture"


def test_xml_that_grows_is_refused(tmp_path):
    photos(tmp_path / "photos")
    (tmp_path / "cameras.xml").write_text(
        '<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
        "<document><chunk>&b;</chunk></document>"
    )
    with pytest.raises(In2nError, match="entities"):
        read_capture(tmp_path)


# --- archives


def zipped(folder, path, below="", more=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, f"{below}{file.relative_to(folder).as_posix()}")
        for name, data in more:
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("name", ["metashape", "opensfm", "record3d", "llff"])
@pytest.mark.parametrize("below", ["", "my capture/", "a/b/"])
def test_a_zip_of_a_capture(tmp_path, name, below):
    (tmp_path / "made").mkdir()
    written = WRITERS[name][0](tmp_path / "made")
    path = zipped(tmp_path / "made", tmp_path / "garden.zip", below, [(f"{below}film.mp4", b"x" * 1000)])
    capture = read_capture(path)
    assert len(capture.frames) == len(written.pixels)
    made = tmp_path / "garden unpacked"
    assert all(frame.photo.is_relative_to(made) for frame in capture.frames) and not list(made.rglob("*.mp4"))
    stamp = capture.frames[0].photo.stat().st_mtime_ns
    assert read_capture(path).frames[0].photo.stat().st_mtime_ns == stamp, "it is not unpacked twice"
    zipped(tmp_path / "made", path, below, [("more.txt", b"1")])
    assert read_capture(path).frames[0].photo.is_relative_to(tmp_path / "garden unpacked 2")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["garden unpacked", "garden unpacked 2", "garden.zip", "made"]


def test_unpacking_tells_how_far_it_is_and_leaves_nothing_when_it_is_cancelled(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "BLOCK", 1 << 12)
    (tmp_path / "made").mkdir()
    WRITERS["llff"][0](tmp_path / "made")
    path = zipped(tmp_path / "made", tmp_path / "garden.zip", more=[("more.txt", bytes(1 << 21))])
    told = []
    with pytest.raises(Cancelled):
        read_capture(path, Reporter(told.append, lambda: len(told) > 3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["garden.zip", "made"]
    told.clear()
    assert read_capture(path, Reporter(told.append)).frames
    done = [event.done for event in told]
    assert done == sorted(done) and told[-1].done == told[-1].total == 2 and told[0].unit == "MB"


def test_what_goes_by_the_name_of_the_unpacked_folder_stays(tmp_path):
    (tmp_path / "made").mkdir()
    WRITERS["llff"][0](tmp_path / "made")
    path = zipped(tmp_path / "made", tmp_path / "garden.zip")
    (tmp_path / "garden unpacked").mkdir()
    (tmp_path / "garden unpacked/mine.txt").write_text("mine")
    read_capture(path)
    assert [p.name for p in (tmp_path / "garden unpacked").iterdir()] == ["mine.txt"]


BAD_NAMES = ["../out.png", "/etc/out.png", "a/../../out.png", "C:\\out.png", "..\\out.png"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_file_of_an_archive_leads_out_of_it(tmp_path, name):
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in/a.zip", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(In2nError) as caught:
        read_capture(tmp_path / "in/a.zip")
    assert caught.value.code == "bad_archive" and [p.name for p in (tmp_path / "in").iterdir()] == ["a.zip"]


def test_archives_that_grow_too_much_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "SMALL", 1 << 16)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("a.png", bytes(20 << 20))
    with pytest.raises(In2nError) as caught:
        read_capture(path)
    assert caught.value.code == "bad_archive" and "20 MB" in caught.value.message
    monkeypatch.setattr(archive, "MOST_FILES", 2)
    zipped(tmp_path / "nothing", path, more=[(f"{i}.png", b"") for i in range(3)])
    with pytest.raises(In2nError, match="3 files"):
        read_capture(path)


def test_an_archive_that_lies_about_a_size_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    zipped(tmp_path / "nothing", path, more=[("a.txt", bytes(5000))])
    data = path.read_bytes().replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises(In2nError) as caught:
        read_capture(path)
    assert caught.value.code == "bad_archive" and [p.name for p in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and no more", b"rar!"])
def test_a_broken_archive_is_one_sentence(tmp_path, data):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(In2nError) as caught:
        read_capture(tmp_path / "a.zip")
    assert caught.value.code == "bad_archive" and "\n" not in str(caught.value)


def test_an_archive_without_a_capture(tmp_path):
    path = zipped(tmp_path / "nothing", tmp_path / "a.zip", more=[("a.png", b"x")])
    with pytest.raises(In2nError) as caught:
        read_capture(path)
    assert caught.value.code == "not_a_capture"
