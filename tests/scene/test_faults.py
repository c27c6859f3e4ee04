"""What real tools leave, and what must come of it: one test a kind of fault, with a capture of its own."""

import json
import math
import unicodedata

import numpy as np
import pytest
from PIL import Image

from in2n_blender.scene.capture import pinhole_capture
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.parallax import in_one_place
from in2n_blender.scene.readers import read as read_capture
from tests.scene.captures import look_at, ring, write_colmap, write_png, write_transforms

DISTORTED = ("SIMPLE_RADIAL", 12, 8, (10.0, 6.0, 4.0, -0.2))


def names_of(capture):
    return [frame.name for frame in capture.frames]


def rename_frames(folder, rename):
    table = json.loads((folder / "transforms.json").read_text())
    for number, frame in enumerate(table["frames"]):
        frame["file_path"] = rename(number, frame["file_path"])
    (folder / "transforms.json").write_text(json.dumps(table), encoding="utf-8")


def test_square_photos_are_never_turned(tmp_path):
    write_transforms(tmp_path / "nerfstudio", size=(9, 9), photos=False)
    write_colmap(
        tmp_path / "colmap/sparse/0", [f"{i:03d}.png" for i in range(5)], camera=("PINHOLE", 9, 9, (9, 9, 4, 4))
    )
    for folder in ("nerfstudio", "colmap"):
        for i, orientation in enumerate((6, 8, 3, 1, 5)):
            write_png(tmp_path / folder / f"images/{i:03d}.png", 9, 9, orientation=orientation)
        assert [f.orientation for f in read_capture(tmp_path / folder).frames] == [1] * 5


@pytest.mark.parametrize("sizes", [((12, 8), (12, 8)), ((12, 8), (24, 16))])
def test_the_photos_of_the_models_own_kind_are_taken(tmp_path, sizes):
    """As gaussian-splatting's convert.py leaves them: one name, photos in input/, undistorted ones in images/."""
    names = [f"{i}.png" for i in range(4)]
    write_colmap(tmp_path / "distorted/sparse/0", names, camera=DISTORTED)
    write_colmap(tmp_path / "sparse/0", names)
    for name in names:
        write_png(tmp_path / "input" / name, *sizes[0])
        write_png(tmp_path / "images" / name, *sizes[1])
    for given, folder in (("distorted/sparse/0", "input"), ("sparse/0", "images"), ("", "images")):
        if folder == "images" and sizes[1] != (12, 8):
            continue
        capture = read_capture(tmp_path / given)
        assert {frame.photo.parent.name for frame in capture.frames} == {folder} and capture.notes == ()


def test_the_size_of_the_photos_decides_between_folders(tmp_path):
    names = [f"{i}.png" for i in range(4)]
    write_colmap(tmp_path / "sparse/0", names)
    for name in names:
        write_png(tmp_path / "images" / name, 13, 13)
        write_png(tmp_path / "input" / name, 12, 8)
    assert {frame.photo.parent.name for frame in read_capture(tmp_path).frames} == {"input"}


def test_photos_of_another_kind_than_the_models_are_said(tmp_path):
    names = [f"{i}.png" for i in range(4)]
    write_colmap(tmp_path / "sparse/0", names)
    write_colmap(tmp_path / "distorted/sparse/0", names, camera=DISTORTED)
    for name in names:
        write_png(tmp_path / "images" / name)
    (note,) = read_capture(tmp_path / "distorted/sparse/0").notes
    assert "images" in note and "undistorted" in note


@pytest.mark.parametrize(
    "place", ["dense/0/sparse", "dense/sparse", "colmap_sparse/0", "distorted/sparse/0", "undistorted/sparse"]
)
def test_the_layouts_of_known_tools(tmp_path, place):
    write_colmap(tmp_path / "dog" / place, [f"{i}.png" for i in range(3)])
    photos = tmp_path / "dog" / (place.rsplit("/sparse", 1)[0] if "dense" in place else "") / "images"
    for i in range(3):
        write_png(photos / f"{i}.png")
    capture = read_capture(tmp_path / "dog")
    assert len(capture.frames) == 3 and capture.name == "dog"


def test_images_txt_without_its_empty_lines(tmp_path):
    names = [f"frame {i} of 5.png" if i % 2 else f"{i}.png" for i in range(5)]
    write_colmap(tmp_path / "sparse/0", names, form="txt")
    file = tmp_path / "sparse/0/images.txt"
    lines = [line for line in file.read_text().splitlines() if line]
    for i in range(5):
        write_png(tmp_path / "images" / names[i])
    file.write_text("\n".join(lines))
    bare = read_capture(tmp_path)
    lines.insert(1, "1.5 2.5 -1 3.0 4.0 17")  # some have 2D points
    lines.insert(3, "")
    file.write_text("# with a comment\n" + "\n".join(lines) + "\n\n")
    mixed = read_capture(tmp_path)
    for capture in (bare, mixed):
        assert len(capture.frames) == 5
        for frame in capture.frames:
            pose = ring(5)[names.index(frame.photo.name)]
            np.testing.assert_allclose(frame.camera_to_world, pose, atol=1e-9)


@pytest.mark.parametrize(
    "page, names", [("cp1252", "Grün 1,Grün 2,Große 3"), ("cp936", "照片1,照片2,雪3"), ("cp932", "写真1,写真2,あめ3")]
)
def test_names_in_the_code_page_of_a_windows(tmp_path, page, names):
    names = [f"{name}.png" for name in names.split(",")]
    for form in ("bin", "txt"):
        write_colmap(tmp_path / form / "sparse/0", names, form=form, encoding=page)
        for name in names:
            write_png(tmp_path / form / "images" / name)
        capture = read_capture(tmp_path / form)
        assert {frame.photo.name for frame in capture.frames} == set(names)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_composed_or_not_and_case(tmp_path, form):
    write_transforms(tmp_path, ring(3), photos=False)
    rename_frames(tmp_path, lambda i, _: unicodedata.normalize(form, f"Images/Übung {i}.PNG"))
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    for i in range(3):
        write_png(tmp_path / "images" / unicodedata.normalize(other, f"übung {i}.png"))
    assert len(read_capture(tmp_path).frames) == 3


def test_case_alone_does_not_choose_between_two_photos(tmp_path):
    write_transforms(tmp_path, ring(4))
    (tmp_path / "images/000.png").rename(tmp_path / "images/A.png")
    write_png(tmp_path / "images/a.PNG")
    if len(list((tmp_path / "images").iterdir())) < 5:
        pytest.skip("this file system has no two such names")
    rename_frames(tmp_path, lambda i, label: "images/a.png" if i == 0 else label)
    assert read_capture(tmp_path).missing == ("a",)


@pytest.mark.parametrize("form", ["bin", "txt"])
def test_backslashes_in_a_colmap_model(tmp_path, form):
    names = [f"cam{camera}\\IMG_{i}.png" for camera in range(2) for i in range(2)]
    write_colmap(tmp_path / "sparse/0", names, form=form)
    for name in names:
        write_png(tmp_path / "images" / name.replace("\\", "/"))
    assert names_of(read_capture(tmp_path)) == ["cam0_IMG_0", "cam0_IMG_1", "cam1_IMG_0", "cam1_IMG_1"]


@pytest.mark.parametrize("there", ["images/{}.png", "images_4/{}.png", "{}.png"])
def test_absolute_paths_of_another_machine(tmp_path, there):
    write_transforms(tmp_path, ring(4), photos=False)
    rename_frames(tmp_path, lambda i, _: (f"D:\\yard\\images\\{i}.png", f"/home/me/yard/images/{i}.png")[i % 2])
    for i in range(4):
        write_png(tmp_path / there.format(i))
    assert names_of(read_capture(tmp_path)) == ["0", "1", "2", "3"]


def test_two_absolute_paths_never_take_one_photo(tmp_path):
    write_transforms(tmp_path, ring(5), photos=False)
    rename_frames(tmp_path, lambda i, _: f"/other/cam{i % 2}/images/{i // 2}.png")
    for i in range(3):
        write_png(tmp_path / f"images/{i}.png")
    photos = [frame.photo for frame in read_capture(tmp_path).frames]
    assert len(photos) == len(set(photos)) == 3


def test_a_photo_of_another_folder_is_not_the_missing_one(tmp_path):
    write_transforms(tmp_path, ring(5))
    rename_frames(tmp_path, lambda i, label: "images/cam1/000.png" if i == 0 else label)
    capture = read_capture(tmp_path)
    assert capture.missing == ("000",) and len(capture.frames) == 4


def test_photos_scaled_down_scale_the_lens(tmp_path):
    names = [f"{i}.png" for i in range(4)]
    write_colmap(tmp_path / "sparse/0", names, camera=("PINHOLE", 637, 447, (600.0, 600.0, 318.5, 223.5)))
    for name in names:
        write_png(tmp_path / "images_4" / name, 160, 112)
    k = read_capture(tmp_path).frames[0].lens.intrinsics
    assert (
        (k.width, k.height) == (160, 112) and k.fx == pytest.approx(150, abs=1) and k.cx == pytest.approx(80, abs=0.1)
    )


@pytest.mark.parametrize("where", ["file", "frame"])
def test_x_fov_is_in_degrees(tmp_path, where):
    angle = {"x_fov": math.degrees(2 * math.atan(6 / 10)), "y_fov": math.degrees(2 * math.atan(4 / 11))}
    write_transforms(tmp_path, fl_x=None, fl_y=None, **(angle if where == "file" else {}))
    if where == "frame":
        table = json.loads((tmp_path / "transforms.json").read_text())
        [frame.update(angle) for frame in table["frames"]]
        (tmp_path / "transforms.json").write_text(json.dumps(table))
    k = read_capture(tmp_path).frames[0].lens.intrinsics
    assert (k.fx, k.fy) == pytest.approx((10, 11))


def test_one_bad_frame_costs_itself(tmp_path):
    write_transforms(tmp_path, ring(9))
    table = json.loads((tmp_path / "transforms.json").read_text())
    frames = table["frames"]
    frames[0]["transform_matrix"][0][3] = math.nan
    frames[1].update(w=8, h=12, fl_x=10)
    frames[2].update(k1=40.0, cx=-500)
    frames[3].update(camera_model="MAGIC")
    del frames[4]["transform_matrix"]
    del frames[5]["file_path"]
    (tmp_path / "transforms.json").write_text(json.dumps(table))
    capture = read_capture(tmp_path)
    assert names_of(capture) == ["006", "007", "008"]
    said = {"000": "NaN", "001": "8 x 12", "002": "undistorted", "003": "MAGIC", "004": "transform_matrix"}
    assert all(word in capture.unusable[name] for name, word in said.items())
    assert "frame_6" in capture.unusable
    assert set(pinhole_capture(capture, 100).missing) == set(capture.unusable)


def test_one_bad_lens_of_a_colmap_model_costs_its_photo(tmp_path):
    write_colmap(tmp_path / "sparse/0", [f"{i}.png" for i in range(4)], form="txt")
    with open(tmp_path / "sparse/0/cameras.txt", "a") as file:
        file.write("2 OPENCV 12 8 10 10 -600 4 40 0 0 0\n")
    images = tmp_path / "sparse/0/images.txt"
    images.write_text(images.read_text().replace(" 1 2.png", " 2 2.png").replace(" 1 1.png", " 7 1.png"))
    for i in range(5):
        write_png(tmp_path / f"images/{i}.png")
    write_colmap(tmp_path / "sparse/0", [], form="bin")
    (tmp_path / "sparse/0/images.bin").unlink(), (tmp_path / "sparse/0/cameras.bin").unlink()
    images.write_text(images.read_text() + "9 1 0 0 0 0 0 5 1 4.png\n\n")
    capture = read_capture(tmp_path)
    assert names_of(capture) == ["0", "3", "4"]
    assert "undistorted" in capture.unusable["2"] and "camera 7" in capture.unusable["1"]


def test_other_models_of_the_same_photos_are_said(tmp_path):
    names = [f"{i}.png" for i in range(9)]
    for number, part in enumerate((names[:2], names[2:7], names[7:])):
        write_colmap(tmp_path / f"sparse/{number}", part)
    for name in names:
        write_png(tmp_path / "images" / name)
    capture = read_capture(tmp_path)
    assert len(capture.frames) == 5
    (note,) = capture.notes
    assert "sparse/0 (2 photos)" in note and "sparse/2 (2 photos)" in note
    assert pinhole_capture(capture, 100).notes == capture.notes


def test_cameras_in_one_place_are_said(tmp_path):
    here = [look_at((1e-7 * i, 2, 1), (math.cos(i), 2 + math.sin(i), 1)) for i in range(6)]
    write_transforms(tmp_path / "one", here)
    write_transforms(tmp_path / "ring", ring(6))
    (note,) = read_capture(tmp_path / "one").notes
    assert "one place" in note and read_capture(tmp_path / "ring").notes == ()


def test_what_counts_as_one_place():
    far = np.random.default_rng(0).normal(size=(50, 3)) + [0, 0, 100]
    across = np.array([[x, 0, 0] for x in (0.0, 1.0, 2.0)])
    assert not in_one_place(across, far) and in_one_place(across * 0.01, far)
    assert not in_one_place(across * 0.01, far[:0]) and not in_one_place(across * 1e-3, far * 1e-3)  # a coin in metres
    assert in_one_place(across * 0 + 4.4e6, far[:0])


@pytest.mark.parametrize("keys", [("train_filenames",), ("train_filenames", "val_filenames")])
def test_split_lists_that_name_nothing_are_named(tmp_path, keys):
    write_transforms(tmp_path, **{key: ["images/000.jpg"] for key in keys})
    with pytest.raises(In2nError) as caught:
        read_capture(tmp_path)
    assert all(key in caught.value.message for key in keys)


@pytest.mark.parametrize(
    "data, form", [(b"\x76\x2f\x31\x01" + bytes(40), "OpenEXR"), (bytes(4) + b"ftypheic" + bytes(40), "HEIC")]
)
def test_formats_that_nothing_reads_are_named(tmp_path, data, form):
    size = {"w": None, "h": None} if form == "HEIC" else {}  # with a size, the engine will try
    write_transforms(tmp_path, ring(4), photos=False, **size)
    for i in range(4):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / f"images/{i:03d}.png").write_bytes(data)
    with pytest.raises(In2nError) as caught:
        read_capture(tmp_path)
    assert form in caught.value.hint and "convert" in caught.value.hint
    for i in range(3):
        write_png(tmp_path / f"images/{i:03d}.png")
    assert form in read_capture(tmp_path).unusable["003"]


@pytest.mark.parametrize("extension", [".webp", ".bmp", ".gif"])
def test_photos_of_other_formats_without_a_listed_size(tmp_path, extension):
    write_transforms(tmp_path, ring(3), photos=False, w=None, h=None, fl_x=None, fl_y=None, camera_angle_x=1.0)
    rename_frames(tmp_path, lambda i, _: f"images/{i}{extension}")
    (tmp_path / "images").mkdir()
    for i in range(3):
        Image.new("RGB", (31, 17)).save(tmp_path / f"images/{i}{extension}")
    k = read_capture(tmp_path).frames[0].lens.intrinsics
    assert (k.width, k.height) == (31, 17)
