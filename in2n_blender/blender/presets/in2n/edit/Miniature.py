import bpy

settings = bpy.context.scene.in2n

settings.editor = "miniature"
settings.use_default_guidance = True
