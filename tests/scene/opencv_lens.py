"""What OpenCV makes of a lens: the oracle of ours."""

import cv2
import numpy as np


def camera_matrix(k):
    """OpenCV's pixels are 0.5 less than ours."""
    return np.array([[k.fx, 0, k.cx - 0.5], [0, k.fy, k.cy - 0.5], [0, 0, 1]])


def opencv_distort(lens, directions):
    """Directions (n, 2) at depth 1 -> pixels (n, 2)."""
    rays = np.c_[directions, np.ones(len(directions))][:, None]
    k, zero = camera_matrix(lens.intrinsics), np.zeros(3)
    if lens.model == "opencv_fisheye":
        pixels = cv2.fisheye.projectPoints(rays, zero, zero, k, np.array(lens.distortion))[0]
    else:
        pixels = cv2.projectPoints(rays, zero, zero, k, np.array(lens.distortion))[0]
    return pixels.reshape(-1, 2) + 0.5


def opencv_undistort(lens, pixels):
    """Pixels (..., 2) -> directions (..., 2) at depth 1; anything where the lens sees nothing."""
    points = (np.asarray(pixels, np.float64) - 0.5).reshape(-1, 1, 2)
    k, distortion = camera_matrix(lens.intrinsics), np.array(lens.distortion or (0.0,) * 4)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-12)
    if lens.model == "opencv_fisheye":
        directions = cv2.fisheye.undistortPoints(points, k, distortion, criteria=criteria)
    else:
        directions = cv2.undistortPointsIter(points, k, distortion, None, None, criteria)
    return directions.reshape(np.shape(pixels))
