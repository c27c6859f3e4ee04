"""Cameras that were found, adjusted once more: against wrong matches, and with a lens no richer than the photos tell.

A walk around something at one height leaves focal length and distortion undecided: together they can be far off while
every feature still is where it should be. Such a lens would bend straight photos. And what the mapper demands of
matches lets some wrong ones stay, which a loss that falls off forgives (Triggs et al. 1999, "Bundle adjustment: a
modern synthesis", section 3).
"""

from __future__ import annotations

import copy

import numpy as np
import pycolmap

from ...scene.reporting import Reporter
from .colmap import run_colmap

# How much larger the reprojection error of a simpler lens may be. What is not noise takes off much more: where a lens
# bends by two pixels, leaving that out triples an error of one half.
WORSE = 1.05
SCALE = 0.5  # of the mean reprojection error: where the Cauchy loss begins to forgive
ROUNDS, ITERATIONS = 5, 10
SETTLED = 1e-3  # of the error: a round that takes off less is the last
SIMPLE = pycolmap.CameraModelId.SIMPLE_RADIAL


def adjusted(model: pycolmap.Reconstruction, report: Reporter) -> pycolmap.Reconstruction:
    """The model, adjusted, with lenses as simple as fit the photos.

    Args:
        model: As the mapper made it; its lenses are OPENCV or SIMPLE_RADIAL.
        report: Asked whether the job was cancelled.

    Returns:
        A copy, whose lenses are all SIMPLE_RADIAL without distortion, or with it, or as they were; the very same model
        where nothing came of it.

    Raises:
        Cancelled.
    """
    scale = SCALE * model.compute_mean_reprojection_error()
    found = [_adjusted(model, lens, scale, report) for lens in ("straight", "radial", "as it is")]
    found = [one for one in found if one is not None]
    if not found:
        return model
    least = min(one.compute_mean_reprojection_error() for one in found)
    return next(one for one in found if one.compute_mean_reprojection_error() <= WORSE * least)


def _adjusted(model: pycolmap.Reconstruction, lens: str, scale: float, report: Reporter):
    """A copy with such lenses; None where that comes to no end."""
    found = copy.deepcopy(model)
    if lens != "as it is":
        for number in list(found.cameras):
            _simplify(found.cameras[number], lens == "radial")
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_principal_point, options.refine_extra_params = False, lens != "straight"
    options.print_summary = False
    options.ceres.loss_function_type, options.ceres.loss_function_scale = pycolmap.LossFunctionType.CAUCHY, scale
    options.ceres.solver_options.max_num_iterations = ITERATIONS
    options.ceres.solver_options.num_threads = 1  # of several, the sums depend on which is first
    before = np.inf
    for _ in range(ROUNDS):
        try:
            run_colmap(lambda token: pycolmap.bundle_adjustment(found, options, token), report)
        except (RuntimeError, ValueError):
            return None
        found.update_point_3d_errors()
        error = found.compute_mean_reprojection_error()
        if not np.isfinite(error):
            return None
        if abs(before - error) <= SETTLED * error:
            break
        before = error
    return found


def _simplify(camera: pycolmap.Camera, distorts: bool) -> None:
    bend = float(camera.params[3 if camera.model == SIMPLE else 4]) if distorts else 0.0
    parameters = [camera.mean_focal_length(), camera.principal_point_x, camera.principal_point_y, bend]
    camera.model, camera.params = SIMPLE, list(map(float, parameters))
