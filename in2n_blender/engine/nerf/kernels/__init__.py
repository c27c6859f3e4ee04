"""The Warp side of the formulas one folder up: each file here belongs to the file of the same name there."""
