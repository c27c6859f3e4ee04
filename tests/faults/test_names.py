"""Names that strangers give: of photos, edits and files."""

import time

import pytest

from in2n_blender.link.requests import Edit, from_params
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.names import unique_names
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace


def test_20000_photos_of_one_name_are_told_apart_at_once():
    """They once took five minutes: each counted up from 1."""
    began = time.process_time()
    names = unique_names([f"{'A' if i % 2 else 'a'}/photo{'x' * 80}.png" for i in range(20_000)])
    assert time.process_time() - began < 5  # it takes a tenth of a second
    assert len({name.lower() for name in names}) == 20_000 and max(map(len, names)) <= 69


def test_names_that_get_a_number_do_not_take_anothers():
    names = unique_names(["x/a_2.png", "x/a.png", "x/a.jpg", "x/A.tif", "x/a_3.png"])
    assert len({name.lower() for name in names}) == 5
    assert unique_names(["a.png", "a.jpg", "a.tif"]) == ["a", "a_2", "a_3"]


DEVICES = ["CON", "con.txt", "nul.txt", "aux", "PRN.png", "com1", "LPT9.x", "COM1 .x"]


@pytest.mark.parametrize("name", [*DEVICES, "original", "Original", "../x", "a/b", "C:x", "x."])
@pytest.mark.parametrize("field", ["name", "parent"])
def test_an_edit_cannot_be_called_as_a_device_or_as_the_unedited_scene(tmp_path, name, field):
    params = {"workspace": str(tmp_path), "name": "e", "instruction": "make it snow", field: name}
    for refuses in (lambda: from_params("edit", params), Edit(**params).check, lambda: Workspace(tmp_path).edit(name)):
        with pytest.raises(In2nError) as refused:
            refuses()
        assert refused.value.code == "bad_name"


def test_edits_of_a_workspace_of_a_stranger_that_cannot_be_called_so_are_not_listed(tmp_path):
    for name in ("good", "Original", "x.", "a" * 90):
        write_json(tmp_path / "edits" / name / "edit.json", {})
    assert Workspace(tmp_path).edits() == ["good"]
