"""COLMAP models against pycolmap, which writes them."""

import numpy as np
import pycolmap
import pytest

from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.lens import distort
from in2n_blender.scene.readers import read as read_capture
from tests.scene.captures import write_png

# model -> parameters for a photo of 64 x 48
PARAMETERS = {
    "SIMPLE_PINHOLE": [60, 31, 25],
    "PINHOLE": [60, 62, 31, 25],
    "SIMPLE_RADIAL": [60, 31, 25, -0.1],
    "RADIAL": [60, 31, 25, -0.1, 0.03],
    "OPENCV": [60, 62, 31, 25, -0.1, 0.03, 1e-3, -2e-3],
    "OPENCV_FISHEYE": [60, 62, 31, 25, -0.02, 0.01, -0.003, 0.001],
    "FULL_OPENCV": [60, 62, 31, 25, 0.2, -0.1, 1e-3, -2e-3, 0.02, 0.3, -0.05, 0.01],
    "SIMPLE_RADIAL_FISHEYE": [60, 31, 25, -0.02],
    "RADIAL_FISHEYE": [60, 31, 25, -0.02, 0.01],
    "SIMPLE_FISHEYE": [60, 31, 25],
    "FISHEYE": [60, 62, 31, 25],
    "FOV": [60, 62, 31, 25, 0.7],
    "THIN_PRISM_FISHEYE": [60, 62, 31, 25, -0.02, 0.01, 1e-3, -2e-3, -0.003, 0.001, 2e-3, -1e-3],
    "RAD_TAN_THIN_PRISM_FISHEYE": [60, 62, 31, 25, -0.02, 0.01, -3e-3, 1e-3, 2e-4, 1e-4]
    + [1e-3, -2e-3, 2e-3, -1e-3, 3e-3, 5e-4],
    "SIMPLE_DIVISION": [60, 31, 25, -0.1],
    "DIVISION": [60, 62, 31, 25, -0.2],
    "EUCM": [60, 62, 31, 25, 0.4, 1.2],
}


def reconstruction(models=tuple(PARAMETERS), images_per_model=1, size=(64, 48), parameters=PARAMETERS):
    rng = np.random.default_rng(0)
    model = pycolmap.Reconstruction()
    number = 0
    for camera, name in enumerate(models, 1):
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(camera_id=camera, model=name, width=size[0], height=size[1], params=parameters[name])
        )
        for _ in range(images_per_model):
            number += 1
            points = pycolmap.Point2DList(
                [pycolmap.Point2D(rng.uniform(0, 48, 2)) for _ in range(5 * (number % 3 == 2))]
            )
            image = pycolmap.Image(
                name=f"a folder/{name} {number}.png", camera_id=camera, image_id=number, points2D=points
            )
            quaternion = rng.normal(size=4)
            pose = pycolmap.Rigid3d(pycolmap.Rotation3d(quaternion / np.linalg.norm(quaternion)), rng.normal(size=3))
            model.add_image_with_trivial_frame(image, pose)
    for i in range(5):
        track = pycolmap.Track()
        track.add_element(2, i)
        model.add_point3D(rng.normal(size=3), track, np.array([i, 100, 255], np.uint8))
    return model


def write(model, folder, form="bin"):
    folder.mkdir(parents=True, exist_ok=True)
    model.write_binary(str(folder)) if form == "bin" else model.write_text(str(folder))


def write_photos(model, folder):
    for image in model.images.values():
        camera = model.cameras[image.camera_id]
        write_png(folder / image.name, camera.width, camera.height)


def assert_same(capture, model):
    """Every world point in front of a camera falls on the pixel that COLMAP says."""
    images = {f"{image.name}": image for image in model.images.values()}
    assert len(capture.frames) == len(images)
    for frame in capture.frames:
        image = images[f"a folder/{frame.photo.name}"]
        camera = model.cameras[image.camera_id]
        in_camera = np.random.default_rng(1).uniform([-0.4, -0.4, 1], [0.4, 0.4, 3], (20, 3)) * [1, 1, 1]
        in_camera[:, :2] *= in_camera[:, 2:]
        expected = np.stack([camera.img_from_cam(p) for p in in_camera])
        world = np.stack([image.cam_from_world().inverse() * p for p in in_camera])
        local = (np.c_[world, np.ones(len(world))] @ np.linalg.inv(frame.camera_to_world).T)[:, :3]
        pixels = distort(frame.lens, np.c_[local[:, 0] / -local[:, 2], local[:, 1] / local[:, 2]])
        np.testing.assert_allclose(local * [1, -1, -1], in_camera, atol=1e-9)
        np.testing.assert_allclose(pixels, expected, atol=1e-6)
    points = {tuple(p.color): p.xyz for p in model.points3D.values()}
    assert len(capture.points) == len(points) == 5
    np.testing.assert_allclose(capture.points, [points[tuple(c)] for c in capture.point_colors], atol=1e-6)


@pytest.mark.parametrize("form", ["bin", "txt"])
def test_poses_lenses_and_points_are_colmaps(tmp_path, form):
    model = reconstruction()
    write(model, tmp_path / "sparse/0", form)
    write_photos(model, tmp_path / "images")
    assert_same(read_capture(tmp_path), model)


@pytest.mark.parametrize("given", ["", "sparse", "sparse/0", "sparse/0/cameras.bin"])
@pytest.mark.parametrize("below", ["", "colmap"])
def test_any_folder_of_the_project_can_be_given(tmp_path, given, below):
    model = reconstruction(["SIMPLE_RADIAL"], 3)
    write(model, tmp_path / "dog" / below / "sparse/0")
    write_photos(model, tmp_path / "dog/images")
    capture = read_capture(tmp_path / "dog" / (below if given else "") / given)
    assert len(capture.frames) == 3 and capture.name == "dog"


def test_the_largest_of_several_models_is_taken(tmp_path):
    large, small = reconstruction(["PINHOLE"], 5), reconstruction(["PINHOLE"], 3)
    write(small, tmp_path / "sparse/0")
    write(large, tmp_path / "sparse/1")
    write_photos(large, tmp_path / "images")
    assert len(read_capture(tmp_path).frames) == 5


def test_missing_photos_are_counted_and_different_sizes_kept(tmp_path):
    model = reconstruction(["PINHOLE", "OPENCV"], 3)
    write(model, tmp_path / "sparse/0")
    write_photos(model, tmp_path / "images")
    for number in (2, 3):
        (tmp_path / f"images/a folder/PINHOLE {number}.png").unlink()
    # photos at half the size of the calibration
    for number in (4, 5, 6):
        write_png(tmp_path / f"images/a folder/OPENCV {number}.png", 32, 24)
    capture = read_capture(tmp_path)
    assert capture.missing == ("PINHOLE_2", "PINHOLE_3")
    assert [(f.lens.intrinsics.width, f.lens.intrinsics.fx, f.lens.intrinsics.cy) for f in capture.frames] == [
        (32, 30.0, 12.5)
    ] * 3 + [(64, 60.0, 25.0)]


@pytest.mark.parametrize("form", ["bin", "txt"])
def test_an_unknown_camera_model_is_named(tmp_path, form):
    model = reconstruction(["FOV"], 3)
    write(model, tmp_path, form)
    write_photos(model, tmp_path / "images")
    file = tmp_path / f"cameras.{form}"
    data = file.read_bytes()
    file.write_bytes(data.replace(b"FOV", b"MAGIC") if form == "txt" else data[:12] + b"\x63" + data[13:])
    with pytest.raises(In2nError, match="MAGIC|99") as caught:
        read_capture(tmp_path)
    assert caught.value.code == "unknown_camera_model"


@pytest.mark.parametrize("stem", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("form", ["bin", "txt"])
def test_a_truncated_model_is_one_sentence(tmp_path, stem, form):
    model = reconstruction(["PINHOLE"], 3)
    write(model, tmp_path, form)
    write_photos(model, tmp_path / "images")
    path = tmp_path / f"{stem}.{form}"
    data = path.read_bytes().rstrip()
    # in the text form, inside the last line
    cut = len(data) - 20 if form == "bin" else data.rindex(b"\n") + 6
    path.write_bytes(data[:cut])
    with pytest.raises(In2nError) as caught:
        read_capture(tmp_path)
    assert caught.value.code == "bad_colmap" and path.name in caught.value.message


def test_a_camera_that_is_not_listed(tmp_path):
    model = reconstruction(["PINHOLE"], 3)
    write(model, tmp_path, "txt")
    write_photos(model, tmp_path / "images")
    (tmp_path / "cameras.txt").write_text("9 PINHOLE 64 48 60 62 31 25\n")
    with pytest.raises(In2nError, match="camera 1") as caught:
        read_capture(tmp_path)
    assert caught.value.code == "bad_colmap"


def test_a_quaternion_of_no_length(tmp_path):
    write(reconstruction(["PINHOLE"], 3), tmp_path, "txt")
    (tmp_path / "images.txt").write_text("1 0 0 0 0 1 2 3 1 a.png\n\n")
    write_png(tmp_path / "images/a.png", 64, 48)
    with pytest.raises(In2nError) as caught:
        read_capture(tmp_path)
    assert caught.value.code == "bad_matrix"


def test_no_photos_beside_the_model(tmp_path):
    write(reconstruction(["PINHOLE"], 3), tmp_path / "sparse/0")
    with pytest.raises(In2nError, match="None of the 3 photos") as caught:
        read_capture(tmp_path)
    assert caught.value.code == "no_photos"


@pytest.mark.parametrize("value", ["256", "-1"])
def test_a_point_of_no_colour(tmp_path, value):
    model = reconstruction(["PINHOLE"], 3)
    write(model, tmp_path, "txt")
    write_photos(model, tmp_path / "images")
    (tmp_path / "points3D.txt").write_text(f"1 0 0 0 10 {value} 10 0.5\n")
    with pytest.raises(In2nError) as caught:
        read_capture(tmp_path)
    assert caught.value.code == "bad_colmap" and "points3D.txt" in caught.value.message


def test_a_rig_of_two_cameras(tmp_path):
    """COLMAP since 3.12 keeps rigs and frames in files of their own; an image's pose is of both."""
    model, rng = pycolmap.Reconstruction(), np.random.default_rng(3)
    unit = lambda: pycolmap.Rotation3d((lambda q: q / np.linalg.norm(q))(rng.normal(size=4)))
    for camera in (1, 2):
        model.add_camera(
            pycolmap.Camera(camera_id=camera, model="OPENCV", width=64, height=48, params=PARAMETERS["OPENCV"])
        )
    sensors = [pycolmap.sensor_t(pycolmap.SensorType.CAMERA, camera) for camera in (1, 2)]
    rig = pycolmap.Rig(rig_id=1)
    rig.add_ref_sensor(sensors[0])
    rig.add_sensor(sensors[1], pycolmap.Rigid3d(unit(), rng.normal(size=3)))
    model.add_rig(rig)
    number = 0
    for moment in (1, 2, 3):
        frame = pycolmap.Frame(frame_id=moment, rig_id=1, rig_from_world=pycolmap.Rigid3d(unit(), rng.normal(size=3)))
        for camera in (1, 2):
            frame.add_data_id(pycolmap.data_t(sensors[camera - 1], number + camera))
        model.add_frame(frame)
        for camera in (1, 2):
            name = f"a folder/cam{camera} {moment}.png"
            model.add_image(pycolmap.Image(name=name, camera_id=camera, image_id=number + camera, frame_id=moment))
        model.register_frame(moment)
        number += 2
    for i in range(5):
        model.add_point3D(rng.normal(size=3), pycolmap.Track(), np.array([i, 100, 255], np.uint8))
    write(model, tmp_path / "sparse/0")
    assert (tmp_path / "sparse/0/rigs.bin").is_file() and (tmp_path / "sparse/0/frames.bin").is_file()
    write_photos(model, tmp_path / "images")
    assert_same(read_capture(tmp_path), model)
