"""Regions in the engine: the inside test against its twin and against geometry, what of a view is edited, and the field
that is the edited one inside and the unedited one outside."""

import numpy as np
import pytest
import torch

from in2n_blender.engine.nerf.regions import InsideTest, signed_distance_torch, soft
from in2n_blender.scene.region import Region

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def placed(center=(0, 0, 0), size=(1, 1, 1)):
    matrix = np.diag([*size, 1.0])
    matrix[:3, 3] = center
    return matrix


def turned_box(soft_edge=0.0):
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    return Region.box(turn @ placed((0.2, 0, 0.1), (1.2, 0.7, 0.4)), soft_edge)


def torus(soft_edge=0.0, sides=24, around=12):
    u, v = (2 * np.pi * np.arange(n) / n for n in (sides, around))
    ring = 0.6 + 0.2 * np.cos(v)
    vertices = np.stack(
        [np.outer(np.cos(u), ring), np.outer(np.sin(u), ring), np.outer(np.ones(sides), 0.2 * np.sin(v))], -1
    ).reshape(-1, 3)
    at = lambda i, j: (i % sides) * around + j % around
    faces = [[at(i, j), at(i + 1, j), at(i + 1, j + 1)] for i in range(sides) for j in range(around)]
    faces += [[at(i, j), at(i + 1, j + 1), at(i, j + 1)] for i in range(sides) for j in range(around)]
    return Region.of(vertices, faces, soft_edge)


def some_points(count=1000, reach=1.2, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-reach, reach, (count, 3)).astype(np.float32))


REGIONS = {
    "box": turned_box,
    "ball": lambda soft_edge=0.0: Region.ellipsoid(placed((0.1, 0.1, 0), (1, 1.4, 0.8)), soft_edge),
    "torus": torus,
    "pancake": lambda soft_edge=0.0: Region.box(placed((0, 0, 0.1), (2, 2, 0.004)), soft_edge),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", REGIONS)
def test_the_signed_distance_is_its_twins(shape, device):
    region, points = REGIONS[shape](), some_points()
    test = InsideTest(region, device)
    twin = signed_distance_torch(points.double(), test.vertices.cpu().double(), test.faces.cpu()).float()
    found = test.signed_distance(points.to(device)).cpu()
    assert torch.allclose(found.abs(), twin.abs(), atol=1e-5)
    sure = twin.abs() > 1e-5
    assert torch.equal(found[sure] < 0, twin[sure] < 0)
    assert (twin < 0).any() or shape == "pancake"


def test_the_signed_distance_of_a_box_is_the_formulas():
    points = some_points(reach=2)
    q = points.abs() - torch.tensor([0.5, 1.0, 0.25])
    formula = q.clamp_min(0).norm(dim=-1) + q.amax(-1).clamp_max(0)
    region = Region.box(placed(size=(1, 2, 0.5)))
    assert torch.allclose(InsideTest(region, "cpu").signed_distance(points), formula, atol=1e-5)
    vertices, faces = torch.tensor(region.vertices), torch.tensor(region.faces)
    assert torch.allclose(signed_distance_torch(points.double(), vertices, faces).float(), formula, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("soft_edge", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("shape", REGIONS)
def test_membership_is_the_soft_distance_though_asked_near_the_surface_alone(shape, soft_edge, device):
    test, points = InsideTest(REGIONS[shape](soft_edge), device), some_points(4000)
    points[:1000, 2] = 0.1 + points[:1000, 2] * 2e-3  # many in the pancake
    points = points.to(device)
    asked, query = [], test.signed_distance
    test.signed_distance = lambda chosen: asked.append(len(chosen)) or query(chosen)
    found = test.membership(points)
    distance = query(points)
    assert torch.equal(found, soft(-distance, soft_edge))
    assert found.min() == 0 and (found.max() == 1 or soft_edge)
    assert sum(asked) < len(points) / (1.5 if shape == "pancake" else 2)


def test_a_soft_edge_rises_smoothly_from_the_surface_to_its_width():
    test = InsideTest(Region.box(placed(size=(2, 2, 2)), 0.4), "cpu")
    depth = torch.tensor([-0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.9])
    points = torch.stack([1 - depth, 0 * depth, 0 * depth], -1)
    assert test.membership(points).tolist() == pytest.approx([0, 0, 0.15625, 0.5, 0.84375, 1, 1], abs=1e-5)


def test_rays_that_enter_the_region_are_among_those_that_may_meet_it():
    test = InsideTest(turned_box(), "cpu")
    origins, targets = some_points(500, 3, 1), some_points(500, 3, 2)
    directions = torch.nn.functional.normalize(targets - origins, dim=-1)
    directions[:100, 0] = 0
    along = torch.linspace(0, 8, 200)
    inside = test.membership((origins[:, None] + along[:, None] * directions[:, None]).view(-1, 3)).view(500, 200)
    meets, may = inside.amax(1) > 0, test.may_meet(origins, directions)
    assert meets.any() and may[meets].all() and not may.all()
