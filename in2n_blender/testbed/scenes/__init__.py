"""Procedural Cycles scenes with edits whose right answer is known. Runs under Blender's Python, in a process of its
own."""
