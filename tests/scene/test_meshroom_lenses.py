"""Meshroom's lenses whose formula leads from the photo to the straight picture, and its equidistant camera.

The formulas are written here as AliceVision writes them, angle by angle, and are solved point by point.
"""

import json
import math

import numpy as np
import pytest

from in2n_blender.scene.lens import Lens, directions_of, distort, pinhole_for
from in2n_blender.scene.readers import read as read_capture
from tests.scene.formats import HEIGHT, POINTS, WIDTH, meshroom, meshroom_of_lens, where_straightened
from tests.scene.test_formats import seen

ANAMORPHIC = (0.12, -0.05, 0.03, 0.02, -0.04, 0.01, 0.02, -0.03, 0.01, -0.02, 0.1, 1.05, 0.97)
CLASSIC = (0.08, 1.6, -0.03, 0.05, 0.02)
RADIAL = (0.1, 0.01, -0.02, 0.03, 0.004, -0.005, 0.3, 0.05)


def anamorphic(x, y, aspect=1.0):
    cx02, cy02, cx22, cy22, cx04, cy04, cx24, cy24, cx44, cy44, phi, sqx, sqy = ANAMORPHIC
    x /= aspect
    x, y = math.cos(phi) * x - math.sin(phi) * y, math.sin(phi) * x + math.cos(phi) * y
    r2, t = x * x + y * y, math.atan2(y, x)
    two, four = math.cos(2 * t), math.cos(4 * t)
    x *= 1 + cx02 * r2 + cx04 * r2**2 + cx22 * r2 * two + cx24 * r2**2 * two + cx44 * r2**2 * four
    y *= 1 + cy02 * r2 + cy04 * r2**2 + cy22 * r2 * two + cy24 * r2**2 * two + cy44 * r2**2 * four
    x, y = x * aspect * sqx, y * sqy
    return math.cos(phi) * x + math.sin(phi) * y, -math.sin(phi) * x + math.cos(phi) * y


def classic(x, y):
    c2, sq, cx, cy, c4 = CLASSIC
    r4 = x**4 + 2 * x * x * y * y + y**4
    across = 1 + c2 / sq * x * x + (c2 + cx) / sq * y * y + c4 / sq * r4
    return x * across, y * (1 + (c2 + cy) * x * x + c2 * y * y + c4 * r4)


def radial4(x, y):
    c2, u1, v1, c4, u3, v3, phi, b = RADIAL
    r2, q = x * x + y * y, math.sqrt(1 + b)
    bent = np.array(
        [
            x * (1 + c2 * r2 + c4 * r2**2) + (r2 + 2 * x * x) * (u1 + u3 * r2) + 2 * x * y * (v1 + v3 * r2),
            y * (1 + c2 * r2 + c4 * r2**2) + (r2 + 2 * y * y) * (v1 + v3 * r2) + 2 * x * y * (u1 + u3 * r2),
        ]
    )
    turn = np.array([[math.cos(phi), math.sin(phi)], [-math.sin(phi), math.cos(phi)]])
    return tuple(turn.T @ np.diag([q, 1 / q]) @ turn @ bent)


def radial_k3(x, y):
    r2 = x * x + y * y
    factor = 1 + 0.1 * r2 - 0.03 * r2**2 + 0.02 * r2**3
    return x * factor, y * factor


def on_plate(formula, half, middle, down=1.0):
    """The formula from pixel to pixel: AliceVision's `Undistortion::undistort`."""

    def straighten(u, v):
        x, y = formula((u - middle[0]) / half, (v - middle[1]) / (half * down))
        return x * half + middle[0], y * half * down + middle[1]

    return straighten


def lens(kind, coefficients, **more):
    shift = {"undistortionOffset": ["2.5", "-1.25"]}
    text = [repr(value) for value in coefficients]
    return (
        {"type": "pinhole", "distortionType": "none", "undistortionType": kind, "undistortionParams": text}
        | shift
        | more
    )


MIDDLE = WIDTH / 2 + 2.5, HEIGHT / 2 - 1.25
HALF = math.hypot(WIDTH, HEIGHT) / 2
PINHOLE = lambda x, y, fx=60.0, fy=60.0: (fx * x + WIDTH / 2 + 1.5, fy * y + HEIGHT / 2 - 0.5)
# version, the camera, what straightens it, fx, fy
CASES = {
    "anamorphic": ((1, 2, 11), lens("3deanamorphic4", ANAMORPHIC), on_plate(anamorphic, HALF, MIDDLE), 60, 60),
    "classic": ((1, 2, 8), lens("3declassicld", CLASSIC), on_plate(classic, HALF, MIDDLE), 60, 60),
    "radial": ((1, 2, 8), lens("3deradial4", RADIAL), on_plate(radial4, HALF, MIDDLE), 60, 60),
    "radialk3": ((1, 2, 10), lens("radialk3", (0.1, -0.03, 0.02)), on_plate(radial_k3, HALF, MIDDLE), 60, 60),
    "of another plate": (
        (1, 2, 9),
        lens("3declassicld", CLASSIC, undistortionDiagonal="55"),
        on_plate(classic, 55.0, MIDDLE),
        60,
        60,
    ),
    "squeezed": (
        (1, 2, 11),
        lens("3deanamorphic4", ANAMORPHIC, pixelAspectRatio="1.8", isDesqueezed="false", pixelRatio="1.8"),
        on_plate(lambda x, y: anamorphic(x, y, 1.8), math.hypot(WIDTH, HEIGHT / 1.8) / 2, MIDDLE, 1.8),
        60 / 1.8,
        60,
    ),
    "desqueezed": (
        (1, 2, 10),
        lens("3deanamorphic4", ANAMORPHIC, pixelAspectRatio="1.8", isDesqueezed="true"),
        on_plate(lambda x, y: anamorphic(x, y, 1.8), HALF, MIDDLE),
        60,
        60,
    ),
    "a type alone": (
        (1, 2, 6),
        {
            "type": "3deanamorphic4",
            "undistortionParams": [repr(v) for v in ANAMORPHIC],
            "undistortionOffset": [2.5, -1.25],
        },
        on_plate(anamorphic, HALF, MIDDLE),
        60,
        60,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_points_appear_where_alicevision_says(tmp_path, name):
    version, camera, straighten, fx, fy = CASES[name]
    shows = lambda x, y: where_straightened(straighten, *PINHOLE(x, y, fx, fy))
    written = meshroom_of_lens(tmp_path, version, camera, shows)
    frames = read_capture(tmp_path).frames
    assert len(frames) == len(written.pixels)
    for frame in frames:
        off = np.abs(seen(frame, POINTS) - written.pixels[frame.name]).max()
        assert off < 1e-5, f"{frame.name} is off by {off} pixels"
    assert pinhole_for(frames[0].lens).square_pixels, "its photos can be straightened"
    x, y = np.random.default_rng(1).uniform(-0.4, 0.4, (2, 20))
    at = np.stack([x, y], -1)
    np.testing.assert_allclose(directions_of(frames[0].lens, distort(frames[0].lens, at)), at, atol=1e-6)
    moved = np.abs(distort(frames[0].lens, at) - np.stack(PINHOLE(x, y, fx, fy), -1)).max()
    assert moved > 0.3, "a pinhole would not do"
    half = frames[0].lens.scaled_to(WIDTH // 2, HEIGHT // 2)
    np.testing.assert_allclose(distort(half, at) * 2, distort(frames[0].lens, at), atol=1e-9)


@pytest.mark.parametrize("name", ["3declassicld", "3deradial4", "3defisheye"])
def test_an_unknown_camera_costs_its_own_photos(tmp_path, name):
    """Of types that AliceVision itself no longer reads, one camera is refused and the other is used."""
    path = meshroom(tmp_path, (1, 2, 6)).path
    table = json.loads(path.read_text())
    other = table["intrinsics"][0] | {"intrinsicId": "8", "type": name, "undistortionParams": ["0.1"] * 5}
    del other["distortionType"], other["distortionParams"]
    table["intrinsics"].append(other)
    for view in table["views"][:2]:
        view["intrinsicId"] = "8"
    path.write_text(json.dumps(table))
    capture = read_capture(tmp_path)
    assert len(capture.frames) == 4 and len(capture.unusable) == 3
    assert capture.unusable["IMG_00"] == f"The camera model “{name}” of IMG_00.png is not known."


@pytest.mark.parametrize("version, fx, fy", [((1, 2, 4), 60, 40), ((1, 2, 6), 60, 90), ((1, 2, 11), 40, 60)])
def test_the_focal_length_of_an_anamorphic_photo(tmp_path, version, fx, fy):
    """What the ratio of its pixels does to it was told in three ways."""
    meshroom_of_lens(tmp_path, version, {"type": "pinhole", "pixelRatio": "1.5"}, lambda x, y: None)
    k = read_capture(tmp_path).frames[0].lens.intrinsics
    np.testing.assert_allclose((k.fx, k.fy), (fx, fy))


@pytest.mark.parametrize("k", [(0.0, 0.0, 0.0), (-0.06, 0.02, 0.01)])
def test_an_equidistant_camera(tmp_path, k):
    """AliceVision's Equidistant::project and DistortionRadialK3PT."""

    def shows(x, y):
        scale = 60.0
        millimetres = scale * 36 / max(WIDTH, HEIGHT)
        fov = min(36, 27) / millimetres
        radius, turn = np.arctan(np.hypot(x, y)) / (0.5 * fov), np.arctan2(y, x)
        radius *= (1 + k[0] * radius**2 + k[1] * radius**4 + k[2] * radius**6) / (1 + sum(k))
        return np.stack(
            [np.cos(turn) * radius * scale + WIDTH / 2 + 1.5, np.sin(turn) * radius * scale + HEIGHT / 2 - 0.5], -1
        )

    camera = {"type": "equidistant", "distortionType": "radialk3pt" if any(k) else "none"}
    camera["distortionParams"] = [repr(value) for value in k] if any(k) else []
    written = meshroom_of_lens(tmp_path, (1, 2, 11), camera, shows)
    for frame in read_capture(tmp_path).frames:
        np.testing.assert_allclose(seen(frame, POINTS), written.pixels[frame.name], atol=1e-5)


def test_a_lens_that_bends_nothing_is_a_pinhole(tmp_path):
    none = (0.0, 1.0, 0.0, 0.0, 0.0)
    meshroom_of_lens(tmp_path, (1, 2, 11), lens("3declassicld", none), lambda x, y: None)
    frame = read_capture(tmp_path).frames[0]
    at = np.random.default_rng(1).uniform(-0.4, 0.4, (20, 2))
    np.testing.assert_allclose(distort(frame.lens, at), distort(Lens("pinhole", frame.lens.intrinsics), at), atol=1e-7)
