"""A small InstructPix2Pix that knows a dozen instructions, trained on pairs that Blender renders."""
