"""A capture into a workspace: nothing half-written, nothing of the user's lost."""

import errno
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from in2n_blender.engine import importing
from in2n_blender.engine.importing import normalise_capture
from in2n_blender.engine.nerf.reconstruction import reconstruct
from in2n_blender.engine.photos import decode, load_images, normalise_photo
from in2n_blender.engine.poses.video import frame_numbers
from in2n_blender.link.requests import ImportCapture, Reconstruct
from in2n_blender.scene.camera import Intrinsics
from in2n_blender.scene.capture import PinholeCapture
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.lens import Lens
from in2n_blender.scene.readers import read as read_capture
from in2n_blender.scene.reporting import Progress, Reporter
from in2n_blender.workspace.imported import load_capture
from in2n_blender.workspace.layout import Workspace
from tests.engine.test_photos import bomb
from tests.scene.captures import look_at, ring, write_transforms
from tests.scene.formats import WRITERS

FILE = {"size": (48, 32), "fl_x": 40.0, "fl_y": 41.0, "cx": 23.0, "cy": 17.0, "k1": -0.1, "k2": 0.02}


@pytest.fixture
def source(tmp_path):
    write_transforms(tmp_path / "dog", ring(8), **FILE)
    return tmp_path / "dog"


UNDISTORTING = "Undistorting the photos"
REPORTS = ("capture-report.json", "capture-report.html")  # made of what was imported, after it


def contents(folder):
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in REPORTS]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def parts(workspace):
    return {path.name for path in workspace.root.iterdir()}.difference(REPORTS)


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
    progress = [e for e in events if isinstance(e, Progress) and e.message == UNDISTORTING]
    assert [p.done for p in progress] == sorted(p.done for p in progress)
    assert progress[-1].done == progress[-1].total == 7
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


def test_a_decompression_bomb_is_named_and_left_out(tmp_path):
    write_transforms(tmp_path / "dog", ring(4), w=None, h=None, cx=None, cy=None)
    bomb(tmp_path / "dog/images/002.png", 10_500)
    log = []
    capture = normalise_capture(
        ImportCapture(workspace=str(tmp_path / "work"), source=str(tmp_path / "dog")), Reporter(log.append)
    )
    assert capture.missing == ("002",) and len(capture.views) == 3
    assert any("002" in line and "10500 x 10500 pixels" in line for line in log if isinstance(line, str))


def test_two_readable_photos_are_too_few_and_leave_nothing(source, tmp_path):
    for i in range(2, 8):
        whole = (source / f"images/00{i}.png").read_bytes()
        (source / f"images/00{i}.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(In2nError, match="Only two of the 8 photos") as caught:
        normalise_capture(ImportCapture(workspace=str(tmp_path / "work"), source=str(source)), Reporter())
    assert caught.value.code == "too_few_photos"
    assert not (tmp_path / "work").exists()


def test_cameras_in_one_place_are_said_and_not_reconstructed(tmp_path):
    here = [look_at((0, 0, 0), (np.cos(i), np.sin(i), 0.1)) for i in range(6)]
    write_transforms(tmp_path / "pan", here, **FILE)
    events = []
    request = ImportCapture(workspace=str(tmp_path / "work"), source=str(tmp_path / "pan"), preset="draft")
    capture = normalise_capture(request, Reporter(events.append))
    (note,) = capture.notes
    assert "one place" in note and note in events
    assert load_capture(Workspace(tmp_path / "work")).notes == (note,)
    with pytest.raises(In2nError) as caught:
        reconstruct(Reconstruct(workspace=str(tmp_path / "work"), preset="draft", device="cpu"), Reporter())
    assert caught.value.code == "no_parallax"


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
    assert parts(workspace) == {"capture.json", "images"}


def test_a_cancelled_import_keeps_the_earlier_one(source, tmp_path):
    workspace = Workspace(tmp_path / "work")
    before = import_then(source, workspace)
    seen = []
    with pytest.raises(Cancelled):
        normalise_capture(
            ImportCapture(workspace=str(workspace.root), source=str(source), preset="draft"),
            Reporter(seen.append, lambda: any(isinstance(e, Progress) and e.done for e in seen)),
        )
    assert contents(workspace.root) == before and parts(workspace) == {"capture.json", "images"}


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

    monkeypatch.setattr(importing, "normalise_photo", endless)
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
    assert contents(workspace.root) == before and parts(workspace) == {"capture.json", "images"}


# -- what no import made


def refused(source, workspace):
    before = contents(workspace)
    with pytest.raises(In2nError) as caught:
        normalise_capture(ImportCapture(workspace=str(workspace), source=str(source)), Reporter())
    assert caught.value.code == "not_ours" and contents(workspace) == before
    return caught.value.message


def test_a_capture_is_not_imported_into_its_own_folder(source):
    assert "images" in refused(source, source)


@pytest.mark.parametrize("made", ["photo.jpg", "000.png", "sub/000.png"])
def test_a_folder_with_images_of_the_users(source, tmp_path, made):
    (tmp_path / "work/images" / made).parent.mkdir(parents=True)
    (tmp_path / "work/images" / made).write_bytes(b"precious")
    assert made.split("/")[0] in refused(source, tmp_path / "work")


@pytest.mark.parametrize("made", ["notes.txt", "000.jpg", "folder/a.png"])
def test_a_users_file_among_an_earlier_imports(source, tmp_path, made):
    workspace = Workspace(tmp_path / "work")
    import_then(source, workspace)
    (workspace.images / made).parent.mkdir(exist_ok=True)
    (workspace.images / made).write_bytes(b"precious")
    assert made.split("/")[0] in refused(source, workspace.root)


@pytest.mark.parametrize("content", [b"{}", b'{"name": "mine"}', b"notes"])
def test_a_users_capture_json(source, tmp_path, content):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/capture.json").write_bytes(content)
    assert "capture.json" in refused(source, tmp_path / "work")


def test_photos_that_an_earlier_import_made_are_not_imported_over_themselves(source, tmp_path):
    workspace = Workspace(tmp_path / "work")
    import_then(source, workspace)
    (workspace.root / "transforms.json").write_text((source / "transforms.json").read_text())
    assert "images" in refused(workspace.root, workspace.root)


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege on Windows")
def test_links_in_place_of_what_import_makes(source, tmp_path):
    workspace = Workspace(tmp_path / "work")
    import_then(source, workspace)
    (tmp_path / "mine.png").write_bytes(b"precious")
    (workspace.images / "000.png").unlink()
    (workspace.images / "000.png").symlink_to(tmp_path / "mine.png")
    assert "000.png" in refused(source, workspace.root)
    for photo in workspace.images.iterdir():
        photo.unlink()
    workspace.images.rmdir()
    workspace.images.symlink_to(tmp_path / "dog/images")
    assert "images" in refused(source, workspace.root) and len(contents(source)) == 9


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege on Windows")
def test_an_image_that_links_out_of_the_workspace_is_not_read(source, tmp_path):
    workspace = Workspace(tmp_path / "work")
    import_then(source, workspace)
    capture = load_capture(workspace)
    (workspace.images / "003.png").rename(tmp_path / "outside.png")
    (workspace.images / "003.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(In2nError) as caught:
        load_images(workspace, capture)
    assert caught.value.code == "bad_capture" and "003.png" in caught.value.message


def test_an_import_that_runs_is_not_cleared_up(source, tmp_path):
    workspace = Workspace(tmp_path / "work")
    before = import_then(source, workspace)
    write_transforms(tmp_path / "cat", ring(4), size=(20, 20))
    seen = []

    def look(event):
        if isinstance(event, Progress) and event.message == UNDISTORTING and event.done:
            seen.append(len(load_capture(workspace).views))

    normalise_capture(ImportCapture(workspace=str(workspace.root), source=str(tmp_path / "cat")), Reporter(look))
    assert seen and set(seen) == {8} and len(load_capture(workspace).views) == 4
    assert contents(workspace.root) != before and parts(workspace) == {"capture.json", "images"}


def test_what_the_user_added_while_an_import_ran(source, tmp_path):
    workspace = Workspace(tmp_path / "work")
    before = import_then(source, workspace)

    def add(event):
        if isinstance(event, Progress) and event.done:
            (workspace.images / "mine.png").write_bytes(b"precious")

    with pytest.raises(In2nError) as caught:
        normalise_capture(ImportCapture(workspace=str(workspace.root), source=str(source)), Reporter(add))
    assert caught.value.code == "not_ours"
    assert contents(workspace.root) == {**before, "images/mine.png": b"precious"}


def test_an_empty_images_folder_and_what_file_managers_leave(source, tmp_path):
    workspace = Workspace(tmp_path / "work")
    workspace.images.mkdir(parents=True)
    before = import_then(source, workspace)
    for name in (".DS_Store", "Thumbs.db"):
        (workspace.images / name).write_bytes(b"x")
    (workspace.images / "003.png").unlink()
    assert import_then(source, workspace) == before


def test_folders_that_only_look_like_an_imports(source, tmp_path):
    workspace = Workspace(tmp_path / "work")
    for name in (".importing-mine/a.txt", ".importing-0a0a0a0a/capture.json", ".replaced-old/images/a.png"):
        (workspace.root / name).parent.mkdir(parents=True)
        (workspace.root / name).write_bytes(b"precious")
    before = contents(workspace.root)
    assert before.items() <= import_then(source, workspace).items()
    load_capture(workspace)
    assert before.items() <= contents(workspace.root).items()


KILLED = """
import os, shutil, sys
from pathlib import Path
from in2n_blender.workspace import imported
from in2n_blender.workspace.layout import Workspace
workspace, made, last = Workspace(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
steps = 0
def step(function):
    def counted(*args, **kwargs):
        global steps
        steps += 1
        if steps == last:
            os._exit(9)
        return function(*args, **kwargs)
    return counted
with imported.staged_import(workspace) as staging:
    shutil.copytree(made / "images", staging / "images")
    if (made / "masks").exists():
        shutil.copytree(made / "masks", staging / "masks", dirs_exist_ok=True)
    shutil.copy(made / "capture.json", staging / "capture.json")
    for name in ("rename", "replace", "unlink", "rmdir"):
        setattr(Path, name, step(getattr(Path, name)))
    imported.rename_path, imported.shutil.rmtree = step(imported.rename_path), step(shutil.rmtree)
"""


@pytest.mark.parametrize("had_one, masked", [(False, "the later"), (True, "the earlier"), (True, "the later")])
@pytest.mark.parametrize("last", range(1, 16))
def test_an_import_killed_at_any_step_leaves_the_one_or_the_other_whole(source, tmp_path, last, had_one, masked):
    other, workspace = tmp_path / "cat", Workspace(tmp_path / "work")
    write_transforms(other, ring(4, radius=3.0), size=(20, 20))
    for folder, size, named in ((source, (48, 32), "the earlier"), (other, (20, 20), "the later")):
        if masked == named:
            (folder / "masks").mkdir()
            Image.fromarray(np.eye(size[1], size[0], dtype=np.uint8)).save(folder / "masks/001.png")
    wholes = [import_then(path, Workspace(tmp_path / f"whole {path.name}")) for path in (source, other)]
    if had_one:
        import_then(source, workspace)
    command = [sys.executable, "-c", KILLED, str(workspace.root), str(tmp_path / "whole cat"), str(last)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert done.returncode in {14: (0, 9), 15: (0,)}.get(last, (9,)), done.stderr
    try:
        names = {view.name for view in load_capture(workspace).views}
        assert len(names) in ((8, 4) if had_one else (4,))
    except In2nError as error:
        assert error.code == "no_capture" and not had_one
    assert contents(workspace.root) in ([*wholes] if had_one else [{}, wholes[1]])
    assert import_then(source, workspace) == wholes[0]


@pytest.mark.parametrize("name", ["garden.zip", "GARDEN.ZIP"])
def test_a_zip_of_photos_without_cameras_is_as_the_folder(source, tmp_path, name):
    """Their cameras are looked for; here it is told only which photos."""
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        for photo in sorted((source / "images").iterdir()):
            archive.write(photo, f"holiday/{photo.name}")
    found = importing._bare_photos(tmp_path / name)
    assert [photo.name for photo in found.photos] == [f"{i:03d}.png" for i in range(8)]
    assert found.folder.is_relative_to(tmp_path) and importing._bare_photos(source / "images").photos


@pytest.mark.parametrize("given", ["", "rgb.mp4", "odometry.csv"])
def test_a_recording_whose_photos_are_still_in_its_video(tmp_path, given):
    """Stray Scanner's: frames are taken out, each with the pose of its number."""
    source = tmp_path / "scan"
    source.mkdir()
    WRITERS["stray scanner"][0](source)
    poses = {int(frame.photo.stem): frame.camera_to_world for frame in read_capture(source).frames}
    pictures = sorted((source / "rgb").iterdir())
    with av.open(str(source / "rgb.mp4"), "w") as video:
        with Image.open(pictures[0]) as first:
            stream = video.add_stream("libx264", rate=10, options={"crf": "10"})
            stream.width, stream.height, stream.pix_fmt = *first.size, "yuv420p"
        for picture in pictures:
            with Image.open(picture) as opened:
                video.mux(stream.encode(av.VideoFrame.from_image(opened.convert("RGB"))))
            picture.unlink()
        video.mux(stream.encode(None))
    (source / "rgb").rmdir()
    workspace = Workspace(tmp_path / "work")
    request = ImportCapture(workspace=str(workspace.root), source=str(source / given), video_frames=4, hold_out_every=0)
    capture = normalise_capture(request, Reporter())
    numbers = [number for number in poses if number in frame_numbers(workspace.poses / "frames")]
    assert len(capture.views) == len(numbers) == 4 and not capture.missing
    for view, number in zip(capture.views, numbers):
        np.testing.assert_allclose(view.camera.camera_to_world, poses[number], atol=1e-9)
    assert sorted(p.name for p in source.iterdir()) == ["camera_matrix.csv", "odometry.csv", "rgb.mp4"]
