import numpy as np
import pytest

from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.region import Region


def test_round_trip():
    region = Region("mesh", np.diag([1.0, 2.0, 3.0, 1.0]), "regions/head.ply")
    again = Region.from_json(region.to_json())
    assert (again.kind, again.mesh) == ("mesh", "regions/head.ply")
    np.testing.assert_array_equal(again.matrix, region.matrix)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "cone"},
        {"matrix": [1, 2]},
        {"matrix": np.full((4, 4), np.nan).tolist()},
        {"matrix": np.zeros((4, 4)).tolist()},
        {"mesh": "a.ply"},
        {"kind": "mesh"},
    ],
)
def test_bad_regions(change):
    with pytest.raises(In2nError) as caught:
        Region.from_json({**Region("box", np.eye(4)).to_json(), **change})
    assert caught.value.code == "bad_region"
