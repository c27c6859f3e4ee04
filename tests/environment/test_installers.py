"""uv and pip: which uv is taken, what both print as progress, and the user's settings."""

import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from in2n_blender import environment as e
from in2n_blender.environment import uv as uv_module
from in2n_blender.environment.pip import PipProgress
from in2n_blender.environment.user_settings import uv_settings_from_pip
from in2n_blender.environment.uv import Uv, UvProgress
from in2n_blender.scene.reporting import Reporter


def test_torchs_own_index_is_taken_only_where_it_serves(home, pins, monkeypatch):
    said = []
    installer = Uv("uv", e.plan(("engine",), home), home, None, Reporter(said.append))
    monkeypatch.setattr(installer, "torch_pair", lambda operator="==": ["torch==2.13.0"])
    for serves, backend in ((True, ["--torch-backend=auto"]), (False, [])):
        monkeypatch.setattr(installer, "_own_index_serves", lambda torch, serves=serves: serves)
        assert installer._torch_backend() == backend
    assert [line for line in said if "default index" in str(line)] == [
        "torch's own index cannot be reached: taking torch from the default index"
    ]


def test_uv_lines_become_progress():
    seen = []
    watch = UvProgress(Reporter(seen.append))
    for line in (
        "Resolved 75 packages in 5s",
        "Downloading torch (506.1MiB)",
        "Downloading nvidia-cublas (1.5GiB)",
        " Downloaded torch",
        "Prepared 75 packages in 3m",
        " + torch==2.13.0",
    ):
        watch.line(line)
    assert [(p.done, p.total, p.message) for p in seen[1:4]] == [
        (0, 506, "downloading torch (506 MB)"),
        (0, 2042, "downloading nvidia-cublas (1.5 GB)"),
        (506, 2042, "downloading nvidia-cublas (1.5 GB)"),
    ]


def test_pip_lines_become_progress():
    seen = []
    watch = PipProgress(Reporter(seen.append))
    for line in (
        "Collecting torch==2.13.0",
        "  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (506.1 MB)",
        "Installing collected packages: a, b, torch",
    ):
        watch.line(line)
    assert [p.message for p in seen] == [
        "finding torch==2.13.0",
        "downloading torch (506.1 MB)",
        "installing 3 packages (some minutes)",
    ]


def test_pip_settings_are_said_in_uv_words(tmp_path, monkeypatch):
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://mirror.example/simple\nproxy = http://proxy.example:3128\nfind-links = "
        "/stray\n[install]\nextra-index-url = https://a.example https://b.example\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_CERT", "/certs.pem")
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    said = uv_settings_from_pip()
    assert said == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://a.example https://b.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "SSL_CERT_FILE": "/certs.pem",
        "ALL_PROXY": "http://proxy.example:3128",
    }
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://chosen.example/simple")
    assert "UV_DEFAULT_INDEX" not in uv_settings_from_pip() and "UV_INDEX" not in uv_settings_from_pip()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert uv_settings_from_pip()["UV_FIND_LINKS"] == "/stray"


def bundle_uv(package, monkeypatch) -> Path:
    """A package that bundles a script in place of uv, locked for this machine. Returns its wheel."""
    if os.name == "nt":
        pytest.skip("a shell script stands in for uv")
    wheel = package / "wheels" / "uv-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("uv-1.0.data/scripts/uv", "#!/bin/sh\necho uv 1.0\n")
    locked = {"file": wheel.name, "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}
    monkeypatch.setattr(uv_module, "PACKAGE", package)
    monkeypatch.setattr(uv_module, "uv_wheels", lambda: {e.blender_platform(): locked})
    return wheel


def test_the_bundled_uv_is_copied_out_and_goes_before_any_other(tmp_path, monkeypatch):
    bundle_uv(tmp_path / "package", monkeypatch)
    older = tmp_path / "home" / "tools" / "uv-0.9-py3-none-any"
    older.mkdir(parents=True)
    uv = e.find_uv(tmp_path / "home")
    assert not older.exists()
    assert uv and Path(uv).is_relative_to(tmp_path / "home")
    Path(uv).write_bytes(b"")  # as left by a full disk
    Path(uv).chmod(0o644)
    assert e.find_uv(tmp_path / "home") == uv and os.access(uv, os.X_OK)


def test_a_bundled_uv_that_was_tampered_with_is_left_alone(tmp_path, monkeypatch):
    wheel = bundle_uv(tmp_path / "package", monkeypatch)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("more", "")
    assert uv_module._bundled_uv(tmp_path / "home") is None and not (tmp_path / "home").exists()
