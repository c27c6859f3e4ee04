"""What the polls of operators share: what is missing, in one line."""

from __future__ import annotations

import bpy

from .. import engine, jobs, underway, workspaces
from ..scene_state import active_capture


def poll_idle(cls) -> bool:
    """Part of polls: no job runs or waits."""
    if jobs.busy():
        running = jobs.current()
        cls.poll_message_set(f"“{running.label}” is running" if running else "A job is running")
        return False
    return True


def poll_queue(cls) -> bool:
    """Part of the polls of jobs that can wait for their turn: only a job on the engine itself is in the way."""
    if not jobs.in_window() or jobs.works_on_the_engine():
        return poll_idle(cls)
    return True


def poll_capture(cls, context) -> bool:
    """Part of every poll: the scene has a capture."""
    if active_capture(context.scene) is None:
        cls.poll_message_set("Import a capture first")
        return False
    return True


def poll_engine(cls) -> bool:
    """Part of every poll: the engine is installed, here or on the machine that the scene names."""
    if not engine.is_at_hand(bpy.context.scene):
        cls.poll_message_set("Install the engine first: Preferences > Add-ons > IN2N")
        return False
    return True


def poll_workspace(cls, context) -> bool:
    """Part of the polls of jobs: the capture's workspace is where it was, or was never made."""
    if workspaces.is_missing(context.scene):
        cls.poll_message_set("The capture's workspace is missing: locate it, or begin anew")
        return False
    return True


def poll_reconstruction(cls, context) -> bool:
    """Part of every poll: the capture has been reconstructed, or will have been when a job's turn comes."""
    if not poll_workspace(cls, context):
        return False
    folder = workspaces.workspace_of(context.scene)
    step = workspaces.reconstruction_step(folder)
    if step and not (folder and underway.reconstruction_to_come(folder)):
        cls.poll_message_set(step)
        return False
    return True
