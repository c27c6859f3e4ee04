"""CLIP's formulas against constructed directions, and the real classes on a tiny CLIP with random weights made on the
spot."""

import shutil

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from in2n_blender.engine.evaluation.clip_metrics import (
    Clip,
    direction_consistency,
    direction_consistency_printed,
    direction_similarity,
    load_clip,
)
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Reporter
from tests.engine.small_editor import small_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("clip"), small_tokenizer()
    size = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), max_position_embeddings=24, bos_token_id=0, eos_token_id=1, pad_token_id=1, **size
    )
    vision = CLIPVisionConfig(image_size=32, patch_size=8, **size)
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(folder):
    return load_clip(str(folder), "cpu")


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """An empty cache, and no leave to download."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("IN2N_ALLOW_DOWNLOAD", raising=False)
    return tmp_path


def pictures(seed, count=3):
    return list(np.random.default_rng(seed).random((count, 40, 52, 3), dtype=np.float32))


def rows(*vectors):
    return torch.tensor(vectors, dtype=torch.float32)


# --- formulas


def test_an_edit_straight_along_the_caption_has_similarity_one():
    original = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    source, target = rows([1, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0])
    assert direction_similarity(original + 0.3 * (target - source), original, source, target) == pytest.approx(
        [1.0] * 4, abs=1e-5
    )
    assert direction_similarity(original - 2.0 * (target - source), original, source, target) == pytest.approx(
        [-1.0] * 4, abs=1e-5
    )


def test_similarity_of_a_known_angle():
    original, edited = rows([0, 0, 0]), rows([1, 1, 0])
    assert direction_similarity(edited, original, rows([0, 0, 0])[0], rows([1, 0, 0])[0]) == pytest.approx(
        [np.sqrt(0.5)]
    )
    assert direction_similarity(edited, original, rows([0, 0, 0])[0], rows([0, 0, 1])[0]) == pytest.approx([0.0])


def test_what_has_no_direction():
    picture, caption, other = rows([0.6, 0.8], [0.0, 1.0]), rows([1, 0])[0], rows([0, 1])[0]
    assert direction_similarity(picture, picture, caption, other) == [0.0, 0.0], (
        "an unchanged view has not moved to the caption"
    )
    assert direction_similarity(picture, picture, caption, caption) == [None, None], "equal captions say nowhere to go"
    assert direction_consistency(picture, picture) == [None], "no edit, so that it cannot be consistent"
    assert direction_consistency(picture + rows([0, 0], [0, 1]), picture) == [0.0], (
        "one frame edited and its neighbour not"
    )


def test_consistency_of_known_directions():
    original = rows([1, 0, 0], [0, 1, 0], [0, 0, 1])
    same = rows([0.5, 0, 0]).expand(3, 3)
    assert direction_consistency(original + same, original) == pytest.approx([1.0, 1.0])
    turned = rows([1, 0, 0], [0, 2, 0], [0, 3, 0])
    assert direction_consistency(original + turned, original) == pytest.approx([0.0, 1.0])
    assert len(direction_consistency(original[:1], original[:1])) == 0


def test_the_printed_formula_by_hand():
    original, edited = rows([1, 0], [5, 5]), rows([3, 1], [3, 5])
    # (e_0 - o_0) . (e_1 - e_0) = (2, 1) . (0, 4); the second original plays no part in it
    assert direction_consistency_printed(edited, original) == pytest.approx([4.0])
    assert direction_consistency_printed(edited, rows([1, 0], [9, 9])) == pytest.approx([4.0])


# --- the real model


def test_scores_equal_numpy_on_the_models_own_embeddings(clip):
    from PIL import Image

    edited, original, captions = pictures(1), pictures(2), ["a garden", "a garden in snow"]

    def by_hand(images):
        """Through PIL and the processor of one picture at a time, straight through the model's two halves."""
        found = []
        for image in images:
            pixels = clip.processor(
                Image.fromarray(np.round(image * 255).astype(np.uint8)), return_tensors="pt"
            ).pixel_values
            with torch.no_grad():
                found.append(clip.model.visual_projection(clip.model.vision_model(pixels).pooler_output)[0].numpy())
        return [vector / np.linalg.norm(vector) for vector in found]

    def caption(text):
        tokens = clip.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            vector = clip.model.text_projection(clip.model.text_model(tokens.input_ids).pooler_output)[0].numpy()
        return vector / np.linalg.norm(vector)

    cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    e, o = by_hand(edited), by_hand(original)
    found_e, found_o = clip.embed_images(edited), clip.embed_images(original)
    np.testing.assert_allclose(found_e, e, atol=1e-5)
    wanted = caption(captions[1]) - caption(captions[0])
    np.testing.assert_allclose(
        direction_similarity(found_e, found_o, *clip.embed_texts(captions)),
        [cosine(a - b, wanted) for a, b in zip(e, o)],
        atol=1e-3,
    )
    np.testing.assert_allclose(
        direction_consistency(found_e, found_o), [cosine(e[i] - o[i], e[i + 1] - o[i + 1]) for i in range(2)], atol=1e-3
    )
    np.testing.assert_allclose(
        direction_consistency_printed(found_e, found_o),
        [(e[i] - o[i]) @ (e[i + 1] - e[i]) for i in range(2)],
        atol=1e-5,
    )


def test_embeddings_have_unit_length_and_long_captions_are_cut(clip):
    texts = clip.embed_texts(["a", "a very long caption " * 20])
    assert torch.allclose(texts.norm(dim=1), torch.ones(2), atol=1e-5) and not torch.equal(*texts)
    assert torch.allclose(clip.embed_texts(["a"])[0], texts[0], atol=1e-5), "padding does not matter"


def test_embedding_is_cancelled_inside_one_image(clip):
    asked = iter(range(2))
    with pytest.raises(Cancelled):
        clip.embed_images(pictures(1, 1), Reporter(cancelled=lambda: next(asked, None) is None))
    assert len(clip.embed_images(pictures(1, 1))) == 1, "and works again afterwards"


# --- where it comes from


def test_weights_that_are_not_there_give_none_and_one_note(no_network):
    notes = []
    assert load_clip("nobody/no-such-clip", "cpu", note=notes.append) is None
    assert len(notes) == 1 and "nobody/no-such-clip" in notes[0] and "IN2N_ALLOW_DOWNLOAD" in notes[0]


def test_a_failed_download_gives_none_and_one_note(no_network, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("IN2N_ALLOW_DOWNLOAD", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    notes = []
    assert load_clip("nobody/no-such-clip", "cpu", note=notes.append) is None
    assert len(notes) == 1 and "could not be downloaded" in notes[0]


@pytest.mark.parametrize("leave", [None, "1"])
def test_a_model_in_the_local_cache_needs_no_network(no_network, folder, monkeypatch, leave):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    if leave:
        monkeypatch.setenv("IN2N_ALLOW_DOWNLOAD", leave)
    cached = no_network / "models--someone--a-clip"
    shutil.copytree(folder, cached / "snapshots" / "0123abcd")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123abcd")
    assert load_clip("someone/a-clip", "cpu").name == "someone/a-clip"
    (cached / "snapshots" / "0123abcd" / "model.safetensors").rename(
        cached / "snapshots" / "0123abcd" / "pytorch_model.bin"
    )
    notes = []
    assert load_clip("someone/a-clip", "cpu", note=notes.append) is None and len(notes) == 1, "pickled weights are none"


def test_names_and_folders_that_are_no_clip(tmp_path, folder):
    with pytest.raises(In2nError) as error:
        load_clip("no such thing", "cpu")
    assert error.value.code == "unknown_clip"
    with pytest.raises(In2nError) as error:
        Clip("empty", tmp_path, "cpu")
    assert error.value.code == "clip_unfit"


def without_tokenizer(folder):
    for file in [*folder.glob("tokenizer*"), *folder.glob("vocab*"), *folder.glob("merges*")]:
        file.unlink()


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def half(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "text_projection" not in name},
        folder / "model.safetensors",
        {"format": "pt"},
    )


def broken(folder):
    (folder / "model.safetensors").write_bytes(b"not weights")


@pytest.mark.parametrize("damage", [without_tokenizer, pickled, half, broken])
def test_a_damaged_clip_is_named_and_never_guessed(tmp_path, folder, damage):
    shutil.copytree(folder, tmp_path / "clip")
    damage(tmp_path / "clip")
    with pytest.raises(In2nError) as error:
        load_clip(str(tmp_path / "clip"), "cpu")
    assert error.value.code == "clip_unfit" and "\n" not in error.value.message
