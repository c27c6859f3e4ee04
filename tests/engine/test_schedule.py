"""Which view is edited when, and from which noise level, number by number."""

import pytest

from in2n_blender.engine.editing.schedule import Schedule


def schedule_of(noise="uniform", **more):
    return Schedule(**{"views": 5, "rounds": 2, "edit_rate": 10, "seed": 4, "noise": noise, **more})


def test_the_order_is_one_permutation_of_the_seed_cycled():
    """An edit that an earlier version began goes on in the order that it had: the numbers themselves are the format."""
    assert [schedule_of().view(edit) for edit in range(12)] == [2, 4, 0, 1, 3, 2, 4, 0, 1, 3, 2, 4]
    assert [schedule_of(seed=5).view(edit) for edit in range(5)] == [4, 3, 1, 2, 0]


def test_uniform_levels_are_drawn_from_the_papers_range_for_every_edit():
    levels = [schedule_of().noise_level(edit) for edit in range(4)]
    assert levels == pytest.approx([0.960625, 0.301024, 0.936430, 0.828767], abs=1e-6)
    many = [schedule_of(seed=seed).noise_level(edit) for seed in range(40) for edit in range(50)]
    assert 0.02 <= min(many) < 0.025 and 0.975 < max(many) <= 0.98
    assert sum(many) / len(many) == pytest.approx(0.5, abs=0.02)


def test_falling_levels_go_from_the_top_through_four_tenths_of_the_range_spread_within_each_round():
    levels = [schedule_of("falling").noise_level(edit) for edit in range(10)]
    assert levels[:3] == pytest.approx([0.791875, 0.923795, 0.796714], abs=1e-6)
    many = [[schedule_of("falling", seed=s, rounds=3).noise_level(e) for s in range(300)] for e in (0, 4, 5, 9, 10, 14)]
    for number, edit in enumerate(many):
        edited = number // 2
        top, bottom = 0.98 - 0.128 * edited, 0.98 - 0.128 * (edited + 1)
        assert bottom <= min(edit) < bottom + 0.002 and top - 0.002 < max(edit) <= top
    single = [schedule_of("falling", seed=seed, rounds=1).noise_level(0) for seed in range(300)]
    assert 0.596 <= min(single) < 0.6 and 0.976 < max(single) <= 0.98, "one round goes through all of it"


def test_the_kind_of_noise_is_known_by_its_name_whichever_string_says_it():
    read_from_a_file = "".join(["uni", "form"])
    assert schedule_of(read_from_a_file).noise_level(0) == schedule_of("uniform").noise_level(0)


@pytest.mark.parametrize(
    "views, rounds, edit_rate, steps", [(5, 2, 10, 125), (7, 3, 4, 105), (3, 1, 1, 4), (5, 0, 10, 1), (1, 1, 1, 1)]
)
def test_a_fifth_of_all_steps_comes_after_the_edits(views, rounds, edit_rate, steps):
    schedule = schedule_of(views=views, rounds=rounds, edit_rate=edit_rate)
    assert schedule.steps == steps and schedule.edits == views * rounds
    assert 0 < schedule_of("falling", rounds=0).noise_level(0) < 1, "what is shown of an edit without rounds"


def test_a_schedule_cannot_be_changed():
    with pytest.raises(AttributeError):
        schedule_of().seed = 5


def test_no_edit_is_due_that_the_schedule_does_not_have():
    schedule = schedule_of(views=5, rounds=2, edit_rate=10)
    assert [schedule.is_due(edit, 10_000) for edit in (0, 9, 10, 11)] == [True, True, False, False]
    assert [schedule.is_due(3, step) for step in (0, 29, 30, 31)] == [False, False, True, True]
