"""The grid of guidance scales on one photo, with the tiny random editor."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from in2n_blender.cli import commands
from in2n_blender.cli import main as cli
from in2n_blender.engine.diffusion.editor import noise_generator
from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.engine.editing.preview import SHEET_CELL, Cell, choose_cells, preview, write_sheet
from in2n_blender.engine.pictures import BACKGROUND, GAP, LABEL_HEIGHT
from in2n_blender.link.requests import PreviewGrid
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Artifact, Progress, Reporter
from in2n_blender.workspace.files import write_json
from tests.engine.ball import ring
from tests.engine.small_editor import small_editor_folder


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    folder = small_editor_folder(tmp_path_factory.mktemp("editor"), block_transform=True)
    (folder / "miniature.json").write_text(
        json.dumps(
            {
                "guidance_text": 6.0,
                "guidance_image": 1.5,
                "steps": 2,
                "working_side": 16,
                "instructions": [{"name": "night", "phrases": ["make it night"]}],
            }
        )
    )
    return str(folder)


@pytest.fixture
def workspace(tmp_path):
    """Three photos without a reconstruction; the second is larger than those of drafts and has alpha, the first is held
    out."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    views = []
    for index, camera in enumerate(ring(3)):
        size = (300, 200) if index == 1 else (24, 16)
        k = camera.intrinsics.scaled_to(*size)
        pixels = rng.integers(0, 255, (size[1], size[0], 4 if index == 1 else 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")
        views.append(
            View(f"photo {index}", f"images/{index}.png", type(camera)(k, camera.camera_to_world), held_out=index == 0)
        )
    write_json(tmp_path / "capture.json", PinholeCapture("ball", "", "full", tuple(views)).to_json())
    return str(tmp_path)


def request_for(workspace, editor, **more):
    return PreviewGrid(
        workspace=workspace,
        instruction="make it night",
        editor=editor,
        device="cpu",
        **{"text_scales": [2.0, 5.0], "image_scales": [1.0, 1.5], "view": "photo 2", "grid": True, **more},
    )


def recording(stop_after_pictures=None):
    events = []
    pictures = lambda: [e for e in events if isinstance(e, Artifact) and e.kind == "image"]
    return (
        Reporter(events.append, lambda: stop_after_pictures is not None and len(pictures()) >= stop_after_pictures),
        events,
        pictures,
    )


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_a_grid_is_every_pair_and_says_what_it_is(workspace, editor, tmp_path):
    report, events, pictures = recording()
    result = preview(request_for(workspace, editor), report)
    folder = tmp_path / "previews" / request_for(workspace, editor).folder_name
    assert result["folder"] == str(folder)
    record = json.loads((folder / "preview.json").read_text())
    assert [(p["guidance_text"], p["guidance_image"]) for p in record["pictures"]] == [
        (2.0, 1.0),
        (5.0, 1.0),
        (2.0, 1.5),
        (5.0, 1.5),
    ]
    assert {picture.view for picture in pictures()} == {"photo 2"}
    assert (
        record["view"] == "photo 2"
        and record["instruction"] == "make it night"
        and record["noise_level"] == 1.0
        and record["done"] == 4
    )
    assert [p.path for p in pictures()] == [str(folder / p["file"]) for p in record["pictures"]]
    assert all(pixels(p.path).shape == (16, 24, 3) for p in pictures())
    assert len({pixels(p.path).tobytes() for p in pictures()}) == 4, "guidance changes the picture"
    sheet = Image.open(folder / "sheet.png")
    assert sheet.width > 3 * 200 and sheet.height > 2 * 140
    steps = [e for e in events if isinstance(e, Progress) and e.unit == "step"]
    assert [(e.done, e.total) for e in steps] == [(done, 8) for done in range(8)], "two steps of each of four"
    labels = ["text 2 · image 1", "text 5 · image 1", "text 2 · image 1.5", "text 5 · image 1.5"]
    messages = [f"Picture {number} of 4: {label}" for number, label in enumerate(labels, 1)]
    assert [e.message for e in steps] == [message for message in messages for _ in range(2)]
    assert record["text_scales"] == [2.0, 5.0] and record["image_scales"] == [1.0, 1.5]


def place_of(sheet, color):
    """(left, top, right, bottom) of what has nearly a colour, without its corner, which the label covers."""
    rows, columns = np.nonzero(np.abs(sheet - color).max(-1) <= 2)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("instruction", ["make it night", *("make it night " * count for count in (12, 13))])
def test_on_a_sheet_the_photo_stands_left_of_a_grid_and_all_is_seen(tmp_path, instruction):
    """Of three columns and two rows, each picture of one colour; the title is wider than them, or is not."""
    cells = [Cell(text, image) for image in (1.0, 1.5) for text in (2.0, 5.0, 8.0)]
    colors = [(40 * number, 250 - 40 * number, 120) for number in range(7)]
    photo, *pictures = (np.full((16, 24, 3), color, np.uint8) for color in colors)
    record = {"instruction": instruction, "view": "photo 2"}
    write_sheet(tmp_path / "sheet.png", photo / np.float32(255), cells, pictures, record)
    sheet = pixels(tmp_path / "sheet.png")
    width, height = SHEET_CELL, round(SHEET_CELL * 16 / 24)
    lefts = [GAP, *(2 * GAP + width + column * (GAP + width) for column in range(3))]
    tops = [LABEL_HEIGHT, LABEL_HEIGHT + height + GAP]
    expected = [(lefts[0], tops[0]), *((left, top) for top in tops for left in lefts[1:])]
    for color, (left, top) in zip(colors, expected, strict=True):
        assert place_of(sheet, color) == (left, top, left + width, top + height)
    assert sheet.shape[0] == tops[1] + height + GAP
    title = np.nonzero((np.abs(sheet[:LABEL_HEIGHT] - BACKGROUND).max(-1) > 40).any(0))[0]
    assert title.min() >= GAP and sheet.shape[1] - GAP > title.max()
    right = max(lefts[-1] + width + GAP, title.max() + GAP)
    assert right <= sheet.shape[1] <= right + GAP + 4, "no wider than it has to be"


def test_a_picture_is_the_editors_own_edit_of_the_photo(workspace, editor, tmp_path):
    """From pure noise, conditioned on the photo, with the noise of the view's first edit; batching a grid changes
    nothing."""
    result = preview(request_for(workspace, editor, seed=5), Reporter())
    photo = torch.from_numpy(pixels(tmp_path / "images" / "2.png") / 255).float().permute(2, 0, 1)[None]
    reference = load_editor(editor, "cpu")
    reference.prepare("make it night")
    wanted = reference.edit(
        photo, photo, noise_level=1.0, generators=[noise_generator(5, 2, 0)], guidance_text=5.0, guidance_image=1.5
    )
    made = pixels(f"{result['folder']}/text-5_image-1.5.png")
    assert np.abs(made - 255 * wanted[0].permute(1, 2, 0).numpy()).max() <= 0.51
    again = preview(
        request_for(workspace, editor, seed=5, grid=False, text_scales=[5.0], image_scales=[1.5], restart=True),
        Reporter(),
    )
    assert (pixels(f"{again['folder']}/text-5_image-1.5.png") == made).all() and len(again["pictures"]) == 1


def test_a_negative_prompt_makes_other_pictures_in_a_folder_of_their_own(workspace, tmp_path_factory):
    folder = small_editor_folder(tmp_path_factory.mktemp("free-text"), block_transform=True)
    described = {"guidance_text": 6.0, "guidance_image": 1.5, "steps": 2, "working_side": 16, "instructions": []}
    (folder / "miniature.json").write_text(json.dumps(described))
    editor = str(folder)
    given = {"grid": False, "text_scales": [5.0], "image_scales": [1.5]}
    plain, avoiding = (
        preview(request_for(workspace, editor, negative_prompt=text, **given), Reporter()) for text in ("", "fog")
    )
    assert plain["folder"] != avoiding["folder"] and "negative_prompt" not in plain
    assert avoiding["negative_prompt"] == "fog"
    name = "text-5_image-1.5.png"
    assert (pixels(f"{plain['folder']}/{name}") != pixels(f"{avoiding['folder']}/{name}")).any()


def test_the_photo_is_as_large_as_the_edit_sees_it_and_alpha_is_over_white(workspace, editor):
    """At another size a network makes something else of the same scales."""
    result = preview(request_for(workspace, editor, view="photo 1", grid=False), Reporter())
    assert result["image_size"] == [300, 200] and len(result["pictures"]) == 1
    assert pixels(f"{result['folder']}/photo.png").shape == (200, 300, 3)
    assert pixels(f"{result['folder']}/photo.png").mean() > 160, "random colours are lighter over white"


def test_cancelled_it_keeps_what_it_made_and_goes_on_from_there(workspace, editor, tmp_path):
    report, _events, pictures = recording(stop_after_pictures=2)
    with pytest.raises(Cancelled):
        preview(request_for(workspace, editor), report)
    folder = tmp_path / "previews" / request_for(workspace, editor).folder_name
    assert len(list(folder.glob("text-*"))) == 2 and json.loads((folder / "preview.json").read_text())["done"] == 2
    made = {p: p.stat().st_mtime_ns for p in folder.glob("text-*")}
    report, _events, pictures = recording()
    preview(request_for(workspace, editor), report)
    assert all(p.stat().st_mtime_ns == then for p, then in made.items()) and len(pictures()) == 4

    Image.fromarray(np.zeros((16, 24, 3), np.uint8)).save(tmp_path / "images" / "2.png")
    preview(request_for(workspace, editor), Reporter())
    assert all(p.stat().st_mtime_ns != then for p, then in made.items()), (
        "pictures of another photo are not taken for this one's"
    )

    made = {p: p.stat().st_mtime_ns for p in folder.glob("text-*")}
    for weights in Path(editor).glob("unet/*.safetensors"):
        os.utime(weights, (1, 1))
    preview(request_for(workspace, editor), Reporter())
    assert all(p.stat().st_mtime_ns == then for p, then in made.items()), "a file's time says nothing of its content"
    for weights in Path(editor).glob("unet/*.safetensors"):
        save_file({name: value * 1.01 for name, value in load_file(weights).items()}, weights)
    preview(request_for(workspace, editor), Reporter())
    assert all(p.stat().st_mtime_ns != then for p, then in made.items()), "nor those of other weights"


def test_other_scales_replace_nothing(workspace, editor):
    folder = Path(preview(request_for(workspace, editor), Reporter())["folder"])
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("text-*")}
    result = preview(request_for(workspace, editor, text_scales=[2.0, 3.0]), Reporter())
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("text-*")}
    assert before.items() < after.items() and len(after) == 6 and len(result["pictures"]) == 4


def test_in_a_folder_of_the_users_nothing_of_anothers_is_replaced(workspace, editor, tmp_path):
    out = tmp_path / "mine"
    request = request_for(workspace, editor, out=str(out), grid=False)
    preview(request, Reporter())
    preview(request, Reporter())
    (out / "text-7_image-7.png").write_text("mine")
    for name in ("photo.png", "text-2_image-1.png", "preview.json"):
        kept = (out / name).read_bytes()
        (out / name).write_text("mine")
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        with pytest.raises(In2nError) as refused:
            preview(request_for(workspace, editor, out=str(out), grid=False, seed=9), Reporter())
        assert refused.value.code == "not_ours"
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        (out / name).write_bytes(kept)


def test_a_grid_lies_around_the_editors_own_scales():
    def scales(text, image, **more):
        cells = choose_cells(PreviewGrid(workspace="", instruction="x", **{"grid": True, **more}), text, image)
        return sorted({c.guidance_text for c in cells}), sorted({c.guidance_image for c in cells})

    assert scales(7.5, 1.5) == ([5.0, 7.5, 10.0], [1.0, 1.3, 1.5, 1.8])
    assert scales(1.0, 1.0) == ([1.0, 1.5, 2.5, 4.0], [1.0, 1.25, 1.6])
    assert scales(7.5, 1.5, grid=False) == ([7.5], [1.5])
    assert scales(7.5, 1.5, text_scales=[9.0, 3.0, 3.0]) == ([3.0, 9.0], [1.0, 1.3, 1.5, 1.8])


@pytest.mark.parametrize(
    "wrong, code",
    [
        ({"text_scales": []}, "bad_guidance"),
        ({"text_scales": [float("nan")]}, "bad_guidance"),
        ({"image_scales": [-1.0]}, "bad_guidance"),
        ({"image_scales": [1.0] * 9}, "bad_guidance"),
        ({"view": "nowhere"}, "unknown_view"),
    ],
)
def test_what_is_wrong_is_said(workspace, editor, wrong, code):
    with pytest.raises(In2nError) as raised:
        preview(request_for(workspace, editor, **wrong), Reporter())
    assert raised.value.code == code


def test_the_held_out_photo_is_not_the_default_but_can_be_chosen(workspace, editor):
    assert preview(request_for(workspace, editor, view=None, grid=False), Reporter())["view"] == "photo 1"
    assert preview(request_for(workspace, editor, view="photo 0", grid=False), Reporter())["view"] == "photo 0"


def test_the_request_is_checked_before_anything_runs():
    PreviewGrid(workspace="x", instruction="make it night").check()
    with pytest.raises(In2nError) as raised:
        PreviewGrid(workspace="x", instruction=" ").check()
    assert raised.value.code == "empty_instruction"


def test_the_command_line_asks_for_what_it_was_told(workspace, editor, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(commands, "one_job", lambda request, interruption: asked.append(request))
    line = [
        "preview",
        workspace,
        "--instruction",
        "make it night",
        "--editor",
        editor,
        "--view",
        "photo 2",
        "--seed",
        "3",
    ]
    assert (
        cli.main(
            [*line, "--grid", "--text-scales", "5", "7.5", "--image-scales", "1.3", "--out", str(tmp_path / "out")]
        )
        == 0
    )
    assert cli.main([*line, "--text-scales", "5"]) == 0
    assert asked[0] == PreviewGrid(
        workspace=workspace,
        instruction="make it night",
        editor=editor,
        view="photo 2",
        grid=True,
        text_scales=[5.0, 7.5],
        image_scales=[1.3],
        seed=3,
        device="auto",
        out=str(tmp_path / "out"),
    )
    assert not asked[1].grid and asked[1].text_scales == [5.0] and asked[1].out is None
    assert cli.main([*line, "--text-scales", "5", "6"]) == 2, "several pictures are a grid"
    assert cli.main([*line, "--grid", "--text-scales", "-5"]) == 2 and len(asked) == 2
