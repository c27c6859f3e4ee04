"""What an error says can be typed as it stands."""

from in2n_blender.scene import errors
from in2n_blender.scene.errors import In2nError, as_typed


def test_windows_has_no_python3(monkeypatch):
    hint = "Run `python3 -m in2n_blender install --repair`."
    assert as_typed(hint, "win32") == "Run `python -m in2n_blender install --repair`."
    assert as_typed(hint, "linux") == hint
    monkeypatch.setattr(errors, "as_typed", lambda text: as_typed(text, "win32"))
    assert "`python -m" in In2nError("x", "Broken.", hint).hint
