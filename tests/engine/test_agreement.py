"""The default method: with an editor that answers differently for every noise, all views come to one answer."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.engine.editing import agreement, methods
from in2n_blender.engine.editing.agreement import Agreement, AgreementSchedule, Parts, disagreement, tells
from in2n_blender.engine.editing.baselines import OneTimeUpdate
from in2n_blender.engine.editing.carrying import Carried
from in2n_blender.engine.editing.methods import METHODS, edit
from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.engine.nerf.checkpoint import read_checkpoint
from in2n_blender.engine.nerf.training import SETTLING
from in2n_blender.link.requests import METHODS as NAMES
from in2n_blender.link.requests import Edit
from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Progress, Reporter
from in2n_blender.workspace.layout import Workspace
from tests.engine.ball import TINY, reconstructed_ball, ring

VIEWS = 10


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A tiny reconstruction of the painted ball, close enough together that neighbours see the same."""
    sizes = Intrinsics(96, 64, 120.0, 120.0, 48.0, 32.0)
    cameras = [Camera(sizes, small.camera_to_world) for small in ring(VIEWS)]
    return reconstructed_ball(tmp_path_factory.mktemp("agreement") / "ws", cameras)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)


def request(workspace, name, editor="exact:K=4,s=0.05", **more):
    more = {"seed": 3, "preset": "draft", "device": "cpu", **more}
    return Edit(workspace=str(workspace), name=name, instruction="paint it", editor=editor, **more)


def answers_of(workspace, name):
    """Which answer each view of an edit's dataset is nearest to."""
    found = []
    for index in range(VIEWS):
        photo = as_tensor(Workspace(workspace).images / f"{index}.png")
        edited = as_tensor(Workspace(workspace).edit(name) / "dataset" / f"{index}.png")
        truths = exact().answers(photo[None])[0]
        found.append(int(((truths - edited) ** 2).mean((1, 2, 3)).argmin()))
    return found


def exact():
    return load_editor("exact:K=4,s=0.05", torch.device("cpu"))


def as_tensor(file):
    return torch.from_numpy(np.asarray(Image.open(file).convert("RGB"), np.float32) / 255).permute(2, 0, 1)


def test_every_method_that_can_be_asked_for_is_there(workspace):
    assert set(METHODS) == set(NAMES)
    for name in NAMES:
        state = edit(request(workspace, f"by-{name}", rounds=1, editing_method=name), Reporter())
        assert state["method"] == name and state["noise_schedule"] == ("uniform" if name == "faithful" else "falling")


def test_all_views_come_to_one_answer(workspace):
    state = methods.edit(request(workspace, "agreed"), Reporter(), Agreement)
    assert state["done"] and state["edits_done"] == state["carried"] + VIEWS and state["method"] == "agreement"
    assert len(set(answers_of(workspace, "agreed"))) == 1
    methods.edit(request(workspace, "once"), Reporter(), OneTimeUpdate)
    assert len(set(answers_of(workspace, "once"))) > 1, "edited one by one they differ"


def test_what_was_thrown_away_counts(workspace, monkeypatch):
    """A tolerance that nothing meets: every view is tried from every level, and each try is an evaluation."""
    monkeypatch.setattr(agreement, "TOLERANCE", -1.0)
    monkeypatch.setattr(Agreement, "parts", Parts(key_views=1, leave_out=False))
    state = methods.edit(request(workspace, "strict"), Reporter(), Recorded)
    assert state["unet_evaluations"] == sum(settings["steps"] for _, _, settings in state["calls"])
    assert len(state["calls"]) > 3 * VIEWS and state["carried"] == VIEWS


class Recorded(Agreement):
    """Notes what reaches the editor."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.calls = self.state.setdefault("calls", [])
        editor_edit = self.editor.edit

        def edit(render, original, **settings):
            self.calls.append((render[0].clone(), original, settings))
            return editor_edit(render, original, **settings)

        self.editor.edit = edit

    def save(self):
        calls = self.state.pop("calls", None)
        super().save()
        if calls is not None:
            self.state["calls"] = calls


def test_what_reaches_the_editor(workspace):
    state = methods.edit(request(workspace, "wired", guidance_text=5.0, guidance_image=2.0), Reporter(), Recorded)
    calls = state["calls"]
    photos = [as_tensor(Workspace(workspace).images / f"{index}.png") for index in range(VIEWS)]
    encoded = [exact().encode_original(photo[None]).latent for photo in photos]
    views = [
        next(i for i, latent in enumerate(encoded) if torch.allclose(latent, original.latent, atol=1e-6))
        for _, original, _ in calls
    ]
    carried, updates = calls[:-VIEWS], calls[-VIEWS:]
    assert sorted(set(views[: len(carried)])) == sorted(views[-VIEWS:]) == list(range(VIEWS)), "the original photos"
    probed = 1 + agreement.PROBES
    for (start, _, settings), view in zip(calls[:probed], views):
        assert view == views[0], "whether the model always answers the same"
        assert settings["noise_level"] == [1.0] and torch.allclose(start, photos[view], atol=1e-6)
    assert all(settings["noise_level"][0] in agreement.LEVELS for _, _, settings in carried[probed:])
    for (begun, _, _), view in zip(carried[probed:], views[probed:]):
        assert (begun - photos[view]).abs().mean() > 0.02, "it begins with what was carried, not with the photo"
    levels = [settings["noise_level"][0] for _, _, settings in updates]
    assert levels == sorted(levels, reverse=True) and levels[-1] == pytest.approx(agreement.LOWEST_UPDATE)
    assert levels[0] == pytest.approx(min(state["noise_level"], agreement.HIGHEST_UPDATE))
    expected = [max(1, round(agreement.MOST_STEPS * settings["noise_level"][0])) for _, _, settings in calls]
    assert [settings["steps"] for _, _, settings in calls] == expected, "steps as large from every level"
    assert expected[0] == agreement.MOST_STEPS and expected[-1] == 1
    assert all(s["guidance_text"] == 5.0 and s["guidance_image"] == 2.0 for _, _, s in calls)
    draws = [settings["generators"][0].initial_seed() for _, _, settings in calls]
    assert len(set(draws)) == len(draws), "every edit has noise of its own"


def test_what_it_says_of_itself(workspace):
    events, lines = [], []

    def emit(event):
        if isinstance(event, Progress):
            events.append(event)
        elif isinstance(event, str):
            lines.append(event)

    state = methods.edit(request(workspace, "telling"), Reporter(emit), Agreement)
    looking = [(e.done, e.total, e.unit) for e in events if e.message == "Looking at the views"]
    assert looking == [(number, VIEWS, "view") for number in range(VIEWS)]
    others = list(dict.fromkeys(e.message for e in events if e.message != "Looking at the views"))
    schedule = AgreementSchedule(VIEWS, 1, Agreement.edit_rate(TINY), 3, "falling")
    levels = [schedule.update_level(number, state["noise_level"]) for number in range(VIEWS)]
    assert others == [
        "Carrying the edit",
        *(f"Carrying the edit, {number} of {VIEWS}" for number in range(1, VIEWS + 1)),
        *(f"Update {number} of {VIEWS}, noise {level:.2f}" for number, level in enumerate(levels, 1)),
        "Settling",
    ]
    assert {(e.total, e.unit) for e in events if e.message in others} == {(state["total_steps"], "step")}
    converged = [line for line in lines if line.startswith("Converged")]
    assert converged == (["Converged after 1 round."] if state["converged_rounds"] else [])


def test_cancelled_at_any_moment_it_goes_on_to_the_same_result(workspace):
    whole = methods.edit(request(workspace, "whole"), Reporter(), Agreement)
    stops = (3, 5, 4, 3)  # while views are carried, and while they are updated
    for stop in stops:
        seen = []

        def cancelled(seen=seen, stop=stop):
            return len(seen) >= stop

        def emit(event, seen=seen):
            if isinstance(event, Progress) and event.message.startswith(("Carrying", "Update")):
                if event.message not in seen:
                    seen.append(event.message)

        with pytest.raises(Cancelled):
            methods.edit(request(workspace, "halved"), Reporter(emit, cancelled), Agreement)
    resumed = methods.edit(request(workspace, "halved"), Reporter(), Agreement)
    assert resumed["weights"] == whole["weights"] and resumed["noise_level"] == whole["noise_level"]
    tensors = [read_checkpoint(Workspace(workspace).edit(name))[0] for name in ("whole", "halved")]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def test_the_schedule_carries_once_and_updates_evenly():
    schedule = AgreementSchedule(views=4, rounds=2, edit_rate=10, seed=0, noise="falling")
    assert schedule.edits == 8 and schedule.steps == round(120 / (1 - SETTLING))
    for found in (0.6, 0.75):
        levels = [schedule.update_level(edit, found) for edit in range(8)]
        assert levels[0] == 0.6 and levels[-1] == pytest.approx(0.05)
        assert np.allclose(np.diff(levels), np.diff(levels)[0]) and np.diff(levels)[0] < 0
    assert {schedule.update_level(edit, 1.0) for edit in range(8)} == {1.0}, "a model that needs no start gets none"
    due = [next(step for step in range(200) if schedule.is_due(edit, step)) for edit in range(8)]
    assert due == [40, 50, 60, 70, 80, 90, 100, 110], "after as many steps as a round has"
    assert not schedule.is_due(8, 10_000) and not schedule.is_due(9, 10_000)


class Steady:
    """An editor's `edit` that always gives the same answer, the first, but for the calls that are named."""

    def __init__(self, other_at=()):
        self.calls, self.other_at = [], other_at

    def __call__(self, render, original, *, noise_level, **settings):
        self.calls.extend(noise_level)
        answers = exact().answers(original.latent[0])
        return answers[1 if len(self.calls) - 1 in self.other_at else 0][None]


def steadily(workspace, name, steady, rounds=1):
    class Method(Agreement):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.editor.edit = steady

    lines = []
    state = methods.edit(
        request(workspace, name, rounds=rounds),
        Reporter(lambda event: lines.append(event) if isinstance(event, str) else None),
        Method,
    )
    return state, lines


def test_a_model_that_always_answers_the_same_is_always_asked_from_pure_noise(workspace):
    steady = Steady()
    state, _ = steadily(workspace, "steady", steady)
    assert state["noise_level"] == 1.0 and set(steady.calls) == {1.0}
    assert len(steady.calls) == 2 * VIEWS + agreement.PROBES, "the first view was probed, and is not edited again"
    assert answers_of(workspace, "steady") == [0] * VIEWS


def test_its_updates_are_averaged_with_what_there_was(workspace, monkeypatch):
    """Of each view: its first answer, and two rounds of an update and, three times, of what the scene showed."""
    kept = {}

    class Shaded(Agreement):
        def edited(self, asked):
            return [(self.photo(one.view) * (0.4 + 0.2 * (one.draw % 4))).clamp(0, 1) for one in asked]

        def put(self, view, start, edited):
            if self.state["carried"] is None:
                kept[view] = edited
            super().put(view, start, edited)

        def put_update(self, view, render, edited):
            times = 1 + self.edit_number // VIEWS
            mean = (times * kept[view] + edited + 3 * render) / (times + 4)
            kept[view] = mean if self.parts.mean else edited
            super().put_update(view, render, edited)

    monkeypatch.setattr(agreement, "disagreement", lambda *pictures: 0.0)
    for mean in (True, False):
        monkeypatch.setattr(Shaded, "parts", Parts(mean=mean, stop=False))
        state = methods.edit(request(workspace, f"mean-{mean}", rounds=2), Reporter(), Shaded)
        assert state["noise_level"] == 1.0 and state["edits_done"] == 3 * VIEWS
        for view, expected in kept.items():
            found = as_tensor(Workspace(workspace).edit(f"mean-{mean}") / "dataset" / f"{view}.png").permute(1, 2, 0)
            assert (found - expected).abs().max() < 2 / 255


def test_one_that_only_seemed_to_is_carried_after_all(workspace):
    """Probed it answered the same; the fourth view would be another."""
    fourth = agreement.PROBES + 3
    state, _ = steadily(workspace, "seemed", Steady(other_at=(fourth,)))
    assert state["noise_level"] == agreement.LEVELS[1]
    assert answers_of(workspace, "seemed") == [0] * VIEWS


def test_an_update_that_shows_something_else_is_left_out(workspace, monkeypatch):
    for leave_out in (True, False):
        monkeypatch.setattr(Agreement, "parts", Parts(leave_out=leave_out))
        probed = 1  # another answer: so that updates start from what is shown
        update = agreement.PROBES + VIEWS + 4
        name = f"left-out-{leave_out}"
        state, _ = steadily(workspace, name, Steady(other_at=(probed, update)))
        shown = answers_of(workspace, name)
        assert sorted(shown) == ([0] * VIEWS if leave_out else [0] * (VIEWS - 1) + [1])
        assert state["left_out"] == (1 if leave_out else 0)


def test_rounds_end_when_the_views_agree(workspace, monkeypatch):
    monkeypatch.setattr(agreement, "CONVERGED", 0.5)
    state, lines = steadily(workspace, "converged", Steady(other_at=(1,)), rounds=4)
    assert state["converged_rounds"] == 1 and state["edits_done"] == 2 * VIEWS and state["rounds"] == 4
    assert state["step"] == state["total_steps"] == round(2 * VIEWS * Agreement.edit_rate(TINY) / (1 - SETTLING))
    assert "Converged after 1 round." in lines
    monkeypatch.setattr(Agreement, "parts", Parts(stop=False))
    state, lines = steadily(workspace, "not-stopped", Steady(other_at=(1,)), rounds=4)
    assert state["converged_rounds"] is None and state["edits_done"] == 5 * VIEWS and not lines


def bare(**attributes):
    """The method with nothing but what one of its parts looks at; one key view was carried into the others."""
    method = object.__new__(Agreement)
    method.schedule = AgreementSchedule(views=3, rounds=4, edit_rate=10, seed=0, noise="falling")
    vars(method).update(attributes)
    return method


def test_a_picture_counts_in_the_mean_as_often_as_its_view_was_edited():
    """The update counts once, and what the scene shows three times."""
    before, update, shown = (torch.full((8, 8, 3), value) for value in (0.9, 0.6, 0.3))
    dataset, means = SimpleNamespace(mask=lambda view: None), []
    method = bare(
        state={"carried": 3, "edits_done": 3, "noise_level": 1.0, "disagreements": []},
        trainer=SimpleNamespace(dataset=dataset),
        photo=lambda view: torch.zeros(8, 8, 3),
        latest=lambda view: before,
        put=lambda view, start, edited: means.append(float(edited.mean())),
    )
    for _ in range(method.schedule.edits):
        method.put_update(0, shown, update)
        method.state["edits_done"] += 1
    each_round = [(times * 0.9 + 0.6 + 3 * 0.3) / (times + 4) for times in (1, 2, 3, 4)]
    assert means == pytest.approx(np.repeat(each_round, 3))


@pytest.mark.parametrize("disagreements, rounds", [([0.4] * 3, None), ([0.9] * 3 + [0.02, 0.08, 0.04], 2)])
def test_views_agree_by_the_mean_over_the_last_round(disagreements, rounds):
    said = []
    method = bare(
        state={"carried": 3, "edits_done": 3 + len(disagreements), "disagreements": disagreements},
        trainer=SimpleNamespace(),
        report=Reporter(said.append),
    )
    method._end_when_agreed()
    assert method.state.get("converged_rounds") == rounds
    assert (method.schedule.rounds, len(said)) == ((rounds, 1) if rounds else (4, 0))


def carried(image, covered=None):
    return Carried(image, torch.ones(image.shape[1:], dtype=torch.bool) if covered is None else covered)


def test_disagreement_tells_another_answer_from_noise():
    photo = torch.full((3, 32, 48), 0.5)
    red, blue = photo.clone(), photo.clone()
    red[0] += 0.3
    blue[2] += 0.3
    noisy = red + 0.1 * torch.randn(red.shape, generator=torch.Generator().manual_seed(0))
    assert disagreement(red, carried(red), photo) == 0
    assert disagreement(noisy, carried(red), photo) < 0.1
    assert disagreement(blue, carried(red), photo) == pytest.approx(2**0.5, abs=1e-3)
    half = red.clone()
    half[:, :, 24:] = blue[:, :, 24:]
    assert disagreement(half, carried(red), photo) == pytest.approx(1.0, abs=1e-3), "where half of it differs"


def test_where_too_little_was_carried_nothing_disagrees():
    photo = torch.full((3, 32, 48), 0.5)
    covered = torch.zeros(32, 48, dtype=torch.bool)
    covered[0, :30] = True
    assert not tells(carried(photo + 0.1, covered))
    assert disagreement(photo + 0.4, carried(photo + 0.1, covered), photo) == 0.0
    covered[:2] = True
    assert tells(carried(photo + 0.1, covered))
    assert disagreement(photo + 0.4, carried(photo + 0.1, covered), photo) == pytest.approx(3.0, abs=1e-3)


def test_an_editor_that_answers_no_numbers_is_named(workspace):
    class Broken(Agreement):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.editor.edit = lambda render, *rest, **settings: render * float("nan")

    with pytest.raises(In2nError) as raised:
        methods.edit(request(workspace, "broken"), Reporter(), Broken)
    assert raised.value.code == "not_finite"


def test_noise_is_taken_off_by_as_much_as_it_shows_in_a_cells_mean():
    """An offset of half of the change, under noise that is larger than it and constant over the latent's blocks."""
    photo = torch.full((3, 128, 128), 0.5)
    carried = Carried(photo + 0.1, torch.ones(128, 128, dtype=torch.bool))
    noise = 0.12 * torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
    blocks = noise.repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert disagreement(carried.image + 0.05 + blocks, carried, photo) == pytest.approx(0.5, abs=0.12)
    assert disagreement(carried.image + blocks, carried, photo) < 0.2
    assert disagreement(carried.image + 0.05, carried, photo) == pytest.approx(0.5, abs=1e-3)
