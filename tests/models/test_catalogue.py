import json
from pathlib import Path

import pytest

from in2n_blender.models import catalogue, memory
from in2n_blender.models.families import FAMILIES, INDEX_FILE
from in2n_blender.scene.errors import In2nError

README = Path(__file__).resolve().parents[2] / "README.md"
DESCRIPTION = {
    "instructions": [
        {"name": "snow", "phrases": ["make it snow", "cover it with snow"], "rendered": True},
        {"name": "gold", "phrases": ["make it gold"]},
    ],
    "guidance_text": 2.0,
    "guidance_image": 1.25,
    "steps": 3,
    "working_side": 96,
}


def described(folder, **changes):
    (folder / catalogue.DESCRIPTION_FILE).write_text(json.dumps({**DESCRIPTION, **changes}))
    return folder


def code(call, *arguments):
    with pytest.raises(In2nError) as error:
        call(*arguments)
    assert "\n" not in error.value.message and len(error.value.message) < 400
    return error.value.code


def test_every_model_says_what_it_is_and_needs():
    assert [model.id for model in catalogue.MODELS[:2]] == ["miniature", "timbrooks/instruct-pix2pix"]
    assert len({model.id for model in catalogue.MODELS}) == len({model.label for model in catalogue.MODELS}) == 9
    for model in catalogue.MODELS:
        assert catalogue.find(model.id) is model
        assert model.label and model.description and model.licence and model.suggestions and model.sizes
        assert model.guidance_text is None or model.guidance_text > 0
        assert (model.guidance_image is not None) == model.family.has_image_scale
        assert model.steps >= 1 and model.working_side >= 64
        if model.download_mb:
            assert model.working_side**2 <= model.most_pixels
            weights = model.sizes.denoiser + model.sizes.text + model.sizes.vae
            assert 1.9 < model.download_mb / weights < 5.1, "16 or 32 bits a weight"
            assert catalogue.on_the_hub(model.id)[1], "what is fetched is a commit"


def test_the_readmes_table_is_the_catalogue():
    """With the plans' memory as `models.memory` tells it."""
    rows = {row.split("`")[1]: row for row in README.read_text(encoding="utf-8").splitlines() if row.startswith("| `")}
    assert set(rows) >= {model.id for model in catalogue.ON_THE_HUB}
    for model in catalogue.ON_THE_HUB:
        plans = [plan for plan in memory.PLANS if plan != memory.PLANS[0]]
        needed = " / ".join(memory.spoken_gb(memory.needed_mb(model, plan)).removesuffix(" GB") for plan in plans)
        wanted = (model.licence, f"| {model.download_mb / 1000:.1f} GB |", f"| {needed} GB |", f"| {model.steps} |")
        assert all(part in rows[model.id] for part in wanted), rows[model.id]


def test_what_may_not_be_used_commercially_says_so():
    restricted = [model for model in catalogue.MODELS if "Non-Commercial" in model.licence]
    assert [model.label for model in restricted] == ["FLUX.1 Kontext dev"]
    assert all(model.note.startswith("Not for commercial use") for model in restricted)


def test_a_scale_that_a_model_has_not_is_refused():
    catalogue.INSTRUCT_PIX2PIX.check_scales(7.5, 1.5)
    catalogue.KLEIN.check_scales(None, None)
    catalogue.KONTEXT.check_scales(2.5, None)
    for scales in ((3.5, None), (None, 1.5)):
        assert code(catalogue.KLEIN.check_scales, *scales) == "no_such_scale"


def test_a_negative_prompt_that_would_change_nothing_is_refused():
    for model in (catalogue.INSTRUCT_PIX2PIX, catalogue.SDXL, catalogue.LONGCAT, catalogue.QWEN_2511):
        model.check_negative_prompt("fog", None)
    catalogue.LONGCAT_TURBO.check_negative_prompt("fog", 2.0)
    catalogue.KONTEXT.check_negative_prompt("  ", None)
    for model in (catalogue.MINIATURE, catalogue.KLEIN, catalogue.KONTEXT, catalogue.find("exact")):
        assert not model.takes_negative_prompt
        assert code(model.check_negative_prompt, "fog", 2.0) == "no_negative_prompt"
    for model, scale in ((catalogue.LONGCAT_TURBO, None), (catalogue.QWEN_2511, 1.0)):
        assert code(model.check_negative_prompt, "fog", scale) == "no_negative_prompt"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.pipeline)
def test_a_folder_is_what_its_index_names(tmp_path, family):
    (tmp_path / INDEX_FILE).write_text(
        json.dumps({"_class_name": family.pipeline, "vae": ["diffusers", "AutoencoderKL"]})
    )
    model = catalogue.find(str(tmp_path))
    assert model.family == family and model.licence is None and model.download_mb == 0
    assert (model.guidance_image is not None) == family.has_image_scale


def test_a_copy_of_a_known_model_has_its_defaults(tmp_path):
    index = {"_class_name": "LongCatImageEditPipeline"}
    for name, steps in (("LongCat-Image-Edit", 50), ("LongCat-Image-Edit-Turbo", 8)):
        (tmp_path / name).mkdir()
        (tmp_path / name / INDEX_FILE).write_text(json.dumps(index))
        assert catalogue.find(str(tmp_path / name)).steps == steps
    (tmp_path / "mine" / "scheduler").mkdir(parents=True)
    (tmp_path / "mine" / INDEX_FILE).write_text(json.dumps(index))
    for most, steps, scale in ((1.15, 8, 1.0), (1.5, 50, 4.5)):
        stated = json.dumps({"base_shift": 1.15, "max_shift": most})
        (tmp_path / "mine" / "scheduler" / "scheduler_config.json").write_text(stated)
        model = catalogue.find(str(tmp_path / "mine"))
        assert (model.steps, model.guidance_text) == (steps, scale), "the Turbo is known by its scheduler"
    for distilled, scale in ((True, None), (False, 4.0)):
        (tmp_path / INDEX_FILE).write_text(json.dumps({"_class_name": "Flux2KleinPipeline", "is_distilled": distilled}))
        assert catalogue.find(str(tmp_path)).guidance_text == scale


@pytest.mark.parametrize(
    "index, word",
    [
        ('{"_class_name": "StableDiffusion3Pipeline"}', "StableDiffusion3Pipeline"),
        ('{"_class_name": ["pipeline", "MyPipeline"]}', "code"),
        ('{"_class_name": "Flux2KleinPipeline", "transformer": ["my_transformer", "Mine"]}', "code"),
        ("[]", "cannot be read"),
        ("{", "cannot be read"),
        ('{"a": 1}', "made for None"),
    ],
)
def test_a_folder_of_another_kind_is_one_sentence(tmp_path, index, word):
    (tmp_path / INDEX_FILE).write_text(index)
    with pytest.raises(In2nError) as error:
        catalogue.find(str(tmp_path))
    assert error.value.code == "editor_unfit" and word in error.value.message and error.value.hint


def test_the_miniatures_entry_is_what_its_weights_were_trained_for():
    written = json.loads((catalogue.MINIATURE.folder / catalogue.DESCRIPTION_FILE).read_text())
    assert catalogue.MINIATURE.guidance_text == written["guidance_text"] == 1.0
    assert catalogue.MINIATURE.steps == written["steps"] == 2
    assert [i.text for i in catalogue.MINIATURE.instructions] == [e["phrases"][0] for e in written["instructions"]]
    assert catalogue.MINIATURE.suggestions[0] == "Make it look like it snowed"
    assert catalogue.MINIATURE.download_mb == 0 and not catalogue.MINIATURE.half_precision


def test_instruct_pix2pix_takes_every_text_but_none():
    assert catalogue.INSTRUCT_PIX2PIX.check_instruction(" Turn him into a clown ") == "Turn him into a clown"
    assert code(catalogue.INSTRUCT_PIX2PIX.check_instruction, " \n") == "empty_instruction"
    assert code(catalogue.MINIATURE.check_instruction, "") == "empty_instruction"


def test_a_folder_that_describes_itself(tmp_path):
    model = catalogue.find(str(described(tmp_path)))
    assert (model.id, model.folder) == (str(tmp_path), tmp_path)
    assert (model.guidance_text, model.guidance_image, model.steps, model.working_side) == (2.0, 1.25, 3, 96)
    assert model.check_instruction("Please, cover it with the SNOW!") == "cover it with snow"
    instruction, phrase = model.find_instruction("cover it with snow")
    assert (instruction.name, instruction.text, instruction.rendered, phrase) == (
        "snow",
        "make it snow",
        True,
        "cover it with snow",
    )
    assert model.suggestions == ("Make it snow", "Make it gold")
    with pytest.raises(In2nError) as error:
        model.check_instruction("make it purple")
    assert error.value.code == "unknown_instruction"
    assert "“make it snow”, “make it gold”" in error.value.message and "timbrooks/instruct-pix2pix" in error.value.hint


def test_other_folders_and_hub_models_are_taken_as_instruct_pix2pix(tmp_path):
    for name, folder in ((str(tmp_path), tmp_path), ("someone/an-editor", None)):
        model = catalogue.find(name)
        assert (model.id, model.folder, model.instructions) == (name, folder, ())
        assert (model.guidance_text, model.guidance_image, model.steps) == (7.5, 1.5, 20)
        assert model.licence is None, "nobody knows"


@pytest.mark.parametrize(
    "changes",
    [
        {"guidance_text": "x"},
        {"guidance_text": float("nan")},
        {"guidance_image": -1},
        {"steps": 0},
        {"steps": 10**9},
        {"steps": True},
        {"working_side": 10**6},
        {"instructions": 5},
        {"instructions": [5]},
        {"instructions": [{"phrases": []}]},
        {"instructions": [{"phrases": [1]}]},
    ],
    ids=str,
)
def test_a_description_that_makes_no_sense(tmp_path, changes):
    assert code(catalogue.find, str(described(tmp_path, **changes))) == "editor_unfit"


@pytest.mark.parametrize("text", ["[]", "{", "7", "[" * 100_000, "{}"], ids=lambda text: text[:5])
def test_a_description_that_is_damaged(tmp_path, text):
    (tmp_path / catalogue.DESCRIPTION_FILE).write_text(text)
    assert code(catalogue.find, str(tmp_path)) == "editor_unfit"
    (tmp_path / catalogue.DESCRIPTION_FILE).write_bytes(b"\xff\xfe\x00")
    assert code(catalogue.find, str(tmp_path)) == "editor_unfit"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "no such thing",
        "~nosuch/x",
        "x" * 300,
        "a/" + "b" * 300,
        "a/../b",
        "../../etc",
        "a/b\n",
        "a\0b",
        "\\\\host\\x",
    ]
    + ["\\\\host\\x", "https://example.com/a/b"],
)
def test_names_of_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # from a checkout near the root, ../../etc is a folder that is there
    assert code(catalogue.find, name) == "unknown_editor"
