"""Which mask belongs to which photo, and what its pixels mean."""

import json

import pytest

from in2n_blender.scene.capture import DARK, LIGHT, PinholeCapture, pinhole_capture
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.readers import read as read_capture
from tests.scene.captures import ring, write_colmap, write_png, write_transforms


def masks_of(capture):
    return {frame.name: (frame.mask.path.name, frame.mask.ignores) if frame.mask else None for frame in capture.frames}


def test_masks_that_transforms_json_lists(tmp_path):
    write_transforms(tmp_path, ring(4))
    table = json.loads((tmp_path / "transforms.json").read_text())
    for i, frame in enumerate(table["frames"][:3]):
        frame["mask_path"] = f".\\hidden\\m{i}.png"
        if i < 2:
            write_png(tmp_path / f"hidden/m{i}.png")
    (tmp_path / "transforms.json").write_text(json.dumps(table))
    capture = read_capture(tmp_path)
    assert masks_of(capture) == {"000": ("m0.png", DARK), "001": ("m1.png", DARK), "002": None, "003": None}
    (note,) = capture.notes
    assert note.startswith("1 masks") and "m2.png" in note
    views = pinhole_capture(capture, 100).views
    assert [view.mask for view in views] == ["masks/000.png", "masks/001.png", "", ""]


def test_dynamic_masks_of_instant_ngp(tmp_path):
    write_transforms(tmp_path, ring(3))
    write_png(tmp_path / "images/dynamic_mask_001.png")
    assert masks_of(read_capture(tmp_path)) == {"000": None, "001": ("dynamic_mask_001.png", LIGHT), "002": None}


@pytest.mark.parametrize("form", ["{}.png.png", "{}.png", "{}.jpg"])
@pytest.mark.parametrize("reader", ["transforms", "colmap"])
def test_a_folder_of_masks_beside_the_photos(tmp_path, form, reader):
    if reader == "transforms":
        write_transforms(tmp_path, ring(3))
        labels = ["000", "001", "002"]
    else:
        labels = ["front/000", "back/000", "front/001"]
        write_colmap(tmp_path / "sparse/0", [f"{label}.png" for label in labels])
        [write_png(tmp_path / f"images/{label}.png") for label in labels]
    for label in labels[:2]:
        write_png(tmp_path / "masks" / form.format(label))
    frames = read_capture(tmp_path).frames
    found = {f.photo.relative_to(tmp_path / "images").with_suffix("").as_posix(): f.mask for f in frames}
    assert found[labels[2]] is None
    for label in labels[:2]:
        assert found[label].path == tmp_path / "masks" / form.format(label) and found[label].ignores == DARK


@pytest.mark.parametrize("mask", ["../x.png", "/etc/passwd", 3, None, "a\\b"])
def test_a_strangers_mask_stays_in_the_workspace(tmp_path, mask):
    write_transforms(tmp_path, ring(4))
    data = pinhole_capture(read_capture(tmp_path), 100).to_json()
    assert "mask" not in data["views"][0]
    data["views"][0]["mask"] = "masks/000.png"
    assert PinholeCapture.from_json(data).views[0].mask == "masks/000.png"
    data["views"][0]["mask"] = mask
    with pytest.raises(In2nError):
        PinholeCapture.from_json(data)
