"""in2n_blender: edit captured scenes by text, inside Blender."""
