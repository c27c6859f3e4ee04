"""Which memory plan a model gets, by what is free."""

import pytest

from in2n_blender.link.requests import MEMORY_PLANS
from in2n_blender.models import catalogue, memory

GIGABYTE = 1024
MODELS = [model for model in catalogue.MODELS if model.download_mb]


def test_each_plan_takes_less_than_the_one_before():
    for model in MODELS:
        needed = [memory.needed_mb(model, plan) for plan in memory.PLANS]
        assert needed == sorted(needed, reverse=True), model.label
        assert memory.needed_mb(model, memory.FULL) > needed[0]


def test_weights_count_as_bytes():
    """FLUX.2 klein by hand: 3,875.5 + 4,022.5 + 84 million weights of two bytes, all there while the text is read."""
    megabyte, context = 2**20 / 1e6, memory.CONTEXT_MB
    weights = (3875.5 + 84) * 2 / megabyte
    whole = max(weights + 4022.5 * 2 / megabyte, weights + 10500)
    assert memory.needed_mb(catalogue.KLEIN, memory.PLANS[0]) == pytest.approx(whole + context, abs=1)
    offloaded = 3875.5 * 2 / megabyte + 1500
    assert memory.needed_mb(catalogue.KLEIN, memory.PLANS[2]) == pytest.approx(offloaded + context, abs=1)
    four = 3875.5 * 0.64 / megabyte + 1500
    assert memory.needed_mb(catalogue.KLEIN, memory.PLANS[4]) == pytest.approx(
        max(four, 84 * 2 + 2600) + context, abs=100
    )


@pytest.mark.parametrize(
    "model, memory_gb, name",
    [(catalogue.INSTRUCT_PIX2PIX, 8, "whole"), (catalogue.SDXL, 12, "whole"), (catalogue.KLEIN, 12, "offload")]
    + [(catalogue.KLEIN, 24, "whole"), (catalogue.KLEIN, 8, "8-bit"), (catalogue.LONGCAT_TURBO, 12, "8-bit")]
    + [(catalogue.KONTEXT, 24, "8-bit"), (catalogue.QWEN_2511, 24, "4-bit"), (catalogue.QWEN_2511, 80, "whole")],
)
def test_the_quickest_plan_that_fits(model, memory_gb, name):
    """With the scene's memory beside it: the bars are 8 GB for InstructPix2Pix, 12 for SDXL and 12 for klein."""
    plan = memory.choose(model, memory_gb * GIGABYTE)
    assert plan.name == name
    assert memory.needed_mb(model, plan) + memory.BESIDE_MB <= memory_gb * GIGABYTE
    assert memory.fits(model, memory_gb * GIGABYTE)


def test_where_nothing_fits_the_smallest_is_tried():
    assert memory.choose(catalogue.QWEN_2511, 4 * GIGABYTE) == memory.PLANS[-1]
    assert not memory.fits(catalogue.QWEN_2511, 8 * GIGABYTE)


def test_a_wanted_plan_is_taken():
    for name in MEMORY_PLANS[1:]:
        for free in (2, 100):
            assert memory.choose(catalogue.KLEIN, free * GIGABYTE, name).name == name
    assert not memory.choose(catalogue.KLEIN, 100 * GIGABYTE, "whole").tiles
    assert memory.choose(catalogue.KLEIN, 2 * GIGABYTE, "whole").tiles


def test_after_memory_has_ended_the_next_smaller_one():
    plan, names = memory.PLANS[0], []
    while plan := memory.smaller(plan):
        names.append(plan.name)
    assert names == ["whole", "offload", "8-bit", "4-bit"]
    tiled = memory.smaller(memory.FULL)
    assert tiled.tiles and tiled.bits == 32 and memory.smaller(tiled) is None


def test_plans_in_words():
    words = [memory.in_words(catalogue.KLEIN, plan) for plan in memory.PLANS]
    assert words[2].startswith("FLUX.2 klein 4B: 16-bit, offloaded, about ")
    assert words[3] == "FLUX.2 klein 4B: 8-bit, offloaded, about 6 GB"
    assert words[1].startswith("FLUX.2 klein 4B: 16-bit, in tiles, about ")
    assert memory.spoken_gb(700) == "0.7 GB" and memory.spoken_gb(9000) == "9 GB"
