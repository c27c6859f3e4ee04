"""What scripts of a window share: the recorded engine's answers, the capture's photos, and waiting for a job's end.

CAPTURE: the folder of a capture. IN2N_RECORDING: the file that tells the recorded engine what to answer.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import bpy
from driver import click_text, redraw, shot, until

PACKAGE = "bl_ext.user_default.in2n_blender"
RECORDING = Path(os.environ["IN2N_HOME"]).with_name("recording.json")
CAPTURE = Path(os.environ["CAPTURE"])


def module(name):
    return sys.modules[f"{PACKAGE}.{name}"]


def jobs():
    return module("blender.jobs")


def scene():
    return bpy.context.scene


def status():
    return scene().in2n.status


def answers(**by_method):
    """What the engine is to answer from now on; `import_` stands for "import"."""
    by_method = {name.rstrip("_"): answer for name, answer in by_method.items()}
    RECORDING.write_text(json.dumps({"asked": str(RECORDING.with_name("asked.jsonl")), "answers": by_method}))
    module("blender.engine").stop()


def asked():
    file = RECORDING.with_name("asked.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def progress(done, total, message, left=None, unit="steps"):
    return ["progress", {"done": done, "total": total, "unit": unit, "message": message, "seconds_left": left}]


def photos():
    return sorted((CAPTURE / "images").glob("*.*"))


def snowy(name):
    """A photo that looks edited."""
    file = RECORDING.with_name(f"{name}.png")
    subprocess.run(
        ["convert", str(photos()[0]), "-modulate", "130,40", "-fill", "white", "-colorize", "25", str(file)], check=True
    )
    return str(file)


def normalised():
    """What the engine's import leaves in the workspace."""
    capture = module("scene.readers").read(CAPTURE)
    made = module("scene.capture").pinhole_capture(capture, 512, preset="standard")
    photos = {frame.name: str(frame.photo) for frame in capture.frames}
    return {
        "files": {"capture.json": json.dumps(made.to_json())},
        "copies": {view.image: photos[view.name] for view in made.views},
        "events": [progress(3, len(made.views), "Preparing photos", unit="photos")],
    }


def start(text, which=0):
    """Click a button that starts a job. A busy machine loses clicks: it is clicked again where nothing has begun."""
    before = jobs().current()
    for _ in range(3):
        yield from click_text(text, which)
        yield 1.0
        if jobs().busy() or jobs().current() is not before:
            return
    raise AssertionError(f"“{text}” starts nothing")


def begin_reconstruction(looks, view=""):
    """Press Reconstruct: it comes as far as its first picture, and goes on until it is cancelled.

    looks: the picture's file. view: the photo that it is of.
    """
    image = {"kind": "image", "path": "{workspace}/reconstruction/preview.png", "view": view}
    answers(
        import_=normalised(),
        reconstruct={
            "copies": {"reconstruction/preview.png": str(looks)},
            "events": [progress(420, 2000, "Reconstructing", 245.0), ["artifact", image]],
            "until_cancelled": True,
        },
    )
    yield from start("Reconstruct", which=1)  # the first is the panel's title
    yield from until(lambda: jobs().current() and jobs().current().image, what="the first picture")


def finish_reconstruction(**others):
    """Press Resume: it comes to its end. others: what else the engine answers from now on."""
    files = {
        "reconstruction/checkpoint.safetensors": "",
        "reconstruction/state.json": '{"done": true, "psnr_db": 27.3}',
    }
    answers(reconstruct={"files": files, "result": {"psnr_db": 27.3}}, **others)
    yield from click_text("Resume")
    yield from settled("the resumed reconstruction")


def settled(job_label):
    """Wait until the job has ended and its result is in."""
    yield from until(lambda: not jobs().busy(), what=f"the end of {job_label}")
    yield 0.5


def pictures(name):
    redraw()
    yield 1.0  # icons are drawn by a thread
    redraw()
    yield 0.5
    shot(name)


def close_other_windows():
    for other in list(bpy.context.window_manager.windows)[1:]:
        with bpy.context.temp_override(window=other):
            bpy.ops.wm.window_close()


def record_the_engine():
    """From now on the recorded engine answers."""
    answers()
    worker = module("blender.engine")
    worker.Client = functools.partial(
        worker.Client, worker=os.path.join(os.path.dirname(__file__), "recorded_worker.py")
    )


def name_a_python():
    """The engine is there: a Python that runs the recorded one."""
    inside = "python" in os.path.basename(sys.executable)
    os.environ["IN2N_ENGINE_PYTHON"] = sys.executable if inside else "/usr/bin/python3"


def preview_record(looks):
    """preview.json as the engine writes it, and its pictures."""
    pictures = [
        {"file": f"{text:g}-{image:g}.png", "guidance_text": text, "guidance_image": image}
        for text in (5, 7.5)
        for image in (1.2, 1.5)
    ]
    record = json.dumps(
        {
            "instruction": scene().in2n.instruction,
            "view": photos()[0].stem,
            "pictures": pictures,
            "text_scales": [5, 7.5],
            "image_scales": [1.2, 1.5],
        }
    )
    return record, {f"previews/{scene().in2n.preview}/{p['file']}": looks for p in pictures}
