"""Captures, workspaces and edits of strangers: nothing named in them leaves its folder, and no pipe is waited for."""

import json
import os
import shutil
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from in2n_blender.link.client import Client
from in2n_blender.link.requests import Reconstruct
from in2n_blender.scene.camera_path import CameraPath
from in2n_blender.scene.capture import PinholeCapture, pinhole_capture
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.readers import read
from in2n_blender.scene.readers.regions import read_region
from in2n_blender.workspace import imported, journal, outputs, stages
from in2n_blender.workspace.files import read_json
from in2n_blender.workspace.layout import Workspace, refuse_links_out
from tests.scene.captures import write_colmap, write_png, write_transforms

FAKE = Path(__file__).resolve().parents[1] / "link" / "fake_worker.py"
OUT = ["../x", "../../x", "a/../../x", "/etc/passwd", "C:/x", "C:x", "..\\x", "\\\\server\\x", "CON", "nul.png", "a\0b"]
POSIX = pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")


def capture_json(folder):
    write_transforms(folder / "c")
    return pinhole_capture(read(folder / "c"), 12).to_json()


@pytest.mark.parametrize("name", OUT)
@pytest.mark.parametrize("key", ["name", "image", "mask"])
def test_a_view_cannot_name_what_lies_outside(tmp_path, key, name):
    data = capture_json(tmp_path)
    data["views"][0][key] = name
    with pytest.raises(In2nError) as refused:
        PinholeCapture.from_json(data)
    assert refused.value.code == "bad_capture"


@pytest.mark.parametrize("name", OUT)
def test_names_of_edits_paths_and_results_stay_inside(tmp_path, name):
    workspace = Workspace(tmp_path)
    for refuses in (
        lambda: workspace.edit(name),
        lambda: workspace.camera_path(name),
        lambda: workspace.renders(name, "p"),
        lambda: workspace.renders(None, name),
        lambda: workspace.mesh(name, ".glb"),
        lambda: workspace.region(name),
    ):
        with pytest.raises(In2nError) as refused:
            refuses()
        assert refused.value.code == "bad_name"


def test_a_manifest_cannot_name_what_lies_outside(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    made = {"../mine.txt": None, str(tmp_path / "mine.txt"): None, "C:\\x": None}
    (tmp_path / "out" / outputs.MANIFEST).write_text(json.dumps({"made": made}))
    assert outputs.made_by_us(tmp_path / "out") == {}
    outputs.remove_made(tmp_path / "out", made)
    assert (tmp_path / "mine.txt").read_text() == "mine"


NAMED = ["file_path", "mask_path", "depth_file_path", "ply_file_path"]
LEADING_OUT = ["absolute", "above", "a link"]


def naming_a_secret(folder, key, how):
    """A capture whose file names one elsewhere, and that one."""
    file = write_transforms(folder / "deep/c")
    secret = folder / ("secret.ply" if key == "ply_file_path" else "secret.png")
    ply = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    secret.write_bytes((file.parent / "images/000.png").read_bytes())
    if key == "ply_file_path":
        secret.write_text(f"{ply}1 2 3\n")
    named = {"absolute": str(secret), "above": f"../../{secret.name}", "a link": f"images/link{secret.suffix}"}[how]
    if how == "a link":
        (file.parent / named).symlink_to(secret)
    table = json.loads(file.read_text())
    (table if key == "ply_file_path" else table["frames"][0])[key] = named
    file.write_text(json.dumps(table))
    return file, secret


@POSIX
@pytest.mark.parametrize("how", LEADING_OUT)
@pytest.mark.parametrize("key", NAMED)
def test_what_a_capture_names_elsewhere_is_read_by_the_users_leave_alone(tmp_path, key, how):
    assert len(read(write_transforms(tmp_path / "plain")).frames) == 5
    file, secret = naming_a_secret(tmp_path, key, how)
    for chosen in (file, file.parent):
        with pytest.raises(In2nError) as refused:
            read(chosen)
        assert refused.value.code == "outside_photos"
        assert secret.stem in refused.value.message or "link" in refused.value.message
        assert "Photos Outside the Folder" in refused.value.hint and "--outside-photos" in refused.value.hint
    capture = read(file, outside_photos=True)
    if key == "ply_file_path":
        assert len(capture.points) == 1
    elif key == "file_path":
        assert any(frame.photo.resolve() == secret for frame in capture.frames)
        assert any(note.startswith("1 photos lie elsewhere") for note in capture.notes)
    else:
        assert any(
            f.mask and f.mask.path.resolve() == secret or f.depth and f.depth.path.resolve() == secret
            for f in capture.frames
        )


def test_photos_beside_the_cameras_and_those_of_another_machine_need_no_leave(tmp_path):
    """As programs lay them: images/ beside the folder of the cameras; and absolute names of what is in the folder."""
    file = write_transforms(tmp_path / "c")
    table = json.loads(file.read_text())
    for frame in table["frames"]:
        frame["file_path"] = f"/home/somebody/c/{frame['file_path']}"
    file.write_text(json.dumps(table))
    assert len(read(file).frames) == 5
    moved = tmp_path / "somebody/c"
    moved.parent.mkdir()
    (tmp_path / "c").rename(moved)
    for frame in table["frames"]:  # where the originals are there, too
        frame["file_path"] = frame["file_path"].replace("/home", str(tmp_path))
    file = write_transforms(tmp_path / "copy")
    file.write_text(json.dumps(table))
    assert {frame.photo.parent for frame in read(file).frames} == {tmp_path / "copy/images"}
    assert {frame.photo.parent for frame in read(file, outside_photos=True).frames} == {moved / "images"}


def test_a_colmap_project_may_be_chosen_by_its_model(tmp_path):
    photos = [f"{number}.png" for number in range(4)]
    write_colmap(tmp_path / "project/sparse/0", photos)
    for name in photos:
        write_png(tmp_path / "project/images" / name)
    for chosen in ("project", "project/sparse/0", "project/sparse/0/cameras.bin"):
        assert len(read(tmp_path / chosen).frames) == 4
    shutil.rmtree(tmp_path / "project/images")
    for name in photos:  # loose in the folder around it
        write_png(tmp_path / name)
    with pytest.raises(In2nError) as refused:
        read(tmp_path / "project")
    assert refused.value.code in ("outside_photos", "no_photos")


@pytest.mark.parametrize("name", ["../evil.json", "/tmp/evil.json", "..\\evil.json", "C:\\evil.json"])
def test_an_archive_cannot_write_outside(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr(name, "{}")
    with pytest.raises(In2nError) as refused:
        read(tmp_path / "c.zip")
    assert refused.value.code == "bad_archive" and sorted(p.name for p in tmp_path.iterdir()) == ["c.zip"]


@POSIX
@pytest.mark.parametrize(
    "name", ["edits", "edits/e", "renders", "renders/original/turn", "meshes", "reconstruction", "previews"]
)
def test_no_job_works_in_a_workspace_whose_folders_lead_out_of_it(tmp_path, name):
    root, home = tmp_path / "ws", tmp_path / "home"
    home.mkdir()
    (root / name).parent.mkdir(parents=True)
    (root / name).symlink_to(home)
    with Client(sys.executable, tmp_path / "log", FAKE) as client:
        with pytest.raises(In2nError) as refused:
            client.run(Reconstruct(workspace=str(root)))
    assert refused.value.code == "leads_out" and name in refused.value.message
    assert not list(home.iterdir()) and not journal.is_locked(root)


@POSIX
def test_links_that_stay_inside_and_a_workspace_that_is_a_link_are_no_harm(tmp_path):
    (tmp_path / "disk/ws/big").mkdir(parents=True)
    (tmp_path / "disk/ws/renders").symlink_to(tmp_path / "disk/ws/big")
    (tmp_path / "ws").symlink_to(tmp_path / "disk/ws")
    refuse_links_out(tmp_path / "ws")
    refuse_links_out(tmp_path / "not there")


@POSIX
@pytest.mark.parametrize("name", [journal.LOG_NAME, journal.JOB_NAME, journal.LOCK_NAME])
def test_nothing_is_added_to_a_file_that_a_link_of_a_workspace_leads_to(tmp_path, name):
    mine, root = tmp_path / "mine.txt", tmp_path / "ws"
    mine.write_text("mine")
    root.mkdir()
    (root / name).symlink_to(mine)
    with Client(sys.executable, tmp_path / "log", FAKE) as client:
        try:
            client.run(Reconstruct(workspace=str(root)))
        except In2nError as error:
            assert error.code == "cannot_write" and name == journal.LOCK_NAME
    assert mine.read_text() == "mine"


def within_two_seconds(work):
    """What work returned or raised; fails where it waits."""
    ended = []

    def run():
        try:
            ended.append(work())
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert ended, "it waits"
    return ended[0]


@POSIX
@pytest.mark.parametrize(
    "read_it",
    [
        lambda path: PinholeCapture.load(path),
        lambda path: CameraPath.load(path),
        lambda path: read_region(path),
        lambda path: read_json(path),
        lambda path: stages.read_stages(path),
        lambda path: read(path),
        lambda path: imported.load_capture(Workspace(path.parent)),
    ],
    ids=["capture.json", "camera path", "region", "json", "stages", "capture", "workspace"],
)
@pytest.mark.parametrize("name", ["capture.json", "a.ply", "transforms.json"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path, read_it, name):
    os.mkfifo(tmp_path / name)
    assert isinstance(within_two_seconds(lambda: read_it(tmp_path / name)), (In2nError, dict))


@POSIX
def test_pipes_among_the_photos_are_not_waited_for(tmp_path):
    write_transforms(tmp_path / "c")
    (tmp_path / "c/images/001.png").unlink()
    os.mkfifo(tmp_path / "c/images/001.png")
    capture = within_two_seconds(lambda: read(tmp_path / "c"))
    assert len(capture.frames) == 4 and capture.missing == ("001",)
