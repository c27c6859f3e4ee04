"""The extension inside Blender: properties, operators, panels and the way results come back. Never imports torch."""
