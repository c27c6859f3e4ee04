"""Models of several kinds in the sidebar: only the scales that a model has, and how it is kept in the GPU's memory."""

from pathlib import Path

import bpy
import pytest
from panel_reader import Read
from PIL import Image

from in2n_blender.blender import engine, instructions, model_memory, panels
from in2n_blender.link.requests import MEMORY_PLANS
from in2n_blender.models import catalogue
from in2n_blender.workspace.files import write_json

KLEIN, LONGCAT = catalogue.KLEIN.id, catalogue.LONGCAT.id


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of so many gigabytes, as the engine found it last."""

    def found(gigabytes):
        device = engine.Device("cuda", "a GPU", gigabytes)
        monkeypatch.setattr(engine, "known_devices", lambda: [device])

    return found


def scales_of(panel) -> set[str]:
    return {name for kind, name, *_ in panel.seen if kind == "prop" and str(name).startswith("guidance_")}


def test_the_panel_asks_only_for_the_scales_that_the_model_has(imported, scene, recording):
    settings = scene.in2n
    for model, own, words in (
        ("timbrooks/instruct-pix2pix", {"guidance_text", "guidance_image"}, "Text 7.5 · Image 1.5"),
        (LONGCAT, {"guidance_text"}, "Text 4.5"),
        (KLEIN, set(), "Needs no guidance"),
    ):
        settings.editor, settings.use_default_guidance = model, True
        assert words in Read(panels.IN2N_PT_edit).text
        settings.use_default_guidance = False
        assert scales_of(Read(panels.IN2N_PT_edit)) == own
        set_here = dict(zip(("guidance_text", "guidance_image"), instructions.set_guidance(settings, model)))
        assert {name for name, scale in set_here.items() if scale is not None} == own


def test_a_negative_prompt_is_asked_for_and_sent_where_the_model_takes_one(reconstructed, scene, recording):
    settings = scene.in2n
    settings.instruction, settings.negative_prompt = "Make it snow", " fog "
    shown = lambda: [name for kind, name, *_ in Read(panels.IN2N_PT_edit).seen if kind == "prop"]
    for model, sent in ((LONGCAT, "fog"), (KLEIN, ""), ("miniature", "")):
        settings.editor = model
        assert ("negative_prompt" in shown()) is bool(sent)
        bpy.ops.in2n.edit()
        assert recording.asked[-1]["negative_prompt"] == sent
    settings.editor = LONGCAT
    bpy.ops.in2n.preview()
    assert recording.asked[-1]["negative_prompt"] == "fog"


def test_a_preview_without_scales_can_be_taken(imported, scene, recording):
    settings = scene.in2n
    settings.editor, settings.preview = KLEIN, "snow-1"
    settings.guidance_text = 6.5
    folder = Path(settings.workspace) / "previews" / "snow-1"
    cell = {"file": "picture.png", "guidance_text": None, "guidance_image": None}
    write_json(folder / "preview.json", {"instruction": "Make it snow", "view": "001", "pictures": [cell]})
    Image.new("RGB", (8, 8)).save(folder / "picture.png")
    shown = Read(panels.IN2N_PT_edit)
    assert shown.count("choice") == 1 and shown.arguments("in2n.use_guidance") == [{}]
    assert bpy.ops.in2n.use_picture(file="picture.png") == {"FINISHED"}
    assert settings.key_view == "snow-1/picture.png" and settings.guidance_text == 6.5


def test_a_preview_with_a_text_scale_alone_sets_that(imported, scene, recording):
    settings = scene.in2n
    settings.guidance_image = 1.25
    bpy.ops.in2n.use_guidance(guidance_text=3.0)
    assert (settings.guidance_text, settings.guidance_image) == (3.0, 1.25) and not settings.use_default_guidance


def test_the_memory_plan_is_said_before_the_start(imported, scene, recording, gpu):
    settings = scene.in2n
    settings.editor = KLEIN
    assert "memory_plan" not in str(Read(panels.IN2N_PT_edit).seen), "without a GPU there is nothing to choose"
    gpu(12.0)
    assert "16-bit, offloaded, about 9 GB" in Read(panels.IN2N_PT_edit).text
    settings.memory_plan = "4-bit"
    assert "4-bit, offloaded, about 4 GB" in Read(panels.IN2N_PT_edit).text
    gpu(48.0)
    settings.memory_plan = "auto"
    assert "16-bit, about 18 GB" in Read(panels.IN2N_PT_edit).text
    assert tuple(settings.bl_rna.properties["memory_plan"].enum_items.keys()) == MEMORY_PLANS


def test_what_fits_is_said_of_each_model(gpu):
    assert model_memory.fits_in_words(catalogue.KLEIN) == ("without a GPU: slow, 36 GB of main memory", False)
    gpu(12.0)
    assert model_memory.fits_in_words(catalogue.KLEIN) == ("fits (16-bit, offloaded, about 9 GB)", True)
    assert model_memory.fits_in_words(catalogue.QWEN_2511) == ("does not fit 12 GB", False)
    assert model_memory.plan_in_words("no such model", "auto") == ""
