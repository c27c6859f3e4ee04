"""Carrying an edit through depth, on a painted ball whose depth and colours are known."""

import numpy as np
import torch

from in2n_blender.engine.editing.carrying import Carried, SeenView, carry, visible
from in2n_blender.engine.editing.carrying_plan import (
    PlannedEdit,
    Visibility,
    choose_key_views,
    independent,
    plan_carrying,
)
from tests.engine.ball import look_at, ring, sphere_image

SIZE = (72, 48)


def big(position, target=(0, 0, 0)):
    camera = look_at(position, target, SIZE)
    k = camera.intrinsics
    return type(camera)(type(k)(*SIZE, 90.0, 90.0, SIZE[0] / 2, SIZE[1] / 2), camera.camera_to_world)


def ball_depth(camera, radius=0.6, wall=20.0):
    """Along the camera's axis, to the ball or to a sphere far behind it."""
    origins, directions = camera.rays()
    length = np.linalg.norm(directions, axis=1)
    unit = directions / length[:, None]
    along = (origins * unit).sum(1)

    def hit(r, sign):
        root = along**2 - (origins**2).sum(1) + r * r
        return np.where(root > 0, -along + sign * np.sqrt(root.clip(0)), np.inf)

    distance = np.minimum(hit(radius, -1), hit(wall, 1))
    shape = camera.intrinsics.height, camera.intrinsics.width
    return torch.from_numpy((distance / length).reshape(shape)).float()


def seen(camera, image=None):
    image = sphere_image(camera) if image is None else image
    return SeenView(camera, ball_depth(camera), torch.from_numpy(image).permute(2, 0, 1))


def test_what_both_see_is_carried_and_right():
    target, source = big((3, 0, 0.4)), big((2.8, 1.0, 0.4))
    carried = carry(seen(target), [seen(source)])
    truth = torch.from_numpy(sphere_image(target)).permute(2, 0, 1)
    on_ball = ball_depth(target) < 10
    both = carried.covered & on_ball
    assert both.float().sum() > 0.6 * on_ball.float().sum()
    error = (carried.image - truth).abs().amax(0)[both]
    assert error.median() < 0.01 and error.quantile(0.9) < 0.03


def test_the_far_side_is_not_seen():
    """From opposite sides no part of the ball is common."""
    target, source = big((3, 0, 0)), big((-3, 0, 0))
    assert not (visible(seen(target), seen(source)) & (ball_depth(target) < 10)).any()


def test_what_hides_behind_the_ball_takes_none_of_its_colour():
    """The wall is seen beside the ball by one camera and hidden behind it for the other."""
    target, source = big((3, 0, 0)), big((2.4, 1.8, 0))
    red = np.zeros((SIZE[1], SIZE[0], 3), np.float32)
    red[(ball_depth(source) < 10).numpy()] = [1, 0, 0]
    carried = carry(seen(target), [seen(source, red)])
    wall = carried.covered & (ball_depth(target) > 10)
    assert wall.any() and carried.image[0][wall].max() < 0.6  # half a pixel at the ball's edge is blended


def test_views_from_a_similar_direction_count_most():
    target = big((3, 0, 0.4))
    near, far = big((2.98, 0.3, 0.4)), big((2.2, 2.0, 0.4))
    white, black = (np.full((SIZE[1], SIZE[0], 3), value, np.float32) for value in (1.0, 0.0))
    carried = carry(seen(target), [seen(near, white), seen(far, black)])
    both = visible(seen(target), seen(near)) & visible(seen(target), seen(far)) & (ball_depth(target) < 10)
    assert both.any() and (carried.image[0][both] > 0.8).all()


def test_where_nothing_was_carried_the_photo_is_recoloured_alike():
    target = big((3, 0, 0))
    photo = torch.from_numpy(sphere_image(target)).permute(2, 0, 1)
    assert torch.equal(carry(seen(target), []).filled(photo), photo)
    tint = torch.tensor([[0.7, 0.1, 0.0], [0.0, 0.4, 0.1], [0.2, 0.0, 0.3]])
    edited = torch.einsum("ij,jhw->ihw", tint, photo) + 0.1
    covered = torch.zeros(SIZE[::-1], dtype=torch.bool)
    covered[:, 20:50] = True
    filled = Carried(torch.where(covered, edited, 0.0), covered).filled(photo)
    assert torch.equal(filled[:, covered], edited[:, covered])
    assert (filled - edited).abs().max() < 0.03 < (photo - edited).abs().max()


def ring_of_views(count):
    cameras = [big(camera.position) for camera in ring(count)]
    return [SeenView(camera, ball_depth(camera)) for camera in cameras]


def test_every_view_is_planned_once_and_follows_those_that_see_the_same():
    plan = plan_carrying(ring_of_views(9), most_keys=1)
    assert sorted(edit.view for edit in plan) == list(range(9)) and plan[0].sources == ()
    assert not any(edit.again for edit in plan), "one key view has none to agree with"
    for place, edit in enumerate(plan[1:], 1):
        done = [earlier.view for earlier in plan[:place]]
        assert edit.sources and set(edit.sources) <= set(done)
        steps = [min((edit.view - other) % 9, (other - edit.view) % 9) for other in done]
        assert min(steps) == 1, "on a ring a neighbour is always edited before"
        assert edit.sources[0] in [other for other, step in zip(done, steps) if step == min(steps)]


def test_key_views_cover_the_scene_and_are_edited_again_from_each_other():
    views = ring_of_views(16)
    visibility = Visibility(views)
    keys = choose_key_views(visibility, most=4)
    covered = lambda by: sum(float(visibility.covered(i, by).float().mean()) for i in range(16))
    assert len(set(keys)) == 4
    assert covered(keys) > covered(list(range(keys[0], keys[0] + 4))), "more than neighbours would"
    for place, key in enumerate(keys[1:], 1):
        assert visibility.covered(key, keys[:place]).float().mean() >= 0.3, "each sees something of those before it"
    plan = plan_carrying(views, most_keys=4, again=True)
    assert [edit.view for edit in plan[:8]] == keys * 2
    assert [edit.again for edit in plan] == [False] * 4 + [True] * 4 + [False] * 12
    assert all(set(edit.sources) <= set(keys) - {edit.view} for edit in plan[4:8])
    assert sorted(edit.view for edit in plan[8:]) == sorted(set(range(16)) - set(keys))
    assert plan_carrying(views, first=6, most_keys=4, again=True)[0].view == 6
    assert not any(edit.again for edit in plan_carrying(views, most_keys=4, again=False))


def test_where_one_view_shows_all_there_is_one_key_view():
    (view,) = ring_of_views(1)
    assert choose_key_views(Visibility([view] * 4), most=4) == [0]


def test_a_few_pixels_that_no_view_shows_ask_for_no_further_key_view():
    """A mask's pixels have no depth, and are seen by nobody."""

    def key_views(hidden_rows):
        (view,) = ring_of_views(1)
        view.depth[:hidden_rows] = torch.nan
        return choose_key_views(Visibility([view] * 4), most=2)

    assert key_views(hidden_rows=1) == [0]
    assert len(key_views(hidden_rows=SIZE[1] // 2)) == 2


def test_what_is_edited_together_is_not_carried_from_each_other():
    plan = [PlannedEdit(0, ()), PlannedEdit(1, (5,)), PlannedEdit(2, (5, 6)), PlannedEdit(3, (1,)), PlannedEdit(4, ())]
    assert independent(plan, most=8) == plan[:3], "the fourth is carried from the second"
    assert independent(plan, most=2) == plan[:2]
    assert independent(plan, most=8, alone=2) == plan[:2]
    assert independent([PlannedEdit(0, ()), PlannedEdit(0, (1,))], most=8) == [PlannedEdit(0, ())], "a view once"


def test_views_that_share_nothing_are_planned_too():
    away = big((3, 0, 0))
    apart = [SeenView(away, torch.full(SIZE[::-1], 5.0)), SeenView(big((-3, 0, 0)), torch.full(SIZE[::-1], 1.0))]
    plan = plan_carrying(apart, most_keys=4, again=True)
    assert sorted({edit.view for edit in plan}) == [0, 1]


def test_a_view_is_scaled_down_to_a_longest_side_and_never_up():
    (view,) = ring_of_views(1)
    small = view.scaled(20)
    assert max(small.depth.shape) == 20 == max(small.camera.intrinsics.width, small.camera.intrinsics.height)
    assert small.depth.shape == (small.camera.intrinsics.height, small.camera.intrinsics.width)
    assert view.scaled(10_000).depth.shape == view.depth.shape
