"""What workers of a crew can be in tests: as quick as can be, slow, deaf or mortal."""

import os
import time
from pathlib import Path

import numpy as np

from in2n_blender.scene.errors import In2nError


class Squaring:
    """piece: "value", and what happens on the way: "seconds" slept, "die" as long as a file is not there, "refuse",
    "fail", "until" a file is there, which is asked for without (deaf) or with a look at the report."""

    def __init__(self, exponent: int):
        self.exponent = exponent

    def do(self, piece, report):
        if "die" in piece and not Path(piece["die"]).exists():
            Path(piece["die"]).touch()
            os._exit(9)
        if piece.get("always_die"):
            os._exit(9)
        if piece.get("refuse"):
            raise In2nError("no_such_thing", "There is no such thing.", "Get one.")
        if piece.get("fail"):
            raise ValueError("a mistake")
        report.progress(1, 2, "half", f"Squaring {piece['value']}")
        time.sleep(piece.get("seconds", 0.0))
        if "began" in piece:
            Path(piece["began"]).touch()
            while True:
                if not piece["deaf"]:
                    report.check()
                time.sleep(0.02)
        return {"value": np.float32(piece["value"]) ** self.exponent, "process": os.getpid()}


class Absent:
    """A role that cannot be loaded."""

    def __init__(self):
        raise In2nError("editor_missing", "The model is not here.", "Download it.")


class Sleeping:
    """An editor that takes its time and changes nothing, for what handing out work costs by itself."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def do(self, piece, report):
        if piece["asked"] == "facts":
            return {"model": {}, "revision": "sleeping", "at_once": 1}
        time.sleep(self.seconds)
        return {"pictures": piece["renders"], "evaluations": len(piece["renders"])}
