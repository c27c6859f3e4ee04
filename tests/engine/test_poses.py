"""Cameras of photos and videos without poses: found, aligned with the truth, and what cannot be placed is named."""

import av
import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageFilter

from in2n_blender.engine.importing import normalise_capture
from in2n_blender.engine.poses import prepared
from in2n_blender.engine.poses.pairs import ALL_UP_TO, choose_pairs, global_descriptors, most_alike
from in2n_blender.engine.poses.prepared import FILM_DIAGONAL, prepare
from in2n_blender.engine.poses.search import find_poses, lens_of
from in2n_blender.engine.poses.video import extract_frames, sharpness
from in2n_blender.link.requests import ImportCapture
from in2n_blender.scene import bare_photos
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.lens import distort
from in2n_blender.scene.reporting import Artifact, Progress, Reporter
from in2n_blender.scene.visibility import in_picture
from in2n_blender.workspace.files import read_json
from in2n_blender.workspace.layout import Workspace
from tests.engine.similarity import centre_errors
from tests.engine.textured_room import HEIGHT, LENS, WIDTH, cameras, sharp_picture, textures

COUNT = 12


@pytest.fixture(scope="module")
def shot():
    """The cameras and what they saw."""
    walls = textures()
    return [(camera, sharp_picture(camera, walls)) for camera in cameras(COUNT)]


def name_of(number):
    return f"photo_{number:02}"


@pytest.fixture(scope="module")
def found(shot, tmp_path_factory):
    """A folder as people have it: one photo on its side, one HEIC, one with a mask, a plain one, and one of elsewhere.

    Returns (folder, workspace, capture, events).
    """
    folder = tmp_path_factory.mktemp("photos")
    for number, (_, image) in enumerate(shot):
        picture, exif = Image.fromarray(image), Image.Exif()
        exif[0x0110] = "Box Camera"
        exif.get_ifd(0x8769)[0xA405] = 30
        if number == 3:  # held on its side: what is stored is turned by what EXIF says
            exif[0x0112] = 6
            picture = picture.transpose(Image.Transpose.ROTATE_90)
        if number == 5:
            pillow_heif.from_pillow(picture).save(folder / f"{name_of(number)}.heic", quality=95, exif=exif.tobytes())
            continue
        picture.save(folder / f"{name_of(number)}.jpg", quality=95, exif=exif)
    Image.new("RGB", (WIDTH, HEIGHT), (120, 120, 120)).save(folder / "plain.jpg")
    elsewhere = sharp_picture(cameras(1)[0], textures(seed=9))
    Image.fromarray(elsewhere).save(folder / "elsewhere.jpg", quality=95)
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (folder / "masks").mkdir()
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:, :60] = 0
    Image.fromarray(mask).save(folder / "masks" / f"{name_of(7)}.jpg.png")
    workspace, events = Workspace(tmp_path_factory.mktemp("workspace") / "ws"), []
    capture = find_poses(bare_photos.find(folder), workspace, 0, Reporter(events.append))
    return folder, workspace, capture, events


def test_all_photos_that_overlap_are_placed_where_they_were_taken(found, shot):
    _, _, capture, _ = found
    assert [frame.name for frame in capture.frames] == [name_of(number) for number in range(COUNT)]
    errors = centre_errors(
        [frame.camera_to_world for frame in capture.frames], [camera.camera_to_world for camera, _ in shot]
    )
    assert errors.max() < 0.01
    placed, truth = (
        [pose[:3, :3] for pose in poses]
        for poses in (
            [frame.camera_to_world for frame in capture.frames],
            [camera.camera_to_world for camera, _ in shot],
        )
    )
    turns = [a @ b.T for a, b in zip(truth, placed)]  # one and the same turn for all cameras
    assert max(np.abs(turn - turns[0]).max() for turn in turns) < 0.02
    lenses = {frame.lens.intrinsics for frame in capture.frames}
    assert all((k.width, k.height) == (WIDTH, HEIGHT) and abs(k.fx / LENS.fx - 1) < 0.02 for k in lenses)
    assert len(capture.points) > 200 and len(capture.points) == len(capture.point_colors)


def test_what_cannot_be_placed_is_named_with_the_reason(found):
    _, _, capture, events = found
    assert set(capture.unusable) == {"plain", "elsewhere", "torn"}
    assert "blurred, dark or plain" in capture.unusable["plain"]
    assert "no overlap" in capture.unusable["elsewhere"]
    assert "cannot be read" in capture.unusable["torn"]
    lines = [event for event in events if isinstance(event, str)]
    assert any(line.startswith(f"{COUNT} of {COUNT + 2} cameras found") for line in lines)
    assert any(line.startswith("plain has no camera.") for line in lines)


def test_every_stage_is_told_and_cameras_arrive_one_after_another(found):
    _, workspace, _, events = found
    messages = list(dict.fromkeys(event.message for event in events if isinstance(event, Progress)))
    assert messages[0].startswith("Reading")
    assert [m for m in messages if not m.startswith("Reading")] == [
        "Looking for features",
        "Comparing photos",
        "Placing cameras",
    ]
    arrivals = [event for event in events if isinstance(event, Artifact) and event.kind == "cameras"]
    assert arrivals and read_json(workspace.poses / "cameras.json")["total"] == COUNT + 2
    last = read_json(workspace.poses / "cameras.json")["cameras"]
    assert [camera["name"] for camera in last] == [name_of(number) for number in range(COUNT)]


def test_a_photo_on_its_side_and_one_of_another_format_are_photos_like_others(found):
    folder, _, capture, _ = found
    turned, heic = capture.frames[3], capture.frames[5]
    assert turned.orientation == 6 and heic.orientation == 1 and heic.photo == folder / f"{name_of(5)}.heic"
    assert capture.frames[7].mask and capture.frames[7].mask.path.parent == folder / "masks"


def test_what_was_found_is_kept(found, monkeypatch):
    folder, workspace, capture, _ = found
    events = []
    again = find_poses(bare_photos.find(folder), workspace, 0, Reporter(events.append))
    messages = {event.message for event in events if isinstance(event, Progress)}
    assert "Looking for features" not in messages and "Comparing photos" not in messages
    for one, other in zip(capture.frames, again.frames):
        np.testing.assert_allclose(one.camera_to_world, other.camera_to_world, atol=1e-9)


def test_photos_that_are_prepared_are_not_decoded_again(found, tmp_path, monkeypatch):
    folder, _, _, _ = found
    photos = [photo for photo in bare_photos.find(folder).photos if photo.stem != "torn" and photo.suffix == ".jpg"]
    first = prepare(tuple(photos), folder, tmp_path, Reporter())
    masks = {photo.file: tmp_path / "masks" / f"{photo.file}.png" for photo in first.photos if photo.mask}
    assert len(masks) == 1 and all(file.is_file() for file in masks.values())

    def decoded(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(prepared, "decode", decoded)
    assert prepare(tuple(photos), folder, tmp_path, Reporter()) == first


def test_a_photo_whose_mask_was_not_written_is_not_prepared(found, tmp_path, monkeypatch):
    """Killed between the two: what is prepared says that both are there."""
    folder, _, _, _ = found
    masked = folder / f"{name_of(7)}.jpg"
    monkeypatch.setattr(prepared, "_write_mask", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare((masked,), folder, tmp_path, Reporter())
    assert not list((tmp_path / "images").glob("*.jpg"))


def test_other_photos_are_searched_anew_and_what_is_not_ours_stays(found, tmp_path):
    _, workspace, _, _ = found
    before = (workspace.poses / "database.db").read_bytes()
    few = tmp_path / "few"
    few.mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (64, 48), (90, 90, 90)).save(few / f"{name}.png")
    foreign = Workspace(tmp_path / "foreign")
    foreign.poses.mkdir(parents=True)
    (foreign.poses / "mine.txt").write_text("mine")
    with pytest.raises(In2nError) as refused:
        find_poses(bare_photos.find(few), foreign, 0, Reporter())
    assert refused.value.code == "not_ours" and (foreign.poses / "mine.txt").is_file()
    with pytest.raises(In2nError) as none:
        find_poses(bare_photos.find(few), Workspace(tmp_path / "ws"), 0, Reporter())
    assert none.value.code == "no_cameras_found" and "blurred, dark or plain" in none.value.message
    assert (workspace.poses / "database.db").read_bytes() == before


def test_cancelled_at_any_stage_it_goes_on(shot, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, (_, image) in enumerate(shot):
        Image.fromarray(image).save(folder / f"{number}.png")
    workspace = Workspace(tmp_path / "ws")
    for stage in ("Reading", "Looking", "Comparing", "Placing"):
        seen = []
        emit = lambda e, seen=seen, stage=stage: seen.append(e) if getattr(e, "message", "").startswith(stage) else None
        with pytest.raises(Cancelled):
            find_poses(bare_photos.find(folder), workspace, 0, Reporter(emit, lambda seen=seen: len(seen) > 1))
    assert len(find_poses(bare_photos.find(folder), workspace, 0, Reporter()).frames) == COUNT


def test_import_makes_a_capture_of_photos_without_poses(found, tmp_path):
    folder, workspace, _, _ = found
    request = ImportCapture(workspace=str(workspace.root), source=str(folder), preset="draft")
    capture = normalise_capture(request, Reporter())
    assert len(capture.views) == COUNT and set(capture.missing) == {"plain", "elsewhere", "torn"}
    assert workspace.photo(capture.views[0].image).is_file() and any(view.held_out for view in capture.views)
    assert len(capture.tracks) == len(capture.points) and capture.tracks.counts.min() >= 3
    assert np.isfinite(capture.tracks.errors).all()
    for number, view in enumerate(capture.views):
        seen = capture.tracks.seen_by(number)
        assert len(seen) > 20 and set(seen) <= set(in_picture(view.camera, capture.points)[0])


@pytest.fixture(scope="module")
def video(shot, tmp_path_factory):
    """Of every camera three frames, of which only the second one is sharp."""
    path = tmp_path_factory.mktemp("video") / "walk.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 8_000_000
        for _, image in shot:
            blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(4)))
            for each in (blurred, image, blurred):
                for packet in stream.encode(av.VideoFrame.from_ndarray(each, format="rgb24")):
                    container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_the_sharp_frames_of_a_video_are_chosen(video, shot, tmp_path):
    files = extract_frames(video, COUNT, tmp_path / "frames", Reporter())
    assert len(files) == COUNT
    for file, (_, image) in zip(files, shot):
        blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(4)), np.float32)
        off = [np.abs(np.asarray(Image.open(file), np.float32) - other).mean() for other in (image, blurred)]
        assert off[0] < off[1], "the sharp one of its three"
    few = extract_frames(video, 4, tmp_path / "few", Reporter())
    assert len(few) == 4 and all(sharpness(Image.open(file)) > 100 for file in few)
    assert len(extract_frames(video, 500, tmp_path / "all", Reporter())) == 3 * COUNT


def test_choosing_frames_goes_on_where_it_stopped(video, tmp_path):
    seen = []
    with pytest.raises(Cancelled):
        extract_frames(video, COUNT, tmp_path, Reporter(seen.append, lambda: len(seen) > 3))
    written = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.jpg")}
    assert 0 < len(written) < COUNT
    assert len(extract_frames(video, COUNT, tmp_path, Reporter())) == COUNT
    assert all(file.stat().st_mtime_ns == time for file, time in written.items())


def test_what_is_no_video(tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"no video at all")
    with pytest.raises(In2nError) as refused:
        extract_frames(tmp_path / "no.mp4", 5, tmp_path / "frames", Reporter())
    assert refused.value.code == "bad_video"


def test_the_focal_length_of_exif_is_that_of_35_mm_film(found, tmp_path):
    folder, _, _, _ = found
    photos = bare_photos.find(folder).photos
    known = [photo for photo in prepare(photos, folder, tmp_path, Reporter()).photos if photo.focal]
    assert len(known) == COUNT and len({photo.camera for photo in known}) == 1
    assert known[0].focal == pytest.approx(30 / FILM_DIAGONAL * np.hypot(WIDTH, HEIGHT))


def test_lenses_are_colmaps():
    import pycolmap

    for model, parameters in (
        ("SIMPLE_RADIAL", (310.0, 155.0, 118.0, -0.07)),
        ("OPENCV", (305.0, 308.0, 157.0, 119.0, -0.05, 0.02, 0.001, -0.002)),
    ):
        camera = pycolmap.Camera(model=model, width=WIDTH, height=HEIGHT, params=parameters)
        directions = np.random.default_rng(0).uniform(-0.4, 0.4, (50, 2))
        expected = np.array([camera.img_from_cam(np.array([*direction, 1.0])) for direction in directions])
        ours = distort(lens_of(model, parameters, (WIDTH, HEIGHT)), directions)
        np.testing.assert_allclose(ours, expected.reshape(-1, 2), atol=1e-6)


def test_of_many_photos_those_that_look_alike_are_compared():
    random = np.random.default_rng(0)
    places = [random.integers(0, 255, (60, 128)).astype(np.uint8) for _ in range(12)]
    count = ALL_UP_TO + 12
    descriptors = [
        np.clip(places[i % 12].astype(int) + random.integers(-12, 13, (60, 128)), 0, 255).astype(np.uint8)
        for i in range(count)
    ]
    nearest = most_alike(global_descriptors(descriptors), 3)
    assert all(j % 12 == i % 12 for i, row in enumerate(nearest) for j in row)
    pairs = choose_pairs(descriptors, in_order=False)
    assert len(pairs) < count * (count - 1) / 4 and all(i < j for i, j in pairs) and len(set(pairs)) == len(pairs)
    assert len(choose_pairs(descriptors[:10], in_order=False)) == 45
    ordered = set(choose_pairs(descriptors, in_order=True))
    assert {(i, i + 1) for i in range(count - 1)} | {(i, i + 16) for i in range(count - 16)} <= ordered


def test_what_a_folder_or_a_file_holds(tmp_path):
    assert bare_photos.find(tmp_path) is None and bare_photos.find(tmp_path / "none") is None
    for name in ("b10.JPG", "b9.jpg", ".hidden.jpg", "notes.txt"):
        (tmp_path / name).touch()
    assert [photo.name for photo in bare_photos.find(tmp_path).photos] == ["b9.jpg", "b10.JPG"]
    assert bare_photos.find(tmp_path / "b9.jpg").photos == bare_photos.find(tmp_path).photos
    assert bare_photos.find(tmp_path / "notes.txt") is None
    rig = tmp_path / "rig"
    for folder in ("images/left", "images/right", "images/masks", "images/empty"):
        (rig / folder).mkdir(parents=True)
        if "empty" not in folder:
            (rig / folder / "0.png").touch()
    assert [photo.parent.name for photo in bare_photos.find(rig).photos] == ["left", "right"]
    films = tmp_path / "films"
    films.mkdir()
    (films / "a.MOV").touch()
    assert bare_photos.find(films).video == bare_photos.find(films / "a.MOV").video == films / "a.MOV"
    (films / "b.mp4").touch()
    with pytest.raises(In2nError) as refused:
        bare_photos.find(films)
    assert refused.value.code == "several_videos"
