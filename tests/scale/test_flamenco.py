"""Flamenco's job types in a JavaScript engine, against the calls that Flamenco documents for its scripts; what they
have a worker run is read by our own command line."""

import json
from pathlib import Path

import py_mini_racer as mini_racer
import pytest

from in2n_blender.cli.main import build_parser
from in2n_blender.link.requests import Edit, Reconstruct
from in2n_blender.scene.presets import PRESETS

SCRIPTS = Path(__file__).resolve().parents[2] / "in2n_blender" / "data" / "flamenco"
# What Flamenco Manager gives its scripts: docs "Job Types".
MANAGER = """
"use strict";
const made = [];
class Task {
    constructor(name, type) { this.name = name; this.type = type; this.commands = []; this.dependencies = []; }
    addCommand(command) { this.commands.push(command); }
    addDependency(task) {
        if (!(task instanceof Task)) throw "no task";
        this.dependencies.push(task.name);
    }
}
const author = {
    Task: (name, type) => new Task(name, type),
    Command: (name, parameters) => ({ name, parameters }),
};
const path = {
    join: (...parts) => parts.join("/"), basename: (p) => p.split("/").pop(),
    dirname: (p) => p.split("/").slice(0, -1).join("/"), stem: (p) => p.split("/").pop().replace(/\\.[^.]*$/, ""),
};
function print(...texts) {}
function formatTimestampLocal(date) { return "2026-11-26_120000"; }
function frameChunker(frames, size) {
    const all = [];
    for (const part of frames.split(",")) {
        const [first, last] = part.trim().split("-").map(Number);
        for (let f = first; f <= (last === undefined ? first : last); f++) all.push(f);
    }
    const chunks = [];
    for (let i = 0; i < all.length; i += size) {
        const some = all.slice(i, i + size);
        const whole = some[some.length - 1] - some[0] === some.length - 1;
        chunks.push(some.length === 1 ? `${some[0]}` : whole ? `${some[0]}-${some[some.length - 1]}` : some.join(","));
    }
    return chunks;
}
function compiled(settings) {
    const job = { settings, created: new Date(0), addTask(task) { made.push(task); } };
    compileJob(job);
    return JSON.stringify({ tasks: made, settings: job.settings });
}
"""
KINDS = {"string", "int32", "float", "bool"}


def compile_job(script: str, **settings) -> dict:
    """What a job type makes of settings, as Flamenco does: what is not given has its default."""
    context = mini_racer.MiniRacer()
    context.eval(MANAGER + (SCRIPTS / script).read_text(encoding="utf-8"))
    types = json.loads(context.eval("JSON.stringify(JOB_TYPE)"))
    for setting in types["settings"]:
        assert setting["type"] in KINDS and setting["key"].isidentifier()
        if "default" in setting:
            settings.setdefault(setting["key"], setting["default"])
    assert set(settings) <= {setting["key"] for setting in types["settings"]}
    return json.loads(context.eval(f"compiled({json.dumps(settings)})"))


FRAMES = {
    "frames": "1-5, 9",
    "render_output_path": "/share/renders/job/{timestamp}/######",
    "blendfile": "/share/shot.blend",
    "format": "OPEN_EXR_MULTILAYER",
}


def test_every_frame_is_a_task_of_its_own():
    job = compile_job("in2n_frames.js", **FRAMES)
    assert [task["name"] for task in job["tasks"]] == [f"frames-{frame}" for frame in (1, 2, 3, 4, 5, 9)]
    (command,) = job["tasks"][5]["commands"]
    given = command["parameters"]
    assert command["name"] == "blender-render" and given["exe"] == "{blender}"
    assert given["blendfile"] == "/share/shot.blend" and "--offline-mode" in given["argsBefore"]
    assert given["args"] == [
        "--render-output", "/share/renders/job/2026-11-26_120000/######",
        "--render-format", "OPEN_EXR_MULTILAYER", "--render-frame", "9",
    ]  # fmt: skip
    assert job["settings"]["render_output_path"] == "/share/renders/job/2026-11-26_120000/######"


def test_a_range_is_in_blenders_words():
    job = compile_job("in2n_frames.js", **{**FRAMES, "chunk_size": 3})
    asked = [task["commands"][0]["parameters"]["args"][-1] for task in job["tasks"]]
    assert asked == ["1..3", "4,5,9"]


def test_an_extension_of_the_system_is_named():
    (task, *_) = compile_job("in2n_frames.js", **{**FRAMES, "addon": "bl_ext.system.in2n_blender"})["tasks"]
    before = task["commands"][0]["parameters"]["argsBefore"]
    assert before[before.index("--addons") + 1] == "bl_ext.system.in2n_blender"
    (command,) = edit_job(addon="bl_ext.system.in2n_blender")["tasks"][0]["commands"]
    arguments = command["parameters"]["args"]
    assert arguments.index("--addons") < arguments.index("--command")


def test_a_video_is_refused():
    with pytest.raises(mini_racer.JSEvalException, match="FFMPEG"):
        compile_job("in2n_frames.js", **{**FRAMES, "format": "FFMPEG"})


def edit_job(**more) -> dict:
    given = {"workspace": "/share/ws", "instruction": "Make it look like it snowed!", "preset": "draft"}
    return compile_job("in2n_edit.js", **{**given, "blendfile": "/share/shot.blend", **more})


def test_an_edit_is_three_steps_one_after_the_other():
    job = edit_job(seed=3, camera_path="/share/ws/paths/shot.json")
    steps = job["tasks"]
    assert [(task["name"], task["dependencies"]) for task in steps] == [
        ("reconstruct", []),
        ("edit", ["reconstruct"]),
        ("render", ["edit"]),
    ]
    lines = []
    for task in steps:
        (command,) = task["commands"]
        assert command["name"] == "exec" and command["parameters"]["exe"] == "{blender}"
        arguments = command["parameters"]["args"]
        at = arguments.index("in2n")
        assert arguments[:at] == ["--background", "--offline-mode", "--command"]
        lines.append(build_parser().parse_args(arguments[at + 1 :]))
    reconstruct, edit, render = lines
    assert (reconstruct.workspace, reconstruct.preset) == ("/share/ws", "draft")
    assert edit.instruction == "Make it look like it snowed!" and edit.name == "make-it-look-like-it-snowed"
    assert (edit.editor, edit.seed, edit.preset) == ("miniature", 3, "draft")
    assert (render.edit, render.camera_path) == (edit.name, "/share/ws/paths/shot.json")


def test_without_a_camera_path_the_engine_makes_one():
    (command,) = edit_job(name="snow")["tasks"][2]["commands"]
    assert "--path" not in command["parameters"]["args"] and "snow" in command["parameters"]["args"]


@pytest.mark.parametrize("missing, said", [({"instruction": "  "}, "instruction"), ({"workspace": ""}, "workspace")])
def test_what_is_missing_is_said_before_a_task_is_made(missing, said):
    with pytest.raises(mini_racer.JSEvalException, match=said):
        edit_job(**missing)


def test_choices_are_the_requests():
    context = mini_racer.MiniRacer()
    context.eval(MANAGER + (SCRIPTS / "in2n_edit.js").read_text(encoding="utf-8"))
    settings = {s["key"]: s for s in json.loads(context.eval("JSON.stringify(JOB_TYPE.settings)"))}
    assert settings["preset"]["choices"] == list(PRESETS)
    fields = {
        field.name: field.default for request in (Reconstruct, Edit) for field in request.__dataclass_fields__.values()
    }
    assert settings["preset"]["default"] == fields["preset"] and settings["model"]["default"] == fields["editor"]
