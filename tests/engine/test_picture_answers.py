"""An exact editor whose answers are pictures: found by the photo, drawn whole, refused where they are missing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from in2n_blender.engine.diffusion.editor import noise_generator
from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.engine.diffusion.picture_answers import Pictures
from in2n_blender.engine.evaluation.answers import compare_with_answers
from in2n_blender.models import catalogue
from in2n_blender.models.exact import PICTURES, RENDERED, SHAPES, ExactSettings
from in2n_blender.scene.errors import In2nError

SIDE, VIEWS = 40, ("test_000", "train_000", "train_001")
EDITS = PICTURES[SHAPES]


def smooth(seed):
    """(side, side, 3) uint8 of large features: a view"""
    small = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    image = functional.interpolate(small, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)
    return (image[0].permute(1, 2, 0) * 255).round().byte().numpy()


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def folder(tmp_path):
    """A scene's, whose name holds a comma"""
    made = tmp_path / "cache, old" / "island"
    for number, view in enumerate(VIEWS):
        save(made / "images" / f"{view}.png", smooth(number))
        for answer, edit in enumerate(EDITS):
            save(made / "truth" / edit / f"{view}.png", smooth(100 * (answer + 1) + number))
    return made


def as_photo(image):
    return torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)


def code_of(action, *given):
    with pytest.raises(In2nError) as refused:
        action(*given)
    return refused.value.code


# --- names


@pytest.mark.parametrize(
    "name, full",
    [
        ("exact:answers=shapes", "exact:answers=shapes,K=3,s=0.12"),
        ("exact:answers=rendered", "exact:answers=rendered,K=4,s=0.12"),
        ("exact:s=0.25,answers=shapes,K=2,pi=3/1", "exact:answers=shapes,K=2,s=0.25,pi=3/1"),
        ("exact:answers=shapes,from=/a,b=c/d", "exact:answers=shapes,K=3,s=0.12,from=/a,b=c/d"),
        ("exact:answers=tints,K=8", "exact:K=8,s=0.12"),
    ],
)
def test_a_name_says_what_the_answers_are_and_where(name, full):
    settings = ExactSettings.from_name(name)
    assert settings.name == full and ExactSettings.from_name(full) == settings
    assert catalogue.find(name).id == full


def test_a_scene_gives_pictures_their_folder_and_tints_none(tmp_path):
    settings = ExactSettings.from_name("exact:answers=rendered,K=2")
    assert settings.pictures == PICTURES[RENDERED][:2]
    assert settings.within(tmp_path).folder == str(tmp_path) and settings.within(tmp_path / "." / "x").folder[0] == "/"
    assert ExactSettings().within(tmp_path) == ExactSettings() and ExactSettings().pictures == ()


@pytest.mark.parametrize(
    "name",
    ["exact:answers=shapes,K=4", "exact:answers=rendered,K=5", "exact:answers=songs", "exact:answers=shapes,from=",
     "exact:K=4,from=/x", "exact:answers=shapes,K=2,pi=1/1/1"],
)  # fmt: skip
def test_wrong_names_are_refused(name):
    assert code_of(ExactSettings.from_name, name) == "unknown_editor"


# --- pictures


def test_a_view_is_known_by_its_photo(folder):
    answers = Pictures(folder, EDITS)(torch.stack([as_photo(smooth(number)) for number in (2, 0)]))
    assert answers.shape == (2, len(EDITS), 3, SIDE, SIDE)
    for row, view in ((0, 2), (1, 0)):
        for answer in range(len(EDITS)):
            torch.testing.assert_close(answers[row, answer], as_photo(smooth(100 * (answer + 1) + view)))


def test_a_blurred_and_a_smaller_photo_are_of_the_same_view(folder):
    pictures, photo = Pictures(folder, EDITS), as_photo(smooth(1))
    noisy = photo + 0.1 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    small = functional.interpolate(photo[None], size=(23, 17), mode="bilinear", antialias=True)
    assert pictures.view_of(noisy) == pictures.view_of(small[0]) == "train_000"
    found, whole = pictures(small), pictures(photo[None])
    assert found.shape == (1, len(EDITS), 3, 23, 17)
    torch.testing.assert_close(found.mean((3, 4)), whole.mean((3, 4)), atol=0.02, rtol=0)


def test_a_picture_of_no_view_is_refused(folder):
    assert code_of(Pictures(folder, EDITS).view_of, as_photo(255 - smooth(1))) == "unknown_view"


def test_every_photo_has_all_answers(folder, tmp_path):
    (folder / "truth" / EDITS[1] / "train_001.png").unlink()
    assert code_of(Pictures, folder, EDITS) == "missing_truth"
    assert Pictures(folder, EDITS[:1]).edits == EDITS[:1]
    assert code_of(Pictures, tmp_path, EDITS) == "missing_truth"


def test_a_picture_that_was_rendered_anew_is_read_anew(folder):
    pictures, photo = Pictures(folder, EDITS), as_photo(smooth(1))[None]
    before = pictures(photo)
    save(folder / "truth" / EDITS[0] / "train_000.png", smooth(77))
    torch.testing.assert_close(pictures(photo)[0, 0], as_photo(smooth(77)))
    torch.testing.assert_close(pictures(photo)[0, 1], before[0, 1])


def test_the_editor_draws_each_of_them(folder):
    settings = replace(ExactSettings.from_name("exact:answers=shapes,s=0.0001"), folder=str(folder))
    editor = load_editor(settings.name, "cpu")
    editor.prepare("anything")
    photo, drawn = as_photo(smooth(0))[None], set()
    for number in range(12):
        edited = editor.edit(photo, photo, noise_level=1.0, generators=[noise_generator(0, number, 0)], steps=10)
        away = [float((edited - as_photo(smooth(100 * (answer + 1)))).abs().max()) for answer in range(3)]
        assert min(away) < 1e-3
        drawn.add(int(np.argmin(away)))
    assert drawn == {0, 1, 2}


def test_views_are_scored_against_them(folder):
    name = ExactSettings.from_name("exact:answers=shapes").within(folder).name
    photos = [smooth(number).astype(np.float32) / 255 for number in range(3)]
    images = [smooth(200 + number).astype(np.float32) / 255 for number in range(3)]
    found, truths = compare_with_answers(name, images, photos)
    assert found.mode == 1 and found.one_mode_share == 1
    np.testing.assert_allclose(truths[2], images[2], atol=1e-6)


def test_without_a_folder_there_is_nothing_to_draw():
    assert code_of(load_editor, "exact:answers=rendered", "cpu") == "unknown_editor"
