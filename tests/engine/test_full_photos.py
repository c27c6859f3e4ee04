"""Photos at their full size, undistorted one by one when they are asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from in2n_blender.engine.full_photos import full_photo
from in2n_blender.engine.importing import normalise_capture
from in2n_blender.engine.photos import decode, normalise_photo
from in2n_blender.link.requests import FullPhoto, ImportCapture
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.lens import pinhole_for
from in2n_blender.scene.readers import read
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.layout import Workspace
from tests.scene.captures import ring, write_transforms

SIZE = (1200, 800)  # more than a draft keeps
LENS = {"w": SIZE[0], "h": SIZE[1], "fl_x": 900.0, "fl_y": 905.0, "cx": 590.0, "cy": 410.0, "k1": -0.12, "k2": 0.03}


@pytest.fixture
def imported(tmp_path):
    """A capture of large photos of a lens that distorts, imported at draft size."""
    write_transforms(tmp_path / "dog", ring(3), photos=False, **LENS)
    (tmp_path / "dog/images").mkdir()
    over, down = np.meshgrid(np.linspace(0, 40, SIZE[0]), np.linspace(0, 30, SIZE[1]))
    for index in range(3):
        waves = np.stack([np.sin(over + index), np.cos(down), np.sin(over + down)], -1)
        Image.fromarray(np.uint8(127 + 120 * waves)).save(tmp_path / f"dog/images/00{index}.png")
    workspace = Workspace(tmp_path / "work")
    normalise_capture(
        ImportCapture(workspace=str(workspace.root), source=str(tmp_path / "dog"), preset="draft"), Reporter()
    )
    return workspace


def asked(workspace, photo="001") -> dict:
    return full_photo(FullPhoto(workspace=str(workspace.root), photo=photo), Reporter())


def test_a_photo_is_undistorted_at_its_full_size_once(imported, tmp_path):
    before = {path.name for path in imported.root.iterdir()}
    answer = asked(imported)
    file = Path(answer["file"])
    assert answer["made"] and file.parent == imported.full and [file] == list(imported.full.iterdir())
    assert {path.name for path in imported.root.iterdir()} == before | {"full"}
    frame = next(f for f in read(tmp_path / "dog").frames if f.name == "001")
    expected = normalise_photo(decode(frame.photo), frame.lens, pinhole_for(frame.lens), max(SIZE))
    made = decode(file)
    assert made.shape == (SIZE[1], SIZE[0], 3)
    off = np.abs(made.astype(int) - expected)
    assert off.mean() < 1 and off.max() < 12, "JPEG, as good as is not seen"
    written = file.stat().st_mtime_ns
    assert asked(imported) == {"file": str(file), "made": False} and file.stat().st_mtime_ns == written


def test_a_photo_that_was_replaced_is_made_anew(imported, tmp_path):
    first = asked(imported)["file"]
    original = tmp_path / "dog/images/001.png"
    Image.fromarray(255 - decode(original)).save(original)
    again = asked(imported)
    assert again["made"] and again["file"] != first
    assert abs(decode(Path(again["file"])).mean() + decode(Path(first)).mean() - 255) < 2


def test_why_there_is_none(imported, tmp_path):
    def code(photo="001"):
        with pytest.raises(In2nError) as error:
            asked(imported, photo)
        return error.value.code

    assert code("999") == "no_photo"
    (tmp_path / "dog/images/000.png").unlink()
    assert code("000") == "no_original"
    (tmp_path / "dog/images/001.png").write_bytes(b"not a picture")
    assert code() == "no_original"
    noted = json.loads(imported.originals.read_text())
    imported.originals.write_text(json.dumps({**noted, "capture": "another"}))
    assert code("002") == "no_original", "the notes are of another import"
    assert not imported.full.exists()


def test_nothing_is_noted_of_photos_that_are_kept_at_their_size(tmp_path):
    write_transforms(tmp_path / "cat", ring(3), size=(48, 32), fl_x=40.0, fl_y=41.0, cx=23.0, cy=17.0, k1=-0.1)
    workspace = Workspace(tmp_path / "work")
    capture = normalise_capture(
        ImportCapture(workspace=str(workspace.root), source=str(tmp_path / "cat"), preset="draft"), Reporter()
    )
    assert not workspace.originals.exists() and len(capture.views) == 3


def test_photos_with_transparency_keep_it(tmp_path):
    write_transforms(tmp_path / "dog", ring(3), photos=False, **LENS)
    (tmp_path / "dog/images").mkdir()
    for index in range(3):
        picture = np.full((SIZE[1], SIZE[0], 4), 200, np.uint8)
        picture[..., 3] = np.where(np.arange(SIZE[0]) < SIZE[0] // 2, 0, 255)
        Image.fromarray(picture).save(tmp_path / f"dog/images/00{index}.png")
    workspace = Workspace(tmp_path / "work")
    normalise_capture(
        ImportCapture(workspace=str(workspace.root), source=str(tmp_path / "dog"), preset="draft"), Reporter()
    )
    file = Path(asked(workspace)["file"])
    made = decode(file)
    assert file.suffix == ".png" and made[400, 100, 3] == 0 and tuple(made[400, 1100]) == (200, 200, 200, 255)
