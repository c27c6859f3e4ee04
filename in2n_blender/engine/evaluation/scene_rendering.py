"""Having Blender render the testbed's scenes. They come with a checkout, not with the installed extension."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from ...link.lifelines import guarded
from ...link.process import PACKAGE_PARENT, blender_command, end, spawn
from ...link.requests import Testbed
from ...models.exact import ExactSettings, is_exact
from ...scene.errors import In2nError
from ...scene.reporting import Reporter

RENDER_MODULE = "in2n_blender.testbed.scenes.testbed"
SCENES_FOLDER = Path(__file__).resolve().parents[2] / "testbed" / "scenes"


def check_checkout() -> None:
    """Raises In2nError("no_checkout") where the scenes are not part of this installation."""
    if not SCENES_FOLDER.is_dir():
        raise In2nError(
            "no_checkout",
            "The testbed's scenes are not in this installation.",
            "Run it from a checkout of the project: the extension comes without them.",
        )


def scene_folder(scene: str, request: Testbed, report: Reporter) -> Path:
    """The folder of a scene's pictures, rendered as far as the cache lacks them.

    Tints an exact editor computes, so that no edit's truth is rendered for them. Where its answers are pictures, they
    are rendered for all views.

    Args:
        scene: its name.
        request: the editor, the cache, which Python has Blender, and how large the pictures are.
        report: told of every picture.

    Returns:
        A capture; with `truth/` and `depth/` where the right answers are rendered.

    Raises:
        In2nError: "no_blender".
        Cancelled.
    """
    truth, edits = _truths(request)
    folder = Path(request.cache) / scene
    render_scene(scene, folder, request, report, truth, edits)
    return folder


def _truths(request: Testbed) -> tuple[str, tuple[str, ...]]:
    """Of which views the truths are needed, and of which edits; (): of the miniature's."""
    if not is_exact(request.editor):
        return "held-out", ()
    pictures = ExactSettings.from_name(request.editor).pictures
    return ("all", pictures) if pictures else ("none", ())


def render_scene(
    scene: str, folder: Path, request: Testbed, report: Reporter, truth: str, edits: Sequence[str] = ()
) -> None:
    """Have Blender render what the cache lacks, in a process of its own.

    Args:
        scene: its name.
        folder: of its pictures in the cache; the renderer's output goes to render.log there.
        request: which Python has Blender, and how large the pictures are.
        report: told of every picture.
        truth: of which views the edits' truths are needed: "none", "held-out" or "all".
        edits: which edits; (): those that Blender renders for the miniature.

    Raises:
        In2nError: "no_blender".
        Cancelled.
    """
    command = blender_command(
        request.blender_python or sys.executable,
        RENDER_MODULE,
        [
            *("--scene", scene, "--out", str(folder), "--truth", truth),
            *(text for edit in edits for text in ("--edit", edit)),
            *_sizes(request),
        ],
    )
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "render.log", "ab") as log:
        try:
            process = spawn(guarded(command), cwd=PACKAGE_PARENT, stdin=True, errors=log)
        except OSError as error:
            raise _no_blender(request, str(error)) from error
        try:
            for done, total in _progress_lines(process, report):
                report.progress(done, total, "image", "Rendering the scene")
        except BaseException:
            end(process)
            raise
        finally:
            process.wait()
            process.stdin.close()
    if process.returncode:
        raise _no_blender(request, f"see {folder / 'render.log'}")


def _sizes(request: Testbed) -> list[str]:
    sizes = {"--size": request.scene_size, "--samples": request.scene_samples, "--views": request.scene_views}
    return [text for option, number in sizes.items() if number for text in (option, str(number))]


def _progress_lines(process: subprocess.Popen, report: Reporter):
    """(done, total) of every line {"done": …, "total": …} that the process prints, until its end.

    The job can be cancelled between them.
    """
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            lines.put(line.decode("utf-8", "replace"))
        lines.put(None)

    threading.Thread(target=read, name="rendering", daemon=True).start()
    while True:
        report.check()
        try:
            line = lines.get(timeout=0.2)
        except queue.Empty:
            continue
        if line is None:
            return
        if line.startswith("{"):
            row = json.loads(line)
            yield row["done"], row["total"]


def _no_blender(request: Testbed, why: str) -> In2nError:
    return In2nError(
        "no_blender",
        f"The scenes could not be rendered by “{request.blender_python or sys.executable}” ({why}).",
        "Name a Python that has bpy with --blender-python.",
    )
