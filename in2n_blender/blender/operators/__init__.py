"""The operators `bpy.ops.in2n.*`. Arguments that are left out are taken from `scene.in2n`."""
