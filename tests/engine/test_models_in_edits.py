"""Whole previews and edits with a model that has no guidance, and with one that reads the photos."""

import json

import numpy as np
import pytest
from PIL import Image

from in2n_blender.engine.editing import methods
from in2n_blender.engine.editing.preview import preview
from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.engine.nerf.reconstruction import reconstruct
from in2n_blender.link.requests import Edit, PreviewGrid, Reconstruct
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace
from tests.engine.ball import TINY, ring, sphere_image
from tests.engine.small_models import small_klein_folder, small_longcat_folder

INSTRUCTION = "make it night"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A tiny reconstruction."""
    root = tmp_path_factory.mktemp("ws")
    (root / "images").mkdir()
    views = []
    for index, camera in enumerate(ring(4)):
        Image.fromarray((sphere_image(camera) * 255).astype(np.uint8)).save(root / "images" / f"{index}.png")
        views.append(View(str(index), f"images/{index}.png", camera, held_out=index == 3))
    write_json(root / "capture.json", PinholeCapture("ball", "", "draft", tuple(views)).to_json())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(nerf_settings.CPU, "draft", TINY)
        reconstruct(Reconstruct(workspace=str(root), preset="draft", device="cpu", steps=20), Reporter())
    return str(root)


@pytest.fixture(scope="module", params=[small_klein_folder, small_longcat_folder], ids=["klein", "longcat"])
def model(request, tmp_path_factory):
    """A tiny model that works at a tiny size."""
    folder = request.param(tmp_path_factory.mktemp("model"))
    described = {"steps": 2, "working_side": 32, "instructions": [{"phrases": [INSTRUCTION]}]}
    (folder / "miniature.json").write_text(json.dumps(described))
    return str(folder)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)


def scale_of(model) -> float | None:
    return None if "Flux2Klein" in (open(f"{model}/model_index.json").read()) else 4.5


def test_a_grid_asks_only_for_the_scales_that_the_model_has(workspace, model, tmp_path):
    record = preview(
        PreviewGrid(workspace=workspace, instruction=INSTRUCTION, editor=model, grid=True, out=str(tmp_path)),
        Reporter(),
    )
    files = [cell["file"] for cell in record["pictures"]]
    assert record["image_scales"] == [None] and all((tmp_path / file).is_file() for file in files)
    if scale_of(model) is None:
        assert files == ["picture.png"] and record["text_scales"] == [None]
    else:
        assert files == ["text-3.png", "text-4.5.png", "text-6.png"] and record["text_scales"] == [3.0, 4.5, 6.0]
    assert (tmp_path / "sheet.png").is_file()


def test_an_edit_is_made_stopped_and_goes_on(workspace, model):
    name = "night-" + ("klein" if scale_of(model) is None else "longcat")
    request = Edit(
        workspace=workspace, name=name, instruction=INSTRUCTION, editor=model, preset="draft", device="cpu", rounds=1
    )
    events = []

    def stop():
        return len([event for event in events if getattr(event, "kind", "") == "image"]) >= 2

    with pytest.raises(Cancelled):
        methods.edit(request, Reporter(events.append, stop))
    state = methods.edit(request, Reporter())
    record = json.loads((Workspace(workspace).edit(name) / "edit.json").read_text())
    assert state["done"] and state["edits_done"] >= 3
    assert record["guidance_image"] is None and record["guidance_text"] == scale_of(model)
    assert methods.edit(request, Reporter())["provenance"] == state["provenance"], "done, and not made again"


def test_a_scale_that_the_model_has_not_is_refused(workspace, model, tmp_path):
    given = {"workspace": workspace, "instruction": INSTRUCTION, "editor": model}
    for job, request in (
        (preview, PreviewGrid(**given, grid=True, image_scales=[1.0, 1.5], out=str(tmp_path))),
        (methods.edit, Edit(**given, name="refused", guidance_image=1.5, preset="draft", device="cpu")),
    ):
        with pytest.raises(In2nError) as error:
            job(request, Reporter())
        assert error.value.code == "no_such_scale"
