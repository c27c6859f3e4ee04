"""A small InstructPix2Pix that knows ten instructions, trained on pairs that Blender renders."""

from .instructions import known_instructions, match_instruction

__all__ = ["known_instructions", "match_instruction"]
