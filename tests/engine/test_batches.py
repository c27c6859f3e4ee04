"""Views edited in one batch: the same edits as one by one, in order, and smaller batches where memory ends."""

from operator import mul
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from in2n_blender.engine.diffusion.network_editor import BYTES_A_PIXEL, MOST_AT_ONCE, images_that_fit
from in2n_blender.engine.editing import methods
from in2n_blender.engine.editing.agreement import Agreement
from in2n_blender.engine.editing.baselines import OneTimeUpdate
from in2n_blender.engine.editing.batches import AskedEdit, Batches, run_together
from in2n_blender.engine.editing.carrying_plan import PlannedEdit, independent, plan_carrying
from in2n_blender.engine.editing.dataset_update import DatasetUpdate
from in2n_blender.engine.editing.schedule import Schedule
from in2n_blender.scene.errors import Cancelled
from in2n_blender.scene.reporting import Artifact, Reporter
from in2n_blender.workspace.layout import Workspace
from tests.engine.test_agreement import VIEWS, answers_of, request, tiny, workspace  # noqa: F401 (fixtures)
from tests.engine.test_carrying import ring_of_views

EDITED_TOGETHER = 3


def asked(number, size=(4, 6)):
    return AskedEdit(number, torch.full((*size, 3), number / 10), 0.5, 0)


def test_edits_of_one_size_are_made_together_and_come_back_in_order():
    batches = []

    def edit(asked):
        batches.append([one.view for one in asked])
        return [one.start + 0.01 for one in asked]

    of = [asked(0), asked(1, (6, 4)), asked(2), asked(3), asked(4), asked(5, (6, 4))]
    edited = Batches(3).run(of, edit)
    assert batches == [[0, 2, 3], [4], [1, 5]]
    assert all(torch.equal(picture, one.start + 0.01) for one, picture in zip(of, edited))
    batches.clear()
    edited = Batches(3).run(of, edit, lambda one: one.view > 2)
    assert batches == [[0, 2], [1], [3, 4], [5]], "of one kind, too"
    assert all(torch.equal(picture, one.start + 0.01) for one, picture in zip(of, edited))
    assert Batches(0).at_once == 1, "there is no smaller batch"


def test_a_batch_that_takes_too_much_memory_is_halved():
    sizes = []

    def edit(asked):
        sizes.append(len(asked))
        if len(asked) > 2:
            raise torch.OutOfMemoryError("not so many")
        return [one.start for one in asked]

    said = []
    batches = Batches(8, said.append)
    assert len(batches.run([asked(number) for number in range(7)], edit)) == 7
    assert ["3 views are" in said[0], "one view is" in said[1], len(said)] == [True, True, 2]
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1] and batches.at_once == 1
    sizes.clear()
    batches.run([asked(number) for number in range(4)], edit)
    assert max(sizes) <= 2, "what was found holds for later batches"


def test_one_edit_that_takes_too_much_memory_is_an_error():
    def edit(asked):
        raise torch.OutOfMemoryError("not one")

    with pytest.raises(torch.OutOfMemoryError):
        Batches(4).run([asked(0), asked(1)], edit)


def test_works_go_on_with_what_they_asked_for_until_each_is_done():
    batches = []

    def work(number, times):
        got = []
        for _ in range(times):
            got.append(float((yield asked(number)).mean()))
        return number, got

    def edit(asked):
        batches.append([one.view for one in asked])
        return [one.start + len(batches) for one in asked]

    results = run_together([work(1, 2), work(2, 0), work(3, 3)], edit)
    assert batches == [[1, 3], [1, 3], [3]]
    assert [number for number, _ in results] == [1, 2, 3]
    assert results[0][1] == pytest.approx([1.1, 2.1]) and results[2][1] == pytest.approx([1.3, 2.3, 3.3])


def test_no_view_of_a_batch_is_carried_from_another_of_it():
    views = ring_of_views(12)
    plan = plan_carrying(views, at_once=2)
    assert sorted(edit.view for edit in plan) == list(range(12))
    batches, left = [], plan
    while left:
        batches.append(independent(left, 2))
        left = left[len(batches[-1]) :]
    done = set()
    for batch in batches:
        assert all(set(edit.sources) <= done for edit in batch)
        done |= {edit.view for edit in batch}
    assert [len(batch) for batch in batches] == [1, 2, 2, 2, 2, 2, 1], "one on each side of what is edited"
    assert [len(independent(plan_carrying(views), 1))] == [1]


def test_a_view_that_is_to_stay_alone_ends_a_batch():
    plan = [PlannedEdit(4, ()), PlannedEdit(5, (1,)), PlannedEdit(6, (1,)), PlannedEdit(7, (5,))]
    assert [edit.view for edit in independent(plan, 8)] == [4, 5, 6]
    assert [edit.view for edit in independent(plan, 8, alone=6)] == [4, 5]
    assert [edit.view for edit in independent(plan, 2)] == [4, 5]
    assert [edit.view for edit in independent([plan[0], plan[0]], 2)] == [4]


def test_no_batch_reaches_into_the_next_round():
    batches = []

    class Counting(DatasetUpdate):
        def edit_next_views(self, count=1):
            batches.append(count)
            self.state["edits_done"] += count

    method = object.__new__(Counting)
    method.schedule, method.state = Schedule(10, 2, 1, 0, "falling"), {"edits_done": 0}
    method.request = SimpleNamespace(views_together=None)
    method.batches, method.trainer = Batches(4), SimpleNamespace(step_count=20)  # when all of them are due
    for _ in range(7):
        method.before_step()
    assert batches == [4, 4, 2] * 2


def together(method):
    """The method with an editor that takes several views at once; `sizes` notes how many it was given, and `steps` the
    denoising steps of each such batch."""

    class Together(method):
        sizes: list = []
        steps: list = []

        def _views_at_once(self):
            given = self.editor.edit

            def edit(render, original, **more):
                Together.sizes.append(len(render))
                Together.steps.append(more["steps"])
                levels = [self.denoising_steps(level) for level in more["noise_level"]]
                assert levels == [more["steps"]] * len(render), "what has other numbers of steps is another batch"
                return given(render, original, **more)

            self.editor.edit = edit
            return EDITED_TOGETHER

    return Together


def pictures(workspace, name):
    folder = Workspace(workspace).edit(name) / "dataset"
    return [np.asarray(Image.open(folder / f"{index}.png"), np.float32) for index in range(VIEWS)]


def test_edits_in_batches_are_those_made_one_by_one(workspace):
    method = together(OneTimeUpdate)
    batched = methods.edit(request(workspace, "batched"), Reporter(), method)
    single = methods.edit(request(workspace, "single"), Reporter(), OneTimeUpdate)
    assert method.sizes == [3, 3, 3, 1]
    assert batched["unet_evaluations"] == single["unet_evaluations"] and batched["step"] == single["step"]
    for one, other in zip(pictures(workspace, "batched"), pictures(workspace, "single")):
        assert np.abs(one - other).max() <= 1


def test_agreement_in_batches_comes_to_one_answer(workspace):
    method = together(Agreement)
    state = methods.edit(request(workspace, "agreed together", rounds=2), Reporter(), method)
    assert max(method.sizes) == EDITED_TOGETHER and len(set(answers_of(workspace, "agreed together"))) == 1
    assert state["carried"] == VIEWS and len(state["disagreements"]) == state["edits_done"] - VIEWS
    assert state["edits_done"] == VIEWS + VIEWS * (state["converged_rounds"] or 2)
    assert state["unet_evaluations"] == sum(map(mul, method.sizes, method.steps))


def test_a_batch_that_is_stopped_half_way_is_gone_on_with(workspace):
    shown = []
    emit = lambda event: shown.append(event) if isinstance(event, Artifact) and event.kind == "image" else None
    with pytest.raises(Cancelled):
        methods.edit(request(workspace, "stopped"), Reporter(emit, lambda: len(shown) > 4), together(Agreement))
    done = len(shown)
    assert 4 < done < VIEWS
    state = methods.edit(request(workspace, "stopped"), Reporter(emit), together(Agreement))
    assert state["done"] and len(shown) == state["edits_done"] and len(set(answers_of(workspace, "stopped"))) == 1


def test_how_many_images_fit():
    image = BYTES_A_PIXEL * 512 * 512
    assert images_that_fit(0, (512, 512)) == 1
    assert images_that_fit(3 * image, (512, 512)) == images_that_fit(4 * image - 1, (512, 512)) == 3
    assert images_that_fit(3 * image, (512, 256)) == 6
    assert images_that_fit(100 * image, (512, 512)) == MOST_AT_ONCE
