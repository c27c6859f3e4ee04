"""in2n_blender: edit captured scenes by text, inside Blender.

`bpy` is imported only by `register`, so that the engine, the command line and the tests work without Blender.
"""

__version__ = "0.1.0"


def register() -> None:
    """Blender calls this when the extension is enabled."""
    from .blender import registration

    registration.register()


def unregister() -> None:
    """Blender calls this when the extension is disabled."""
    from .blender import registration

    registration.unregister()
