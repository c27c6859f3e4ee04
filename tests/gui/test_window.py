"""An artist's day in a Blender with a window. Runs when asked: python3 -m in2n_blender test --gui."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from farm import Farm
from PIL import Image
from window import SUITES, Unavailable, Window, find_or_make

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
pytestmark = [
    pytest.mark.gui,
    pytest.mark.skipif(
        os.environ.get("IN2N_GUI") != "1", reason="a window takes minutes: python3 -m in2n_blender test --gui"
    ),
]


@pytest.fixture(scope="module", params=list(SUITES))
def window(request):
    wanted = os.environ.get("IN2N_GUI_SUITE", "sid")
    if request.param not in wanted.split(","):
        pytest.skip(f"not asked for: --gui-suite {request.param} ({SUITES[request.param]})")
    folder = os.environ.get("IN2N_GUI_CHROOT")
    try:
        return find_or_make(request.param, Path(folder) if folder else None)
    except Unavailable as reason:
        pytest.skip(f"no window here: {reason}")


needs_engine = pytest.mark.skipif(
    not os.environ.get("IN2N_GUI_ENGINE"), reason="IN2N_GUI_ENGINE names no Python of an engine's environment"
)


@pytest.fixture(scope="module")
def out(window):
    return Path(os.environ.get("IN2N_GUI_OUT") or ROOT / "build" / "gui") / window.root.name


@pytest.fixture(scope="module")
def extension(window):
    env = window.install_extension("profile")
    capture = window.share / "capture"
    shutil.rmtree(capture, ignore_errors=True)
    shutil.copytree(ROOT / "in2n_blender" / "data" / "demo_capture", capture)
    return {**env, "CAPTURE": "/share/capture", "IN2N_RECORDING": "/share/profile/recording.json"}


def test_an_artists_day(window, extension, out):
    said = window.run(HERE / "artists_day.py", extension, out)
    assert "Traceback" not in said
    assert len(list(out.glob("[0-9][0-9]*.png"))) >= 15


def test_states_at_1080p(window, extension, out):
    """Portrait photos, as those of a telephone: their previews, the job at work, and what is lost."""
    portrait(window.share / "capture", window.share / "portrait")
    env = {**extension, "CAPTURE": "/share/portrait"}
    said = window.run(HERE / "states_1080p.py", env, out / "1080p", size=(1920, 1080))
    assert "Traceback" not in said
    assert len(list((out / "1080p").glob("[0-9][0-9]*.png"))) >= 15


def portrait(capture: Path, made: Path) -> None:
    """The middle of a capture's photos, nine wide and sixteen high."""
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(capture, made)
    described = json.loads((made / "transforms.json").read_text())
    width = round(described["h"] * 9 / 16)
    left = (described["w"] - width) // 2
    described.update(w=width, cx=described["cx"] - left)
    (made / "transforms.json").write_text(json.dumps(described))
    for file in (made / "images").iterdir():
        with Image.open(file) as photo:
            cut = photo.crop((left, 0, left + width, photo.height))
        cut.save(file)


@needs_engine
def test_frames_on_a_farm(window, out):
    """The extension in a read-only repository of the system, no network, no preferences, a workspace that is read-only
    and lies under another root: two ranges side by side, and a frame that cannot be is no success."""
    farm = Farm(window, Path(os.environ["IN2N_GUI_ENGINE"]))
    try:
        with ThreadPoolExecutor() as machines:
            codes = list(machines.map(farm.render, [(1, 2), (3, 4)]))
        assert codes == [0, 0] and farm.frames() == [1, 2, 3, 4]
        farm.lose_the_workspace()
        assert farm.render((5, 5)) != 0 and farm.frames() == [1, 2, 3, 4]
    finally:
        farm.close()


@needs_engine
def test_the_demo_with_the_real_engine(window, extension, out):
    """The bundled capture from import to frames and mesh, every button pressed in the window, the engine computing
    beside it."""
    python = Path(os.environ["IN2N_GUI_ENGINE"])
    homes = {
        python.parents[1],
        python.resolve().parents[1],
    }  # the virtual environment, and the Python that it was made from
    lent = Window(window.root, tuple(sorted(homes)))
    said = lent.run(
        HERE / "newcomers_demo.py", {**extension, "IN2N_ENGINE_PYTHON": str(python)}, out / "demo", seconds=3600
    )
    assert "Traceback" not in said
    assert len(list((out / "demo").glob("*.png"))) >= 8
