"""A small InstructPix2Pix that knows ten instructions, trained on pairs that Blender renders."""
