"""Machines of a farm: Blender without a window, the extension in a repository of the system, and all else that it needs
on a share that is read-only."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from window import ROOT, Window

from in2n_blender.cli.extension import stage
from in2n_blender.link.client import Client
from in2n_blender.link.requests import ImportCapture, Reconstruct

EXTENSION = "bl_ext.system.in2n_blender"
CAPTURE = ROOT / "in2n_blender" / "data" / "demo_capture"
# What the artist saved on her computer, whose workspace lies elsewhere here.
SHOT = """
import bpy
bpy.ops.in2n.import_capture(filepath="/share/farm/capture/transforms.json")
scene = bpy.context.scene
found = scene.in2n.capture.in2n
found.workspace = found.workspace_absolute = "/home/artist/shot.in2n"
found.workspace_made = True
scene.camera = next(o for o in scene.objects if o.in2n.role == "CAMERA")
scene.render.engine, scene.in2n.render.what = "IN2N", "ORIGINAL"
scene.render.resolution_x = scene.render.resolution_y = 64
scene.render.image_settings.file_format = "PNG"
bpy.ops.wm.save_as_mainfile(filepath="/share/farm/shot.blend")
"""


class Farm:
    """A share with a file, its workspace and a place for frames.

    Args:
        window: The chroot with Blender.
        python: Of an engine's environment.
    """

    def __init__(self, window: Window, python: Path):
        self._folder = window.share / "farm"
        shutil.rmtree(self._folder, ignore_errors=True)
        homes = {python.parents[1], python.resolve().parents[1]}  # the environment, and what it was made from
        self._window = replace(window, borrowed=tuple(sorted(homes)))
        self._mount = self._folder / "mnt"
        self._mount.mkdir(parents=True)
        self._out = self._folder / "out"
        self._env = {
            "BLENDER_SYSTEM_EXTENSIONS": "/share/farm/extensions",
            "BLENDER_USER_RESOURCES": "/share/farm/nobody",
            "IN2N_ENGINE_PYTHON": str(python),
            "IN2N_WORKSPACE_ROOT": "/share/farm/mnt",
            "IN2N_DEVICE": "cpu",
        }
        self._lay_out_extension()
        self._make_workspace(python)
        shutil.copytree(CAPTURE, self._folder / "capture")
        made = self._blender("--python-expr", SHOT)
        assert made.returncode == 0 and (self._folder / "shot.blend").is_file(), made.stdout
        subprocess.run(["mount", "--bind", self._mount, self._mount], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", self._mount], check=True)

    def render(self, frames: tuple[int, int]) -> int:
        """What a farm's task does; returns Blender's exit code."""
        first, last = map(str, frames)
        out = ["--render-output", "/share/farm/out/######"]
        return self._blender("/share/farm/shot.blend", *out, "-s", first, "-e", last, "-a").returncode

    def frames(self) -> list[int]:
        """The numbers of the frames that are there."""
        return sorted(int(file.stem) for file in self._out.glob("*.png"))

    def lose_the_workspace(self) -> None:
        """As where a share is not mounted."""
        self._env["IN2N_WORKSPACE_ROOT"] = "/share/farm/nowhere"

    def close(self) -> None:
        subprocess.run(["umount", self._mount])

    def _blender(self, *arguments: str) -> subprocess.CompletedProcess:
        always = ("-b", "--offline-mode", "--python-exit-code", "1", "--addons", EXTENSION)
        return self._window.blender([*always, *arguments], self._env)

    def _lay_out_extension(self) -> None:
        folder = self._folder / "extensions" / "system" / "in2n_blender"
        folder.parent.mkdir(parents=True)
        stage(ROOT, folder, {})
        manifest = folder / "blender_manifest.toml"
        plain = re.sub(r"(?m)^(platforms|wheels) = \[\]\n", "", manifest.read_text(encoding="utf-8"))
        manifest.write_text(plain, encoding="utf-8")

    def _make_workspace(self, python: Path) -> None:
        workspace = str(self._mount / "shot.in2n")
        with Client(python, self._folder / "worker.log") as client:
            client.run(ImportCapture(workspace=workspace, source=str(CAPTURE), preset="draft"))
            client.run(Reconstruct(workspace=workspace, preset="draft", device="cpu", steps=100))
