"""Which capture and which edit of a scene are meant, and which objects belong to a capture.

Objects are recognised by their markers (`object.in2n`), never by their names, which belong to the user.
"""

from __future__ import annotations

from ..workspace.layout import ORIGINAL


def active_capture(scene):
    """The Empty of the scene's active capture, or None. A capture that was deleted from the scene does not count."""
    chosen = scene.in2n.capture
    if chosen is not None:
        found = scene.objects.get(chosen.name)  # panels ask often, and `users_scene` looks at every object in Python
        if found == chosen or (found is not None and scene in chosen.users_scene):
            return chosen
    return next((o for o in scene.objects if o.in2n.role == "CAPTURE"), None)


def active_edit(scene) -> str | None:
    """The name of the edit selected in the list, or None when there is none."""
    settings = scene.in2n
    return settings.edits[settings.active_edit].name if settings.active_edit < len(settings.edits) else None


def chosen_edit(scene, argument: str) -> str | None:
    """The edit that an operator's argument means.

    Args:
        scene: The capture's.
        argument: The edit's name; "": the one selected in the list; ORIGINAL: the reconstruction.

    Returns:
        The edit's name, or None for the reconstruction.
    """
    name = argument or active_edit(scene)
    return None if name in (None, ORIGINAL) else name


def children(capture, role: str) -> list:
    """The capture's objects of one role, in the order they were made.

    Args:
        capture: The capture's Empty.
        role: "CAMERA", "POINTS", "MESH", "COLLISION" or "SPLATS".
    """
    return [o for o in capture.children_recursive if o.in2n.role == role]
