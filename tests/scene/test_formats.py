"""Every reader on a scene whose points must appear where the program that wrote the files says; damaged files."""

import json
import math
import re
import struct
import zipfile

import numpy as np
import pytest

from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.lens import distort
from in2n_blender.scene.readers import archive
from in2n_blender.scene.readers import read as read_capture
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
    assert caught.value.code == "no_photos" and "ffmpeg" in caught.value.hint


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
