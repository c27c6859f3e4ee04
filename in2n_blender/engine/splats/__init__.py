"""Gaussian splats of a trained scene: made from the field's own depths and colours, refined, written to files."""
