"""The engine's Python environment: plan, install, verify, repair, remove.

One virtual environment per Python version below the home folder (IN2N_HOME), filled with groups of pinned packages
(`engine_versions.json`): "engine" (torch and all that the worker needs), "blender" (the bpy wheel, for running the
add-on without a window), "test", and "ray" (work on a cluster), which the engine can do without. uv does the work where
it is found, bundled or can be installed; pip otherwise.

An environment is ready when its stamp file, written last, names the pins and groups that were installed: finding one
ready starts no process. What was interrupted is completed by the next `install`.
"""

from .home import environment_folder, folder_mb, home_folder, python_version, size_mb
from .installation import install, remove, repair
from .pins import blender_platform, uv_wheels
from .planning import GROUPS, INCOMPLETE, MISSING, OPTIONAL, OUTDATED, READY, Plan, condition, plan
from .uv import find_uv
from .verification import verify

__all__ = [
    "GROUPS",
    "INCOMPLETE",
    "MISSING",
    "OPTIONAL",
    "OUTDATED",
    "READY",
    "Plan",
    "blender_platform",
    "condition",
    "environment_folder",
    "find_uv",
    "folder_mb",
    "home_folder",
    "install",
    "plan",
    "python_version",
    "remove",
    "repair",
    "size_mb",
    "uv_wheels",
    "verify",
]
