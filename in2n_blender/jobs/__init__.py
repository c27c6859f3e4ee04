"""How Blender and the engine talk, and what is on disk. Standard library only (and `scene`)."""
