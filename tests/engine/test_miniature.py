"""The miniature: instructions, tokenizer, a few real training steps, resuming, exporting."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from in2n_blender.engine.diffusion.editor import noise_generator
from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.engine.diffusion.miniature import operations
from in2n_blender.models import catalogue
from in2n_blender.models.model import normalised
from in2n_blender.scene.errors import In2nError
from in2n_blender.testbed.miniature import evaluate, instructions, networks, pairs, train, trainer
from in2n_blender.testbed.miniature.settings import TrainingConfig
from in2n_blender.testbed.miniature.trainer import Trainer
from tests.engine.test_operations import pictures


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache as `render_pairs` writes it: two scenes for training, one held out; of scene 1 the shapes are missing.

    The shape is the original once more, so that a test can see whether both are cut alike.
    """
    folder = tmp_path_factory.mktemp("pairs")
    index = {"version": 2, "size": 64, "edits": ["original", "snow", "sunset"], "scenes": {}}
    for scene in (0, 1, pairs.HELD_OUT_FIRST):
        (folder / f"{scene:05d}").mkdir()
        row = {}
        for number, edit in enumerate(index["edits"]):
            row[edit] = f"{scene:05d}/0_{edit}.png"
            array = (pictures(1, 64, scene + number)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            Image.fromarray(array).save(folder / row[edit])
        if scene != 1:
            row["shape"] = row["original"]
        index["scenes"][str(scene)] = [row]
    (folder / "index.json").write_text(json.dumps(index))
    return folder


# --- instructions


def test_every_instruction_has_a_truth_and_paraphrases_of_its_own():
    assert len(instructions.INSTRUCTIONS) >= 10
    phrases = [normalised(phrase) for each in instructions.INSTRUCTIONS for phrase in each.phrases]
    assert len(phrases) == len(set(phrases))
    for each in instructions.INSTRUCTIONS:
        assert len(each.phrases) >= 3
        assert each.rendered != (each.name in operations.OPERATIONS)


@pytest.fixture(scope="module")
def described_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    trainer.write_description(folder, trainer.TrainingProgress(3, 7.0), TrainingConfig())
    return folder


@pytest.mark.parametrize(
    "text",
    ["make it night", "Make it NIGHT!", "turn it to the night.", "As if at night", "please, just make it night now"],
)
def test_paraphrases_match_whatever_their_case_punctuation_and_articles(described_folder, text):
    assert catalogue.read_folder(described_folder).find_instruction(text)[0].text == "make it night"


def test_an_unknown_instruction_names_the_known_ones_and_another_editor(described_folder):
    with pytest.raises(In2nError) as caught:
        catalogue.read_folder(described_folder).check_instruction("turn him into a clown")
    assert caught.value.code == "unknown_instruction"
    for each in instructions.INSTRUCTIONS:
        assert each.text in caught.value.message
    assert "timbrooks/instruct-pix2pix" in caught.value.hint


# --- networks


def test_each_word_of_an_instruction_is_one_token_and_foreign_words_have_tokens(tmp_path):
    tokenizer = networks.build_tokenizer(tmp_path)
    for each in instructions.INSTRUCTIONS:
        for phrase in each.phrases:
            assert len(tokenizer.tokenize(phrase)) == len(phrase.split())
            assert len(tokenizer(phrase).input_ids) <= networks.TEXT_LENGTH
    numbers = list(json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8")).values())
    assert sorted(numbers) == list(range(len(numbers))) and len(tokenizer) == len(numbers)
    assert tokenizer.unk_token_id not in tokenizer("zébra?", add_special_tokens=False).input_ids


# --- pairs


def test_held_out_scenes_are_never_trained_on(cache):
    assert len(pairs.RenderedPairs(cache).views) == 2
    assert len(pairs.RenderedPairs(cache, held_out=True).views) == 1


def test_batches_hold_exact_edits_and_are_repeatable(cache):
    photographs = [(pictures(1, 160, 5)[0] * 255).byte()]
    first, second = (pairs.PairSampler(pairs.RenderedPairs(cache), photographs, seed=4).batch(24, 32) for _ in range(2))
    assert first.texts == second.texts and torch.equal(first.originals, second.originals)
    assert first.originals.shape == first.edits.shape == (24, 3, 32, 32)
    by_phrase = {phrase: each for each in instructions.INSTRUCTIONS for phrase in each.phrases}
    checked = 0
    for original, edit, text in zip(first.originals, first.edits, first.texts):
        each = by_phrase[text.rstrip(".!")]
        if not each.rendered:
            assert torch.allclose(operations.OPERATIONS[each.name](original[None])[0], edit, atol=1e-6)
            checked += 1
    assert checked


def test_shapes_are_cut_as_their_views_are_and_are_not_known_for_all(cache, monkeypatch):
    sampler = pairs.PairSampler(pairs.RenderedPairs(cache), [], seed=2)
    monkeypatch.setattr(sampler, "_tone", lambda pictures, strength: pictures)
    batch = sampler.batch(64, 32)
    rendered = {phrase for each in instructions.INSTRUCTIONS if each.rendered for phrase in each.phrases}
    known = batch.shape_known
    assert known.any() and not known.all()
    assert all(text.rstrip(".!") in rendered for text, is_known in zip(batch.texts, known) if is_known)
    assert torch.equal(batch.shapes[known], batch.originals[known])
    assert (batch.shapes[~known] == 0).all()


def test_photographs_come_with_scikit_image(tmp_path):
    folder = pairs.write_photographs(tmp_path)
    assert {path.stem for path in folder.glob("*.png")} == set(pairs.PHOTOGRAPHS)
    assert all(min(picture.shape[-2:]) >= 128 for picture in pairs.load_photographs(folder))


# --- training


def small_run(cache, out, **changes):
    config = TrainingConfig(**{"steps": 2, "batch": 2, "size": 32, "large_size": 32, "warmup": 1} | changes)
    return trainer.train(out, pairs.PairSampler(pairs.RenderedPairs(cache), [], seed=0), config, torch.device("cpu"))


def test_training_learns_resumes_and_exports_what_the_editor_opens(cache, tmp_path):
    first = small_run(cache, tmp_path)
    assert first.progress.step == 2
    resumed = small_run(cache, tmp_path, steps=3)
    assert resumed.progress.step == 3
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["progress"]["step"] == 3

    editor = load_editor(str(tmp_path / "weights"), "cpu")
    editor.prepare("Make it look like it snowed!")
    image = pictures(1, 64)
    edited = editor.edit(image, image, noise_level=1.0, generators=[noise_generator(0, 0, 0)], steps=1)
    assert edited.shape == image.shape and torch.isfinite(edited).all()
    with pytest.raises(In2nError):
        editor.prepare("give it a moustache")


def test_a_checkpoint_restores_weights_averages_and_optimiser(cache, tmp_path):
    first = small_run(cache, tmp_path)
    deviations = tuple(first.miniature.vae.deviations.tolist())
    again = Trainer(
        networks.build_miniature(deviations, networks.build_tokenizer(tmp_path / "tokenizer")),
        first.config,
        torch.device("cpu"),
    )
    again.restore(tmp_path)
    assert again.progress == first.progress
    for name, value in first.parameters.items():
        assert torch.equal(again.parameters[name], value)
        assert torch.equal(again.averages[name], first.averages[name])
        for key, state in first.optimizer.state[value].items():
            assert torch.equal(again.optimizer.state[again.parameters[name]][key], state)


def untrained(folder, **changes):
    config = TrainingConfig(**{"size": 32, "warmup": 1, "dropout": 0.0} | changes)
    return Trainer(networks.build_miniature((1.0,) * 48, networks.build_tokenizer(folder)), config, torch.device("cpu"))


def test_the_unet_learns_the_shapes_where_they_are_known_and_nowhere_else(cache, tmp_path):
    batch = pairs.PairSampler(pairs.RenderedPairs(cache), [], seed=1).batch(12, 32)
    blind = replace(batch, shape_known=torch.zeros_like(batch.shape_known))
    assert batch.shape_known.any()

    def gradient(batch, weight):
        trainer = untrained(tmp_path, shape_weight=weight)
        trainer.loss(batch).backward()
        return trainer.parameters["unet.conv_in.weight"].grad, trainer.parameters["shape_head.read.weight"].grad

    torch.manual_seed(0)
    with_shapes = gradient(batch, 5.0)
    torch.manual_seed(0)
    without = gradient(batch, 0.0)
    torch.manual_seed(0)
    blinded = gradient(blind, 5.0)
    assert with_shapes[1].abs().max() > 0
    assert not torch.allclose(with_shapes[0], without[0], rtol=0.01)
    assert blinded[1].abs().max() == 0 and torch.allclose(blinded[0], without[0], rtol=1e-4, atol=1e-7)


def test_a_run_starts_from_given_weights_and_counts_their_training(cache, tmp_path):
    first = small_run(cache, tmp_path / "first")
    sampler = pairs.PairSampler(pairs.RenderedPairs(cache), [], seed=0)
    config = TrainingConfig(batch=2, size=32, large_size=32, earlier_steps=2, earlier_hours=1.5)
    second = trainer.train(
        tmp_path / "second",
        sampler,
        config,
        torch.device("cpu"),
        stopped=lambda: True,
        initial=tmp_path / "first" / "weights",
    )
    for name, value in first.averages.items():
        if not name.startswith("shape_head"):
            assert torch.allclose(second.parameters[name], value, rtol=1e-3, atol=1e-4), name  # float16 in between
    weights = [
        load_file(tmp_path / run / "weights/unet/diffusion_pytorch_model.safetensors") for run in ("first", "second")
    ]
    assert weights[0].keys() == weights[1].keys() and all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    assert second.miniature.tokenizer.get_vocab() == first.miniature.tokenizer.get_vocab()
    description = json.loads((tmp_path / "second/weights/miniature.json").read_text())
    assert description["training_steps"] == 2 and description["training_hours"] == 1.5


def test_a_folder_without_a_miniature_is_no_start(cache, tmp_path, capsys):
    code = train.main(
        ["--cache", str(cache), "--no-render", "--out", str(tmp_path / "out"), "--initial", str(tmp_path)]
    )
    assert code == 1 and "no miniature" in capsys.readouterr().err


def test_the_loss_falls(cache, tmp_path):
    trainer = untrained(tmp_path)
    batch = pairs.PairSampler(pairs.RenderedPairs(cache), [], seed=1).batch(4, 32)
    losses = [trainer.step(batch, 0.0) for _ in range(25)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:3])


def test_the_learning_rate_warms_up_and_falls_to_zero(tmp_path):
    trainer = Trainer(
        networks.build_miniature((1.0,) * 48, networks.build_tokenizer(tmp_path)),
        TrainingConfig(warmup=10),
        torch.device("cpu"),
    )
    assert trainer.rate(0.0) == pytest.approx(6e-5)
    trainer.progress.step = 100
    assert trainer.rate(0.5) == pytest.approx(6e-4) and trainer.rate(1.0) == pytest.approx(0.0, abs=1e-12)


def test_without_blender_the_trainer_says_how_to_name_it(tmp_path, capsys):
    code = train.main(
        [
            "--cache",
            str(tmp_path / "cache"),
            "--out",
            str(tmp_path / "out"),
            "--blender-python",
            str(tmp_path / "missing"),
        ]
    )
    assert code == 1
    assert "--blender-python" in capsys.readouterr().err


def test_batches_prepared_by_threads_are_as_large_as_those_on_demand(cache):
    sampler = pairs.PairSampler(pairs.RenderedPairs(cache), [], seed=0)
    config = TrainingConfig(batch=8, size=16, large_size=32, large_share=0.5)
    for threads in (0, 2):
        with pairs.BatchSource(sampler, config, threads) as source:
            shapes = {tuple(source.next().edits.shape) for _ in range(12)}
        assert shapes == {(8, 3, 16, 16), (2, 3, 32, 32)}


def test_a_stopped_run_keeps_its_checkpoint(cache, tmp_path):
    stops = iter([False, False, True])
    config = TrainingConfig(steps=100, batch=2, size=32, large_size=32)
    sampler = pairs.PairSampler(pairs.RenderedPairs(cache), [], seed=0)
    trainer.train(tmp_path, sampler, config, torch.device("cpu"), stopped=lambda: next(stops))
    assert json.loads((tmp_path / "state.json").read_text())["progress"]["step"] == 2


# --- evaluation


def test_psnr_and_nearest_truth_on_known_answers():
    truth = torch.full((1, 3, 4, 4), 0.5)
    assert evaluate.psnr_db(truth + 0.1, truth).item() == pytest.approx(20.0, abs=1e-4)
    truths = torch.stack([torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)])
    edits = torch.stack([torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 0.9)])
    assert evaluate.nearest_truth(edits, truths).tolist() == [0, 1]


def test_evaluation_writes_its_bars_and_a_sheet(cache, tmp_path, monkeypatch):
    """The editor is replaced by one that knows the truth of one instruction: its row must be perfect, the others
    not."""

    class BlackAndWhite:
        guidance_text = guidance_image = 1.0
        steps = 1

        def prepare(self, text):
            pass

        def edit(self, render, original, **_):
            return operations.black_and_white(original)

    monkeypatch.setattr(evaluate, "load_editor", lambda *_: BlackAndWhite())
    evaluate.evaluate_to_folder(tmp_path, cache, tmp_path, torch.device("cpu"))
    result = json.loads((tmp_path / "result.json").read_text())
    rows = {row["instruction"]: row for row in result["instructions"]}
    assert (
        rows["make it black and white"]["psnr_db"] > 60
        and rows["make it black and white"]["right_instruction_share"] == 1
    )
    assert rows["tint it red"]["psnr_db"] < 20 and rows["tint it red"]["right_instruction_share"] == 0
    assert Image.open(tmp_path / "sheet.png").size[0] == 64 * 11


def test_a_capture_is_scored_against_its_truth_and_beside_the_unedited_photos(tmp_path, monkeypatch):
    """The editor is replaced by one that brightens by 0.1: of the snow's truth that is right, of the sunset's not."""

    class Brighter:
        def prepare(self, text):
            pass

        def edit(self, render, original, **_):
            return original + 0.1

    with pytest.raises(In2nError, match="truth"):
        evaluate.evaluate_capture(tmp_path, tmp_path, torch.device("cpu"))
    images = pictures(2, 32) * 0.8
    for folder, offset in (("images", 0.0), ("truth/snow", 0.1), ("truth/sunset", 0.2)):
        (tmp_path / folder).mkdir(parents=True)
        for number, image in enumerate(images):
            array = ((image + offset).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
            Image.fromarray(array).save(tmp_path / folder / f"test_{number:03d}.png")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "truth" / "snow" / "train_000.png")
    monkeypatch.setattr(evaluate, "load_editor", lambda *_: Brighter())
    snow, sunset = evaluate.evaluate_capture(tmp_path, tmp_path, torch.device("cpu"))
    assert snow["views"] == sunset["views"] == 2
    assert snow["psnr_db"] > 45 and snow["unedited_psnr_db"] == pytest.approx(20, abs=0.2)
    assert sunset["psnr_db"] == pytest.approx(20, abs=0.3)
    assert sunset["unedited_psnr_db"] == pytest.approx(13.98, abs=0.2)


# --- the weights in the repository

bundled = pytest.mark.skipif(not (catalogue.MINIATURE.folder / "unet").is_dir(), reason="no bundled weights")


@bundled
def test_photographs_are_edited_on_a_sheet(tmp_path):
    with pytest.raises(In2nError) as caught:
        evaluate.photo_sheet(catalogue.MINIATURE.folder, tmp_path, torch.device("cpu"))
    assert caught.value.code == "no_photos"
    photos = pairs.write_photographs(tmp_path / "photos", 96)
    sheet = np.asarray(
        evaluate.photo_sheet(catalogue.MINIATURE.folder, photos, torch.device("cpu"), count=2, side=64), float
    )
    assert sheet.shape[0] == 14 + 2 * 64 and sheet.shape[1] == 64 * (1 + len(instructions.INSTRUCTIONS))
    original, tiles = (
        sheet[14:, :64],
        [sheet[14:, 64 * i : 64 * (i + 1)] for i in range(1, 1 + len(instructions.INSTRUCTIONS))],
    )
    assert all(np.abs(tile - original).mean() > 8 for tile in tiles), "every edit is plainly visible"


def test_bundled_weights_are_small_and_know_their_instructions():
    total = sum(path.stat().st_size for path in catalogue.MINIATURE.folder.rglob("*.safetensors"))
    assert total <= 16e6
    assert catalogue.MINIATURE.instructions == instructions.INSTRUCTIONS and len(instructions.INSTRUCTIONS) >= 10


@bundled
def test_bundled_weights_really_edit():
    """Nearer to the true edit than the original is, from pure noise, in few steps."""
    editor = load_editor("miniature", "cpu")
    image = pictures(1, 64, seed=3)
    for text, operation in (("make it night", operations.night), ("tint it red", operations.red_tint)):
        editor.prepare(text)
        edited = editor.edit(image, image, noise_level=1.0, generators=[noise_generator(0, 0, 0)], steps=4)
        truth = operation(image)
        assert evaluate.psnr_db(edited, truth) > 20
        assert evaluate.psnr_db(edited, truth) > evaluate.psnr_db(image, truth) + 5
