"""What the files of the method say of their own classes: which methods a subclass has to bring, which values stay."""

import ast
import importlib
import inspect
import textwrap
from dataclasses import is_dataclass
from pathlib import Path

import pytest

ENGINE = Path(__file__).parents[2] / "in2n_blender" / "engine"
FILES = [path for room in ("editing", "diffusion", "nerf") for path in sorted((ENGINE / room).glob("*.py"))]
# Values that are filled, or changed, where they are.
CHANGED = {
    "editing.baselines.EditedScene",
    "nerf.ray_marching.RenderedRays",
    "nerf.rendering.RayBundle",
    "nerf.rendering.Rendered",
    "nerf.sampling.Samples",
    "nerf.scene.RenderedView",
    "nerf.shot_rendering._Traced",
    "nerf.shot_rendering._Data",
}
MAY_DO_NOTHING = {("diffusion.latent_editor.LatentEditor", "_set_schedule")}


def classes_of(path: Path) -> dict[str, type]:
    """A file's own classes, by room, file and name."""
    place = f"{path.parent.name}.{path.stem}"
    module = importlib.import_module(f"in2n_blender.engine.{place}")
    own = (value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == module.__name__)
    return {f"{place}.{made.__name__}": made for made in own}


def has_no_body(function) -> bool:
    """Whether a function says what it is for and does nothing."""
    (made,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    return len(made.body) == 1 and isinstance(made.body[0], ast.Expr) and isinstance(made.body[0].value, ast.Constant)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_method_without_a_body_is_one_that_a_subclass_must_bring(path):
    """Who forgets one in a new family of models hears of it when the editor is made."""
    for name, made in classes_of(path).items():
        if getattr(made, "_is_protocol", False):
            continue
        for method, value in vars(made).items():
            function = value.fget if isinstance(value, property) else value
            own = inspect.isfunction(function) and function.__code__.co_filename == str(path)
            if own and has_no_body(function) and (name, method) not in MAY_DO_NOTHING:
                assert getattr(value, "__isabstractmethod__", False), f"{name}.{method}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_is_handed_from_one_to_another_stays_what_it_is(path):
    for name, made in classes_of(path).items():
        if is_dataclass(made):
            assert made.__dataclass_params__.frozen == (name not in CHANGED), name
