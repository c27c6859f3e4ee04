"""Stands for the engine's worker: speaks the protocol, does in no time what RECORDING (a JSON file beside it) says.

RECORDING: {"asked": file to append requests to, "answers": {method: {"events": [...], "result": {...}, "error": {...},
"files": {path in the workspace: text}, "copies": {path in the workspace: file}, "until_cancelled": bool, "deaf": bool
(it does not even stop then), "until_released": file to wait for, "repeat": {"times", "seconds" between two, "files":
one of which is copied every "every"-th time, "to": path in the workspace that is told as a picture}, "crash": bool,
"paint": bool (of shot: see `paint`),
"fails_after": number of answers, "waits_when_wider": pixels (such a shot is never done),
"say_pid": file to write the process id to,
"say_offline": file to write $IN2N_OFFLINE to}}}.
"""

import json
import os
import queue
import shutil
import sys
import threading
import time
from pathlib import Path

recording = json.loads(Path(os.environ["IN2N_RECORDING"]).read_text())
inbox = queue.Queue()


def read():
    for line in sys.stdin:
        inbox.put(json.loads(line))
    os._exit(0)


def say(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def fail(id, code, message, hint="", traceback=""):
    say(id=id, error={"code": -32000, "message": message, "data": {"code": code, "hint": hint, "traceback": traceback}})


def place(name, params):
    """A file in the workspace; {name} in its path is the request's."""
    file = Path(params["workspace"]) / name.format(**params)
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def wait_for_cancel():
    while inbox.get()["method"] != "cancel":
        pass


def paint(params):
    """A picture for the render engine, whose every pixel says where it is in the whole picture."""
    import numpy as np

    first = params["shot"]["cameras"][0]
    left, top, right, bottom = params["shot"]["border"] or (0, 0, first["width"], first["height"])
    x, y = np.meshgrid(np.arange(left, right) / first["width"], np.arange(top, bottom) / first["height"])
    nothing = np.zeros_like(x)
    passes = {"Combined": np.stack([x, y, nothing + 1.5, nothing + 1], -1)}
    known = {
        "Depth": np.full((*x.shape, 1), 5.0),
        "Normal": np.stack([nothing, nothing, nothing + 1], -1),
        "Position": np.stack([x, y, nothing], -1),
    }
    passes |= {name: known[name] for name in params["passes"]}
    np.save(params["out"], np.concatenate([values.ravel() for values in passes.values()]).astype(np.float32))
    shapes = {name: values.shape for name, values in passes.items()}
    return {"file": params["out"], "passes": shapes, "seconds": x.size / 2000, "device": "paint"}


answered = 0
threading.Thread(target=read, daemon=True).start()
while True:
    message = inbox.get()
    if message["method"] == "hello":
        say(id=message["id"], result={"protocol": 2})
        continue
    if message["method"] == "cancel":
        continue
    id, params = message["id"], message["params"]
    with open(recording["asked"], "a") as asked:
        asked.write(json.dumps({"method": message["method"], **params}) + "\n")
    answer = recording["answers"].get(message["method"], {})
    for name, text in answer.get("files", {}).items():
        place(name, params).write_text(text)
    for name, source in answer.get("copies", {}).items():
        shutil.copy(source, place(name, params))
    for method, event in answer.get("events", []):
        if "path" in event:
            event = {**event, "path": event["path"].format(**params)}
        say(method=method, params={"id": id, **event})
    for i in range(answer.get("repeat", {}).get("times", 0)):
        repeat = answer["repeat"]
        if i % repeat.get("every", 1) == 0:
            shutil.copy(repeat["files"][i % len(repeat["files"])], place(repeat["to"], params))
            say(method="artifact", params={"id": id, "kind": "image", "path": str(place(repeat["to"], params))})
        say(
            method="progress",
            params={
                "id": id,
                "done": i,
                "total": repeat["times"],
                "unit": "steps",
                "message": "Working",
                "seconds_left": 60.0,
            },
        )
        time.sleep(repeat["seconds"])
    if answer.get("say_pid"):
        Path(answer["say_pid"]).write_text(str(os.getpid()))
    if answer.get("say_offline"):
        Path(answer["say_offline"]).write_text(os.environ.get("IN2N_OFFLINE", "no"))
    while answer.get("until_released") and not Path(answer["until_released"]).exists():
        time.sleep(0.02)
    if answer.get("deaf"):
        threading.Event().wait()
    if answer.get("crash"):
        print("segmentation fault", file=sys.stderr, flush=True)
        os._exit(139)
    answered += 1
    if answer.get("fails_after") and answered > answer["fails_after"]:
        fail(id, "disk_full", "The disk is full.")
    elif "shot" in params and params["shot"]["cameras"][0]["width"] > answer.get("waits_when_wider", 1e9):
        wait_for_cancel()
        fail(id, "cancelled", "cancelled")
    elif answer.get("paint"):
        say(id=id, result=paint(params))
    elif answer.get("until_cancelled"):
        wait_for_cancel()
        fail(id, "cancelled", "cancelled")
    elif "error" in answer:
        fail(id, **answer["error"])
    else:
        say(id=id, result=answer.get("result", {}))
