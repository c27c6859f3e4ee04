"""`models`: the catalogue on the command line."""

import pytest

from in2n_blender.cli import main as cli
from in2n_blender.models import catalogue, hub, machine


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def listed(monkeypatch, capsys, gpu_mb) -> str:
    monkeypatch.setattr(machine, "gpu_mb", lambda: gpu_mb)
    assert cli.main(["models"]) == 0
    return capsys.readouterr().out


def test_every_model_is_listed_with_its_licence_and_whether_it_fits(monkeypatch, capsys):
    shown = listed(monkeypatch, capsys, 12 * 1024)
    paragraphs = {text.split()[0]: " ".join(text.split()) for text in shown.split("\n\n")[1:]}
    assert list(paragraphs) == [model.id for model in catalogue.MODELS]
    for model in catalogue.MODELS:
        assert model.licence in paragraphs[model.id] and model.note in paragraphs[model.id]
    klein = paragraphs["black-forest-labs/FLUX.2-klein-4B"]
    assert "16.0 GB to download" in klein and "fits (16-bit, offloaded, about 9 GB)" in klein and "no guidance" in klein
    assert "text guidance 7.5, image guidance 1.5" in paragraphs["timbrooks/instruct-pix2pix"]
    assert "comes with the package; fits" in paragraphs["miniature"]
    assert "Not for commercial use" in paragraphs["black-forest-labs/FLUX.1-Kontext-dev"]


def test_what_does_not_fit_is_said(monkeypatch, capsys):
    shown = listed(monkeypatch, capsys, 6 * 1024)
    assert "does not fit 6 GB" in shown.partition("Qwen-Image-Edit-2511")[2]
    shown = listed(monkeypatch, capsys, None)
    assert "No NVIDIA GPU was found." in shown and "without a GPU: slow" in shown


def test_a_model_that_is_here_is_said_to_be(monkeypatch, capsys):
    folder = hub.hub_folder("someone/relative") / "snapshots" / "0123"
    family = catalogue.KLEIN.family
    for part in family.parts:
        (folder / part).mkdir(parents=True)
        (folder / part / "model.safetensors").write_bytes(b"0")
    (folder / "model_index.json").write_text(f'{{"_class_name": "{family.pipeline}"}}')
    assert "someone/relative" in listed(monkeypatch, capsys, None)


@pytest.mark.parametrize("answer, found", [("24564\n", 24564), ("8192\n24564\n", 24564), ("", None), ("N/A", None)])
def test_the_driver_is_asked(answer, found):
    assert machine.gpu_mb(lambda: answer) == found


def test_without_a_driver_there_is_no_gpu(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert machine.gpu_mb() is None
