"""Models of another shape and damaged files: one sentence, no traceback, nothing run, nothing fetched."""

import json
import os
import pickle
import shutil
import socket
from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.engine.diffusion.reading import UnfitFiles
from in2n_blender.engine.diffusion.weights import check_fit
from in2n_blender.models import hub
from in2n_blender.scene.errors import In2nError
from tests.engine.small_editor import small_editor_folder
from tests.engine.small_models import small_klein_folder

UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT_ENCODER = "text_encoder/model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return small_editor_folder(tmp_path_factory.mktemp("editor"))


@pytest.fixture
def folder(whole, tmp_path, monkeypatch):
    """A copy to be damaged; no connection can be made."""

    def refuse(host, *_):
        raise AssertionError(f"{host} was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return shutil.copytree(whole, tmp_path / "editor")


def refusal(folder) -> str:
    with pytest.raises(In2nError) as error:
        load_editor(str(folder), "cpu").prepare("make it snow")
    assert error.value.code == "editor_unfit" and error.value.hint
    assert "\n" not in error.value.message and len(error.value.message) < 400
    return error.value.message


def write(path, text):
    path.write_text(text)


def state(folder, part, **values):
    path = next((folder / part).glob("*config.json"))
    write(path, json.dumps({**json.loads(path.read_text()), **values}))


def change_weights(path, change):
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def without_one(weights):
    weights.pop(sorted(weights)[0])


def with_a_nan(weights):
    weights[sorted(weights)[-1]].view(-1)[-1] = float("nan")


def with_infinity(weights):
    weights[sorted(weights)[0]].view(-1)[0] = float("inf")


DAMAGES = {
    "class that is a list": lambda folder: state(folder, "unet", _class_name=["x", "y"]),
    "class of a module": lambda folder: state(folder, "unet", _class_name="os.system"),
    "config that is a list": lambda folder: write(folder / "unet" / "config.json", "[]"),
    "config 100,000 deep": lambda folder: write(folder / "unet" / "config.json", '{"_class_name": ' + "[" * 100_000),
    "config cut off": lambda folder: write(folder / "vae" / "config.json", "{"),
    "config that is text": lambda folder: (folder / "vae" / "config.json").write_bytes(b"\xff\xfe\x00"),
    "widths that are text": lambda folder: state(folder, "unet", block_out_channels="x"),
    "huge widths": lambda folder: state(folder, "unet", block_out_channels=[100_000_000, 8]),
    "huge widths of the autoencoder": lambda folder: state(folder, "vae", block_out_channels=[40_000_000, 16]),
    "another number of channels": lambda folder: state(folder, "unet", in_channels=3),
    "a scheduler that is a list": lambda folder: write(folder / "scheduler" / "scheduler_config.json", "[]"),
    "a scheduler without betas": lambda folder: write(folder / "scheduler" / "scheduler_config.json", "{}"),
    "10 billion timesteps": lambda folder: state(folder, "scheduler", num_train_timesteps=10**10),
    "betas that are no numbers": lambda folder: state(folder, "scheduler", beta_end=float("nan")),
    "betas that are text": lambda folder: state(folder, "scheduler", beta_end="x"),
    "a text encoder's config that is a list": lambda folder: write(folder / "text_encoder" / "config.json", "[]"),
    "another text width": lambda folder: state(folder, "text_encoder", hidden_size=32),
    "no text encoder's weights": lambda folder: (folder / TEXT_ENCODER).unlink(),
    "weights cut off": lambda folder: os.truncate(folder / UNET, 1000),
    "weights that are empty": lambda folder: os.truncate(folder / UNET, 0),
    "a weight missing": lambda folder: change_weights(folder / UNET, without_one),
    "a text encoder's weight missing": lambda folder: change_weights(folder / TEXT_ENCODER, without_one),
    "NaN": lambda folder: change_weights(folder / UNET, with_a_nan),
    "infinity in the autoencoder": lambda folder: change_weights(
        folder / "vae" / "diffusion_pytorch_model.safetensors", with_infinity
    ),
    "NaN in the text encoder": lambda folder: change_weights(folder / TEXT_ENCODER, with_a_nan),
    "no tokenizer": lambda folder: [path.unlink() for path in (folder / "tokenizer").iterdir()],
    "a tokenizer that is text": lambda folder: (folder / "tokenizer" / "tokenizer.json").write_bytes(b"\xff\xfe"),
    "a tokenizer of more words": lambda folder: CLIPTokenizer(
        vocab={f"w{i}": i for i in range(500)} | {"<|startoftext|>": 500, "<|endoftext|>": 501},
        merges=[],
        model_max_length=24,
    ).save_pretrained(folder / "tokenizer"),
    "shards outside": lambda folder: (
        (folder / UNET).unlink(),
        write(
            folder / (UNET + ".index.json"),
            json.dumps({"metadata": {}, "weight_map": {"conv_in.weight": "../../outside.safetensors"}}),
        ),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_models(folder, damage):
    DAMAGES[damage](folder)
    refusal(folder)


def test_the_undamaged_one_works(folder):
    load_editor(str(folder), "cpu").prepare("make it snow")


@pytest.mark.parametrize(
    "damage, word",
    [("NaN", "unet are not finite"), ("a weight missing", "unet are missing"), ("no tokenizer", "no tokenizer")]
    + [("class that is a list", "unet does not say"), ("10 billion timesteps", "10000000000 timesteps")],
)
def test_the_sentence_names_the_part(folder, damage, word):
    DAMAGES[damage](folder)
    assert word in refusal(folder)


@pytest.mark.parametrize("rows, fits", [(10, True), (16, True), (9, False)])
def test_a_text_encoder_may_know_more_words_than_its_tokenizer_and_no_fewer(rows, fits):
    """Rounded up, as theirs often are."""
    encoder, words = torch.nn.Module(), range(10)
    encoder.get_input_embeddings = lambda: torch.nn.Embedding(rows, 2)
    with nullcontext() if fits else pytest.raises(UnfitFiles):
        check_fit(words, encoder)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_folder_is_run(folder, tmp_path):
    trap = tmp_path / "trap"
    program = f"import os; os.mkdir({str(trap)!r})"
    for part, file in (("tokenizer", "tokenizer_config.json"), ("text_encoder", "config.json")):
        path = folder / part / file
        stated = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**stated, "auto_map": {"AutoModel": "evil.Evil"}, "trust_remote_code": True}))
        write(folder / part / "evil.py", program)
    load_editor(str(folder), "cpu").prepare("make it snow")
    for weights, pickled in (
        (UNET, "unet/diffusion_pytorch_model.bin"),
        (TEXT_ENCODER, "text_encoder/pytorch_model.bin"),
    ):
        kept = (folder / weights).read_bytes()
        (folder / weights).unlink()
        torch.save({"a": Payload(trap)}, folder / pickled, pickle_module=pickle)
        refusal(folder)
        (folder / weights).write_bytes(kept)
    assert not trap.exists()


@pytest.mark.parametrize("setting", [{}, {hub.ALLOW_DOWNLOAD: "1"}, {hub.ALLOW_DOWNLOAD: "1", "HF_HUB_OFFLINE": "1"}])
def test_a_cached_model_is_used_without_any_request(folder, tmp_path, monkeypatch, setting):
    cached = cache_with(folder, tmp_path, monkeypatch, setting)
    editor = load_editor("someone/an-editor", "cpu")
    editor.prepare("make it snow")
    assert (editor.folder, editor.name) == (cached, "someone/an-editor")


@pytest.mark.parametrize("variable", hub.OFFLINE)
def test_offline_a_model_that_is_not_whole_is_missing_without_any_request(folder, tmp_path, monkeypatch, variable):
    cached = cache_with(folder, tmp_path, monkeypatch, {hub.ALLOW_DOWNLOAD: "1", variable: "1"})
    (cached / UNET).unlink()
    for name in ("someone/an-editor", "nobody/no-such-model"):
        with pytest.raises(In2nError) as error:
            load_editor(name, "cpu")
        assert error.value.code == "editor_missing" and variable in error.value.message


def cache_with(folder, tmp_path, monkeypatch, setting):
    for name in (hub.ALLOW_DOWNLOAD, *hub.OFFLINE):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HF_HUB_CACHE": str(tmp_path / "hub"), **setting}.items():
        monkeypatch.setenv(name, value)
    model = tmp_path / "hub" / "models--someone--an-editor"
    (model / "refs").mkdir(parents=True)
    write(model / "refs" / "main", "0123abcd")
    return shutil.copytree(folder, model / "snapshots" / "0123abcd")


@pytest.fixture(scope="module")
def klein(tmp_path_factory):
    return small_klein_folder(tmp_path_factory.mktemp("klein"))


def index(folder, **values):
    path = folder / "model_index.json"
    write(path, json.dumps({**json.loads(path.read_text()), **values}))


def as_pickle(folder):
    (weights,) = (folder / "transformer").glob("*.safetensors")
    weights.rename(weights.with_suffix(".bin"))


OF_ANOTHER_KIND = {
    "a class that nobody knows": (lambda folder: index(folder, _class_name="SomePipeline"), "made for SomePipeline"),
    "a pipeline of its own": (lambda folder: index(folder, _class_name=["pipeline", "Mine"]), "code of others"),
    "a network of its own": (lambda folder: index(folder, transformer=["mine", "Mine"]), "code of others"),
    "an index that is a list": (lambda folder: write(folder / "model_index.json", "[]"), "model_index.json"),
    "pickled weights": (as_pickle, "only safetensors are read"),
    "a part missing": (lambda folder: shutil.rmtree(folder / "tokenizer"), "has no tokenizer"),
    "another transformer": (lambda f: state(f, "transformer", _class_name="FluxTransformer2DModel"), "FluxTransformer"),
    "another autoencoder": (lambda folder: state(folder, "vae", _class_name="AutoencoderKL"), "vae is a AutoencoderKL"),
    "another scheduler": (lambda f: state(f, "scheduler", _class_name="DDIMScheduler"), "not one of flow matching"),
    "a shift of nothing": (lambda folder: state(folder, "scheduler", shift=0), "shift"),
    "a text width that does not fit": (lambda f: state(f, "transformer", joint_attention_dim=48), "transformer"),
}


@pytest.mark.parametrize("damage", OF_ANOTHER_KIND)
def test_models_of_flow_matching_that_are_unfit_are_one_sentence(klein, tmp_path, damage):
    folder = shutil.copytree(klein, tmp_path / "klein")
    change, word = OF_ANOTHER_KIND[damage]
    change(folder)
    assert word in refusal(folder)
