"""Splats read, moved and written: what a moved cloud looks like from a moved camera is what it looked like before."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.splats import C0, harmonics, quaternion_of, read_splats, rotations, splat_bytes
from tests.scene.splat_files import COEFFICIENTS, columns_of, write_splats


def covariances(splats) -> np.ndarray:
    axes, scales = splats.axes, splats.scales
    return np.einsum("nij,nj,nkj->nik", axes, scales.astype(np.float64) ** 2, axes)


def colors_from(splats, directions) -> np.ndarray:
    """(n, 3) each splat's colour seen along a direction, before it is clipped."""
    direct = np.stack([splats.columns[f"f_dc_{i}"] for i in range(3)], -1)
    rest = np.stack([splats.columns[f"f_rest_{i}"] for i in range(3 * COEFFICIENTS)], -1)
    shares = harmonics(directions, 2)
    return 0.5 + C0 * direct + np.einsum("nk,nck->nc", shares, rest.reshape(-1, 3, COEFFICIENTS))


def test_what_is_written_is_read_again_and_every_property_kept(tmp_path):
    columns = {**columns_of(), "mine": np.arange(40, dtype=np.float32)}
    splats = read_splats(write_splats(tmp_path / "a.ply", columns))
    (tmp_path / "b.ply").write_bytes(splat_bytes(splats))
    again = read_splats(tmp_path / "b.ply")
    assert list(again.columns) == list(columns) and len(again) == 40
    for name, values in columns.items():
        np.testing.assert_array_equal(again.columns[name], values)


def test_numbers_mean_what_gaussian_splatting_means_by_them(tmp_path):
    columns = columns_of(1) | {"opacity": np.zeros(1), "scale_1": np.log([0.25]), "f_dc_2": np.full(1, 0.5 / C0)}
    columns |= dict(zip(("rot_0", "rot_1", "rot_2", "rot_3"), np.sqrt([[0.5], [0.5], [0], [0]])))  # 90 degrees round x
    splats = read_splats(write_splats(tmp_path / "a.ply", columns))
    assert splats.opacities[0] == 0.5 and splats.scales[0, 1] == pytest.approx(0.25)
    assert splats.colors_srgb[0, 2] == 1.0
    np.testing.assert_allclose(splats.axes[0] @ (0, 1, 0), (0, 0, 1), atol=1e-6)


def test_rotations_are_those_of_scipy():
    quaternions = np.random.default_rng(1).normal(size=(50, 4))
    expected = Rotation.from_quat(quaternions[:, [1, 2, 3, 0]]).as_matrix()
    np.testing.assert_allclose(rotations(quaternions), expected, atol=1e-12)
    for matrix in [*expected, np.eye(3), np.diag([1.0, -1, -1]), np.diag([-1.0, -1, 1])]:
        np.testing.assert_allclose(rotations(quaternion_of(matrix)[None])[0], matrix, atol=1e-12)


def test_harmonics_span_what_those_of_scipy_span():
    directions = np.random.default_rng(2).normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    polar, turn = np.arccos(directions[:, 2]), np.arctan2(directions[:, 1], directions[:, 0])
    first = 0
    for degree in (1, 2, 3):
        own = harmonics(directions, 3)[:, first : first + 2 * degree + 1]
        first += 2 * degree + 1
        known = [sph_harm_y(degree, m, polar, turn) for m in range(degree + 1)]
        known = np.stack([part for value in known for part in (value.real, value.imag)], -1)
        np.testing.assert_allclose(known @ np.linalg.lstsq(known, own, rcond=None)[0], own, atol=1e-9)


def test_a_moved_cloud_looks_from_a_moved_camera_as_before(tmp_path):
    splats = read_splats(write_splats(tmp_path / "a.ply", columns_of()))
    turn = Rotation.from_euler("xyz", (0.4, -1.1, 2.3)).as_matrix()
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = 2.5 * turn, (3, -2, 7)
    moved = splats.transformed(matrix)
    np.testing.assert_allclose(moved.means, splats.means @ (2.5 * turn).T + (3, -2, 7), atol=1e-5)
    expected = 2.5**2 * turn @ covariances(splats) @ turn.T
    np.testing.assert_allclose(covariances(moved), expected, rtol=1e-4, atol=1e-6)
    directions = np.random.default_rng(4).normal(size=(len(splats), 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    np.testing.assert_allclose(colors_from(moved, directions @ turn.T), colors_from(splats, directions), atol=1e-5)
    np.testing.assert_array_equal(moved.columns["opacity"], splats.columns["opacity"])


@pytest.mark.parametrize("matrix", [np.diag([1.0, 2, 1, 1]), np.diag([-1.0, 1, 1, 1])])
def test_a_cloud_is_not_stretched_or_mirrored(tmp_path, matrix):
    with pytest.raises(In2nError) as refused:
        read_splats(write_splats(tmp_path / "a.ply", columns_of())).transformed(matrix)
    assert refused.value.code == "not_alike"


def test_another_ply_is_refused_and_broken_splats_left_out(tmp_path):
    columns = columns_of()
    without = {name: values for name, values in columns.items() if name != "rot_2"}
    with pytest.raises(In2nError, match="rot_2") as refused:
        read_splats(write_splats(tmp_path / "a.ply", without))
    assert refused.value.code == "bad_splats"
    columns["scale_1"][3] = np.nan
    assert len(read_splats(write_splats(tmp_path / "b.ply", columns))) == 39
    (tmp_path / "c.ply").write_bytes((tmp_path / "b.ply").read_bytes()[:-100])
    with pytest.raises(In2nError) as refused:
        read_splats(tmp_path / "c.ply")
    assert refused.value.code == "bad_points"
