"""Whole runs with a model of the scene that learns in seconds."""

from in2n_blender.engine.batch import RunRole
from in2n_blender.engine.nerf import settings as nerf_settings
from tests.engine.ball import TINY


class TinyRuns(RunRole):
    def __init__(self):
        super().__init__()
        nerf_settings.CPU["draft"] = TINY
