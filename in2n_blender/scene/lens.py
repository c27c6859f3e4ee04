"""Lenses of real photos: pinhole, OpenCV (Brown-Conrady) and OpenCV fisheye (Kannala-Brandt) distortion."""

from __future__ import annotations

from dataclasses import dataclass

from .camera import Intrinsics

MODELS = ("pinhole", "opencv", "opencv_fisheye")


@dataclass(frozen=True)
class Lens:
    """A photo's lens in pixels of that photo.

    model: "pinhole", "opencv" (distortion = k1, k2, p1, p2, k3, k4, k5, k6 of OpenCV's rational model, shorter is padded with 0)
    or "opencv_fisheye" (k1, k2, k3, k4).
    """

    model: str
    intrinsics: Intrinsics
    distortion: tuple[float, ...] = ()
