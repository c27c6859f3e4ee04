"""A small scene as many programs would leave it: each writer follows its program's own description of its files.

Beside the files every writer returns where the scene's points must appear in each photo, by the formula of that
program, in the numbers and axes that it wrote: nothing of the readers' is used.
"""

import json
import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from tests.scene.captures import quaternion, ring, write_colmap, write_png

SIZE = WIDTH, HEIGHT = 64, 48
FOCAL = 60.0
POSES = [np.asarray(pose) for pose in ring(6, radius=3.0, height=0.8)]
POINTS = np.random.default_rng(5).uniform(-0.7, 0.7, (25, 3))
NAMES = [f"IMG_{number:02d}.png" for number in range(len(POSES))]
FROM_Y_UP = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])  # x, y, z of a world with y up are y, z, x of one with z up


@dataclass
class Written:
    """What a writer made: the file to read, name -> (points, 2) pixels, the points in the capture's coordinates."""

    path: object
    pixels: dict
    points: np.ndarray = None
    has_points: bool = False


def photos(folder, names=NAMES, size=SIZE):
    for name in names:
        write_png(folder / name, *size)


def computer_vision(pose):
    """World-to-camera (3, 3) and (3,) with OpenCV's axes."""
    world_to_camera = np.diag([1, -1, -1]) @ pose[:3, :3].T
    return world_to_camera, -world_to_camera @ pose[:3, 3]


def at_depth_1(rotation, translation, points=POINTS):
    local = points @ rotation.T + translation
    assert (local[:, 2] > 0).all()
    return local[:, 0] / local[:, 2], local[:, 1] / local[:, 2]


def pixels_of(x, y, fx=FOCAL, fy=FOCAL, cx=WIDTH / 2, cy=HEIGHT / 2):
    return np.stack([fx * x + cx, fy * y + cy], -1)


def in_y_up(pose):
    """A pose of the scene in a world with y up."""
    turned = pose.copy()
    turned[:3] = FROM_Y_UP.T @ pose[:3]
    return turned


def metashape(folder, kind="frame"):
    """Two sensors, a group, a chunk transform, B1 and B2, P1 and P2."""
    photos(folder / "photos", [f"{name[:-4]}.PNG" for name in NAMES])
    f, cx, cy, b1, b2, k1, k2, k3, k4, p1, p2 = 60.0, 1.5, -0.75, 0.8, -0.4, -0.1, 0.03, 0.01, -0.002, 2e-3, -3e-3
    turn, scale, shift = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0], 2.5, np.array([10.0, -4, 7])
    turn *= np.linalg.det(turn)
    cameras, pixels = [], {}
    for number, (name, pose) in enumerate(zip(NAMES, POSES)):
        rotation, translation = computer_vision(pose)
        x, y = at_depth_1(rotation, translation)
        if kind == "fisheye":
            radius = np.hypot(x, y)
            x, y = x * np.arctan(radius) / radius, y * np.arctan(radius) / radius
        r2 = x * x + y * y
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + k4 * r2**4
        bent_x = x * radial + p1 * (r2 + 2 * x * x) + 2 * p2 * x * y
        bent_y = y * radial + p2 * (r2 + 2 * y * y) + 2 * p1 * x * y
        u = WIDTH / 2 + cx + bent_x * f + bent_x * b1 + bent_y * b2
        v = HEIGHT / 2 + cy + bent_y * f
        pixels[name[:-4]] = np.stack([u, v], -1)
        in_chunk = np.eye(4)  # world = scale turn chunk + shift
        in_chunk[:3, :3] = turn.T @ rotation.T
        in_chunk[:3, 3] = turn.T @ (pose[:3, 3] - shift) / scale
        numbers = " ".join(map(repr, in_chunk.ravel().tolist()))
        cameras.append(
            f'<camera id="{number}" sensor_id="{number % 2}" label="{name[:-4]}"><transform>{numbers}</transform>'
            "</camera>"
        )
    cameras.append('<camera id="90" sensor_id="0" label="IMG_90" enabled="0"/>')
    calibration = "".join(
        f"<{key}>{value}</{key}>"
        for key, value in zip("f cx cy b1 b2 k1 k2 k3 k4 p1 p2".split(), (f, cx, cy, b1, b2, k1, k2, k3, k4, p1, p2))
    )
    sensors = "".join(
        f'<sensor id="{i}" label="x" type="{kind}"><resolution width="{WIDTH}" height="{HEIGHT}"/>'
        f'<calibration type="{kind}" class="initial"><f>10</f></calibration>'
        f'<calibration type="{kind}" class="adjusted"><resolution width="{WIDTH}" height="{HEIGHT}"/>{calibration}'
        "</calibration></sensor>"
        for i in range(2)
    )
    text = lambda values: " ".join(map(repr, np.asarray(values).ravel().tolist()))
    (folder / "cameras.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<document version="2.0.0"><chunk label="Chunk 1" enabled="true">'
        f"<sensors>{sensors}</sensors><cameras>{''.join(cameras[:3])}"
        f"<group id='0' label='g'>{''.join(cameras[3:])}</group>"
        f"</cameras><transform><rotation locked='false'>{text(turn)}</rotation>"
        f"<translation>{text(shift)}</translation>"
        f"<scale>{scale}</scale></transform></chunk></document>"
    )
    return Written(folder / "cameras.xml", pixels)


def realityscan_table(folder):
    """The camera looks down with the top of its picture northward where heading, pitch and roll are 0."""
    photos(folder / "images")
    f, px, py, k1, k2, k3, t1, t2 = 33.0, 0.01, -0.02, -0.08, 0.02, 0.004, 1e-3, -2e-3
    longer, rows, pixels = max(SIZE), ["#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"], {}
    for name, pose in zip(NAMES, POSES):
        forward = -pose[:3, 2]
        heading = math.degrees(math.atan2(forward[0], forward[1]))  # clockwise from north, which is y
        pitch = math.degrees(math.acos(-forward[2]))  # up from straight down
        place = ",".join(map(repr, pose[:3, 3].tolist()))
        rows.append(f"{name},{place},{heading!r},{pitch!r},0,{f},{px},{py},{k1},{k2},{k3},0,{t1},{t2}")
        x, y = at_depth_1(*computer_vision(pose))
        # its own export for OpenCV writes k1, k2, t2, t1, k3, k4
        pixels[name[:-4]] = _brown(x, y, k1, k2, k3, t2, t1, f * longer / 36, px * longer, py * longer)
    (folder / "cameras.csv").write_text("\n".join(rows) + "\n")
    return Written(folder / "cameras.csv", pixels)


def _brown(x, y, k1, k2, k3, p1, p2, f, dx=0.0, dy=0.0):
    """OpenCV's formula."""
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    bent_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    bent_y = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return np.stack([WIDTH / 2 + dx + f * bent_x, HEIGHT / 2 + dy + f * bent_y], -1)


def realityscan_xmp(folder):
    photos(folder / "images")
    longer, pixels = max(SIZE), {}
    for name, pose in zip(NAMES, POSES):
        rotation, translation = computer_vision(pose)
        x, y = at_depth_1(rotation, translation)
        pixels[name[:-4]] = _brown(x, y, -0.08, 0.02, 0.004, 0, 0, 33 * longer / 36, 0.01 * longer, -0.02 * longer)
        text = lambda values: " ".join(map(repr, np.asarray(values).ravel().tolist()))
        (folder / f"images/{name[:-4]}.xmp").write_text(
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            '<rdf:Description xcr:Version="3" xcr:PosePrior="initial" xcr:Coordinates="absolute" '
            'xcr:DistortionModel="brown3" xcr:FocalLength35mm="33" xcr:Skew="0" xcr:AspectRatio="1" '
            'xcr:PrincipalPointU="0.01" xcr:PrincipalPointV="-0.02" '
            'xmlns:xcr="http://www.capturingreality.com/ns/xcr/1.1#">'
            f"<xcr:Rotation>{text(rotation)}</xcr:Rotation><xcr:Position>{text(pose[:3, 3])}</xcr:Position>"
            "<xcr:DistortionCoeficients>-0.08 0.02 0.004 0 0 0</xcr:DistortionCoeficients>"
            "</rdf:Description></rdf:RDF></x:xmpmeta>"
        )
    return Written(folder, pixels)


def polycam(folder):
    """ARKit's world, y up; tracked cameras that are off lie beside the corrected ones."""
    keyframes, pixels = folder / "keyframes", {}
    for kind, images in (("cameras", "images"), ("corrected_cameras", "corrected_images")):
        photos(keyframes / images)
        (keyframes / kind).mkdir(parents=True)
        for name, pose in zip(NAMES, POSES):
            camera = in_y_up(pose)
            if kind == "cameras":
                camera[:3, 3] += 0.1
            table = {f"t_{i}{j}": camera[i, j] for i in range(3) for j in range(4)}
            table |= {"fx": 61.0, "fy": 62.0, "cx": 31.0, "cy": 25.5, "width": WIDTH, "height": HEIGHT, "blur_score": 9}
            (keyframes / kind / f"{name[:-4]}.json").write_text(json.dumps(table))
            if kind == "corrected_cameras":
                local = (POINTS @ FROM_Y_UP - camera[:3, 3]) @ camera[:3, :3]  # OpenGL's axes
                pixels[name[:-4]] = pixels_of(local[:, 0] / -local[:, 2], local[:, 1] / local[:, 2], 61, 62, 31, 25.5)
    return Written(folder, pixels)


def meshroom(folder, version=(1, 2, 6)):
    """Rotations column by column; focal lengths in millimetres and centres from the middle, or as older versions."""
    photos(folder / "images")
    new, k = version >= (1, 2, 2), (-0.08, 0.02, 0.004)
    table = {"version": [str(v) for v in version], "views": [], "intrinsics": [], "poses": [], "structure": []}
    intrinsics = {
        "intrinsicId": "7",
        "width": str(WIDTH),
        "height": str(HEIGHT),
        "type": "radial3" if new else "radial3",
    }
    if new:
        intrinsics |= {"type": "pinhole", "distortionType": "radialk3", "focalLength": "33.75", "sensorWidth": "36"}
        intrinsics |= {"sensorHeight": "27", "pixelRatio": "1", "principalPoint": ["1.5", "-0.5"]}
    else:
        intrinsics |= {"pxFocalLength": "60", "principalPoint": [str(WIDTH / 2 + 1.5), str(HEIGHT / 2 - 0.5)]}
    table["intrinsics"].append(intrinsics | {"distortionParams": [str(v) for v in k]})
    pixels = {}
    for number, (name, pose) in enumerate(zip(NAMES, POSES)):
        rotation, translation = computer_vision(pose)
        table["views"].append(
            {"viewId": f"{number}", "poseId": f"{number}", "intrinsicId": "7", "path": f"C:/other/machine/{name}"}
        )
        columns = [repr(v) for v in rotation.T.ravel().tolist()]
        centre = [repr(v) for v in pose[:3, 3].tolist()]
        transform = {"rotation": columns, "center": centre}
        table["poses"].append({"poseId": f"{number}", "pose": {"transform": transform, "locked": "0"}})
        pixels[name[:-4]] = _brown(*at_depth_1(rotation, translation), *k, 0, 0, 60.0, 1.5, -0.5)
    table["views"].append({"viewId": "99", "poseId": "99", "intrinsicId": "7", "path": "/other/IMG_99.png"})
    for number, point in enumerate(POINTS.tolist()):
        table["structure"].append({"landmarkId": f"{number}", "color": ["9", "8", "7"], "X": [repr(v) for v in point]})
    (folder / "cameras.sfm").write_text(json.dumps(table))
    return Written(folder / "cameras.sfm", pixels, has_points=True)


def meshroom_of_2019(folder):
    return meshroom(folder, (1, 0, 0))


def meshroom_of_lens(folder, version, camera, seen):
    """The scene with a camera of another kind; seen(x, y) are its pixels of directions at depth 1."""
    written = meshroom(folder, version)
    table = json.loads(written.path.read_text())
    for key in ("distortionType", "distortionParams"):
        table["intrinsics"][0].pop(key, None)
    table["intrinsics"][0] |= camera
    written.path.write_text(json.dumps(table))
    for name, pose in zip(NAMES, POSES):
        written.pixels[name[:-4]] = seen(*at_depth_1(*computer_vision(pose)))
    return written


def where_straightened(straighten, x, y):
    """The pixels that a function moves to pixels x, y: solved one by one."""
    found = []
    for wanted in zip(x, y):
        off = lambda place, wanted=wanted: np.subtract(straighten(*place), wanted)
        solved = least_squares(off, wanted, xtol=1e-14, ftol=1e-14, gtol=1e-14)
        assert np.abs(solved.fun).max() < 1e-8
        found.append(solved.x)
    return np.array(found)


def opensfm(folder):
    photos(folder / "images")
    camera = {"projection_type": "brown", "width": WIDTH, "height": HEIGHT, "focal_x": 0.95, "focal_y": 0.95}
    camera |= {"c_x": 0.01, "c_y": -0.02, "k1": -0.08, "k2": 0.02, "k3": 0.004, "p1": 1e-3, "p2": -2e-3}
    shots, pixels = {}, {}
    for name, pose in zip(NAMES, POSES):
        rotation, translation = computer_vision(pose)
        w, *vector = quaternion(rotation)
        angle, length = 2 * math.atan2(np.linalg.norm(vector), w), np.linalg.norm(vector)
        shots[name] = {
            "rotation": (np.array(vector) / length * angle).tolist(),
            "translation": translation.tolist(),
            "camera": "c",
        }
        x, y = at_depth_1(rotation, translation)
        pixels[name[:-4]] = _brown(x, y, -0.08, 0.02, 0.004, 1e-3, -2e-3, 0.95 * WIDTH, 0.01 * WIDTH, -0.02 * WIDTH)
    points = {f"{i}": {"color": [9, 8, 7], "coordinates": p} for i, p in enumerate(POINTS.tolist())}
    small = {"cameras": {"c": camera}, "shots": dict(list(shots.items())[:1]), "points": {}}
    whole = {"cameras": {"c": camera}, "shots": shots, "points": points}
    (folder / "opensfm").mkdir()
    (folder / "opensfm/reconstruction.json").write_text(json.dumps([small, whole]))
    return Written(folder, pixels, has_points=True)


def nvm(folder):
    """What is in the photo, times 1 + d r^2, is the direction: found here by bisection."""
    photos(folder)
    bend, rows, pixels = 0.12, [], {}
    for name, pose in zip(NAMES, POSES):
        rotation, translation = computer_vision(pose)
        x, y = at_depth_1(rotation, translation)
        wanted, low, high = np.hypot(x, y), np.zeros(len(x)), np.full(len(x), 9.0)
        for _ in range(80):
            middle = (low + high) / 2
            above = middle * (1 + bend * middle**2) > wanted
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        scale = low / wanted
        pixels[name[:-4]] = pixels_of(x * scale, y * scale)
        numbers = [FOCAL, *quaternion(rotation), *pose[:3, 3].tolist(), bend, 0]
        rows.append(f"{name}\t{' '.join(map(repr, numbers))}")
    points = [f"{' '.join(map(repr, p))} 9 8 7 1 0 0 1.5 2.5" for p in POINTS.tolist()]
    (folder / "model.nvm").write_text(
        "\n".join(["NVM_V3", "", f"{len(rows)}", *rows, "", f"{len(points)}", *points, "", "0", ""])
    )
    return Written(folder / "model.nvm", pixels, has_points=True)


def bundler(folder):
    """OpenGL's axes; pixels from the middle of the photo, y up."""
    photos(folder)
    k1, k2, pixels = -0.08, 0.02, {}
    lines = ["# Bundle file v0.3", f"{len(POSES) + 1} {len(POINTS)}"]
    text = lambda values: " ".join(map(repr, np.asarray(values).tolist()))
    for name, pose in zip(NAMES, POSES):
        rotation = pose[:3, :3].T
        translation = -rotation @ pose[:3, 3]
        lines += [f"{FOCAL} {k1} {k2}", *map(text, rotation), text(translation)]
        local = POINTS @ rotation.T + translation
        p = -local[:, :2] / local[:, 2:]
        square = (p * p).sum(1, keepdims=True)
        place = FOCAL * (1 + k1 * square + k2 * square**2) * p
        pixels[name[:-4]] = np.stack([WIDTH / 2 + place[:, 0], HEIGHT / 2 - place[:, 1]], -1)
    lines += ["0 0 0", "0 0 0", "0 0 0", "0 0 0", "0 0 0"]  # not placed
    photos(folder, ["IMG_90.png"])
    for point in POINTS:
        lines += [text(point), "9 8 7", "2 0 3 1.5 -2.5 1 4 0.5 0.5"]
    (folder / "bundle").mkdir()
    (folder / "bundle/bundle.out").write_text("\n".join(lines) + "\n")
    (folder / "list.txt").write_text("".join(f"./{name} 0 660.5\n" for name in [*NAMES, "IMG_90.png"]))
    return Written(folder, pixels, has_points=True)


def record3d(folder):
    pixels, poses = {}, []
    photos(folder / "rgb", [f"{number}.png" for number in range(len(POSES))])
    for number, pose in enumerate(POSES):
        camera = in_y_up(pose)
        w, x, y, z = quaternion(camera[:3, :3])
        poses.append([x, y, z, w, *camera[:3, 3].tolist()])
        local = (POINTS @ FROM_Y_UP - camera[:3, 3]) @ camera[:3, :3]
        pixels[f"{number}"] = pixels_of(local[:, 0] / -local[:, 2], local[:, 1] / local[:, 2], 61, 61, 31, 25.5)
    k = np.array([[61.0, 0, 31], [0, 61, 25.5], [0, 0, 1]])
    table = {"w": WIDTH, "h": HEIGHT, "K": k.T.ravel().tolist(), "poses": poses, "fps": 60}
    (folder / "metadata.json").write_text(json.dumps(table))
    return Written(folder, pixels)


def stray_scanner(folder):
    """OpenCV's axes in the camera, ARKit's world."""
    pixels, rows = {}, ["timestamp, frame, x, y, z, qx, qy, qz, qw"]
    photos(folder / "rgb", [f"{number:06d}.png" for number in range(len(POSES))])
    for number, pose in enumerate(POSES):
        camera = in_y_up(pose)
        camera[:3, :3] = camera[:3, :3] @ np.diag([1, -1, -1])
        w, x, y, z = quaternion(camera[:3, :3])
        rows.append(f"{number / 60}, {number:06d}, " + ", ".join(map(repr, [*camera[:3, 3].tolist(), x, y, z, w])))
        local = (POINTS @ FROM_Y_UP - camera[:3, 3]) @ camera[:3, :3]
        pixels[f"{number:06d}"] = pixels_of(local[:, 0] / local[:, 2], local[:, 1] / local[:, 2], 61, 62, 31, 25.5)
    (folder / "odometry.csv").write_text("\n".join(rows) + "\n")
    (folder / "camera_matrix.csv").write_text("61.0, 0.0, 31.0\n0.0, 62.0, 25.5\n0.0, 0.0, 1.0\n")
    return Written(folder, pixels)


def llff(folder):
    """The columns are down, right, backwards."""
    photos(folder / "images")
    rows, pixels = [], {}
    for name, pose in zip(NAMES, POSES):
        right, up, back, position = pose[:3].T
        matrix = np.stack([-up, right, back, position, [HEIGHT, WIDTH, FOCAL]], 1)
        rows.append([*matrix.ravel(), 1.0, 9.0])
        pixels[name[:-4]] = pixels_of(*at_depth_1(*computer_vision(pose)))
    np.save(folder / "poses_bounds.npy", np.array(rows))
    return Written(folder, pixels)


def inria(folder):
    photos(folder / "images")
    cameras, pixels = [], {}
    for number, (name, pose) in enumerate(zip(NAMES, POSES)):
        rotation, _ = computer_vision(pose)
        cameras.append(
            {"id": number, "img_name": name[:-4], "width": WIDTH, "height": HEIGHT, "position": pose[:3, 3].tolist()}
            | {"rotation": rotation.T.tolist(), "fx": 61.0, "fy": 62.0}
        )
        pixels[name[:-4]] = pixels_of(*at_depth_1(*computer_vision(pose)), 61.0, 62.0)
    (folder / "cameras.json").write_text(json.dumps(cameras))
    return Written(folder, pixels)


def transforms(folder):
    """nerfstudio's: OpenGL's axes, OpenCV's formula, z up."""
    photos(folder / "images")
    k = {"k1": -0.08, "k2": 0.02, "k3": 0.004, "p1": 1e-3, "p2": -2e-3}
    frames, pixels = [], {}
    for name, pose in zip(NAMES, POSES):
        frames.append({"file_path": f"images/{name}", "transform_matrix": pose.tolist()})
        local = (POINTS - pose[:3, 3]) @ pose[:3, :3]
        x, y = local[:, 0] / -local[:, 2], -local[:, 1] / -local[:, 2]
        pixels[name[:-4]] = _brown(x, y, -0.08, 0.02, 0.004, 1e-3, -2e-3, FOCAL, 1.5, -0.5)
    table = {"w": WIDTH, "h": HEIGHT, "fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2 + 1.5, "cy": HEIGHT / 2 - 0.5}
    (folder / "transforms.json").write_text(json.dumps(table | k | {"camera_model": "OPENCV", "frames": frames}))
    return Written(folder / "transforms.json", pixels)


def colmap(folder, form="bin"):
    """World-to-camera as a quaternion and a translation."""
    photos(folder / "images")
    parameters = (FOCAL, FOCAL, WIDTH / 2 + 1.5, HEIGHT / 2 - 0.5, -0.08, 0.02, 1e-3, -2e-3)
    write_colmap(folder / "sparse/0", NAMES, POSES, form, ("OPENCV", WIDTH, HEIGHT, parameters))
    pixels = {}
    for name, pose in zip(NAMES, POSES):
        x, y = at_depth_1(*computer_vision(pose))
        pixels[name[:-4]] = _brown(x, y, -0.08, 0.02, 0, 1e-3, -2e-3, FOCAL, 1.5, -0.5)
    return Written(folder / "sparse/0", pixels)


WRITERS = {
    "transforms": (transforms, "transforms.json"),
    "colmap": (colmap, "sparse/0/images.bin"),
    "colmap's cameras": (colmap, "sparse/0/cameras.bin"),
    "colmap as text": (lambda folder: colmap(folder, "txt"), "sparse/0/images.txt"),
    "metashape": (metashape, "cameras.xml"),
    "metashape fisheye": (lambda folder: metashape(folder, "fisheye"), "cameras.xml"),
    "realityscan table": (realityscan_table, "cameras.csv"),
    "realityscan xmp": (realityscan_xmp, "images/IMG_02.xmp"),
    "polycam": (polycam, "keyframes/corrected_cameras/IMG_02.json"),
    "meshroom": (meshroom, "cameras.sfm"),
    "meshroom of 2019": (meshroom_of_2019, "cameras.sfm"),
    "opensfm": (opensfm, "opensfm/reconstruction.json"),
    "visualsfm": (nvm, "model.nvm"),
    "bundler": (bundler, "bundle/bundle.out"),
    "record3d": (record3d, "metadata.json"),
    "stray scanner": (stray_scanner, "odometry.csv"),
    "llff": (llff, "poses_bounds.npy"),
    "inria": (inria, "cameras.json"),
}
