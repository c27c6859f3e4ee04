import bpy

settings = bpy.context.scene.in2n

settings.editor = "timbrooks/instruct-pix2pix"
settings.use_default_guidance = False
settings.guidance_text = 7.5
settings.guidance_image = 1.5
