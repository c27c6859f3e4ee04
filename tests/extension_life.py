"""One part of the extension's life in any Blender: `blender -b --python extension_life.py -- PART ZIP WORKER`, or the
same with a bpy wheel's Python.

BLENDER_USER_RESOURCES is the profile that the parts share and IN2N_HOME the home folder; each part is a Blender of its
own, so that the extension is also found enabled when Blender starts. WORKER: the recorded worker. Prints PART: done.
"""

import functools
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path

import bpy

MODULE = "bl_ext.user_default.in2n_blender"
WHEEL = not bpy.app.binary_path
WHEEL_42 = WHEEL and bpy.app.version < (4, 3)


def main(part: str, zip_file: str, worker: str) -> None:
    if WHEEL and part != "install":
        start_wheel()
    parts = {"install": install, "upgrade": upgrade, "uninstall": uninstall}
    parts[part](Path(zip_file), Path(worker))
    bpy.ops.wm.save_userpref()
    print(f"{part}: done", flush=True)
    if WHEEL_42:  # crashes at exit when any extension with a property that has a callback was installed twice
        os._exit(0)


def start_wheel() -> None:
    """Do as Blender does when it starts: the bpy wheel starts with factory settings."""
    if WHEEL_42:  # crashes on reading preferences
        bpy.ops.preferences.addon_enable(module=MODULE)
    else:
        bpy.ops.wm.read_userpref()


def install(zip_file: Path, worker: Path) -> None:
    """Install and enable, use, disable, enable again, disable while a job runs, enable."""
    install_file(zip_file)
    check_enabled()
    import_capture()
    check_uv()
    check_command()
    disable()
    assert len(bpy.data.cameras) > 1, "the scene stays when the add-on goes"
    enable()
    assert bpy.context.scene.in2n.capture is not None, "the capture is known again"
    job, process = start_job(worker)
    disable()
    check_ended(job, process)
    enable()


def upgrade(zip_file: Path, worker: Path) -> None:
    """Install a higher version over the enabled one, while there is a capture in the scene and the worker runs."""
    check_enabled()
    import_capture()
    before = module("").__version__
    job, process = start_job(worker)
    install_file(zip_file)
    check_ended(job, process)
    check_enabled()
    assert module("").__version__ != before and module("workspace.stages").NEWER, (
        "the new version is the one that runs, in every room"
    )
    assert bpy.context.scene.in2n.capture is not None
    import_capture()


def uninstall(zip_file: Path, worker: Path) -> None:
    """Uninstall; nothing is left in Blender, nor in its folder of extensions."""
    check_enabled()
    import_capture()
    folder = Path(module("").__file__).parent
    repos = bpy.context.preferences.extensions.repos
    index = next(i for i, repo in enumerate(repos) if repo.module == "user_default")
    job, process = start_job(worker)
    assert bpy.ops.extensions.package_uninstall(repo_index=index, pkg_id="in2n_blender") == {"FINISHED"}
    check_ended(job, process)
    check_gone()
    assert not folder.exists(), f"{folder} is still there"
    wheels = [path.name for path in folder.parents[1].glob(".local/lib/python*/site-packages/uv*")]
    assert not wheels, wheels


def install_file(zip_file: Path) -> None:
    done = bpy.ops.extensions.package_install_files(
        filepath=str(zip_file), repo="user_default", enable_on_install=True, overwrite=True
    )
    assert done == {"FINISHED"}, done


def enable() -> None:
    assert bpy.ops.preferences.addon_enable(module=MODULE) == {"FINISHED"}
    check_enabled()


def disable() -> None:
    assert bpy.ops.preferences.addon_disable(module=MODULE) == {"FINISHED"}
    check_gone()


def check_enabled() -> None:
    assert MODULE in bpy.context.preferences.addons
    assert Path(module("").__file__).is_relative_to(bpy.utils.user_resource("EXTENSIONS"))
    assert any(name.startswith("IN2N_PT_") for name in dir(bpy.types))
    assert bpy.context.scene.in2n.preset


def check_gone() -> None:
    assert MODULE not in bpy.context.preferences.addons
    assert not [name for name in dir(bpy.types) if name.startswith(("IN2N_", "In2n"))]
    assert not hasattr(bpy.types.Scene, "in2n") and not hasattr(bpy.types.Object, "in2n")
    handlers = (
        getattr(bpy.app.handlers, name)
        for name in dir(bpy.app.handlers)
        if isinstance(getattr(bpy.app.handlers, name), list)
    )
    assert not [f for functions in handlers for f in functions if f.__module__.startswith(MODULE)]


def import_capture() -> None:
    before = len(bpy.data.cameras)
    capture = min(Path(module("").__file__).parent.glob("data/*/transforms.json"))
    views = len(json.loads(capture.read_text(encoding="utf-8"))["frames"])
    assert bpy.ops.in2n.import_capture(filepath=str(capture)) == {"FINISHED"}
    assert len(bpy.data.cameras) >= before + views > before


def check_uv() -> None:
    environment = module("environment")
    home = environment.home_folder()
    uv = environment.find_uv(home)
    assert uv and Path(uv).is_relative_to(home / "tools"), uv


def check_command() -> None:
    command = module("blender.command")
    assert command.run(["--help"]) == 0
    assert command.run(["import", "/nowhere", "--out", "/nowhere"]) == 2


def start_job(worker: Path):
    """A job that runs, in the recorded worker, until it is cancelled. Returns the job and the worker's process."""
    jobs, engine, requests, client = (
        module(name) for name in ("blender.jobs", "blender.engine", "link.requests", "link.client")
    )
    engine.Client = functools.partial(client.Client, worker=worker)
    place = str(module("environment").home_folder() / "workspace")
    request = requests.Edit(workspace=place, name="edit", instruction="wait")
    jobs.submit(bpy.context, "Edit", [request], lambda *_: "", False)
    deadline = time.monotonic() + 60
    while (jobs.current() is None or jobs.current().progress is None) and time.monotonic() < deadline:
        jobs.poll()
        time.sleep(0.05)
    assert jobs.current().progress is not None, jobs.current().error
    return engine.client(), engine.client()._process._process


def check_ended(client, process) -> None:
    """The job and its engine ended with the add-on."""
    assert not client.state.busy
    assert process.poll() is not None


def module(name: str):
    return importlib.import_module(f"{MODULE}.{name}" if name else MODULE)


if __name__ == "__main__":
    try:
        main(*sys.argv[-3:])
    except BaseException:
        traceback.print_exc()
        sys.stdout.flush()
        os._exit(1)  # Blender would go on and exit with 0
