"""What would improve a capture, in three lines at most."""

from __future__ import annotations

from collections.abc import Callable

from .photo_report import CaptureReport, PhotoReport

LINES = 3
BLURRED = 0.6  # of the usual share of the finest detail
UNEVEN_EV = 0.5  # stops between photos, from which on it shows
UNEVEN_BALANCE_EV = 0.3
LOOSE = 0.3  # overlap of a photo that hardly joins the others
LITTLE_OVERLAP = 0.5
LITTLE_PARALLAX = 3.0  # degrees
FEW_PHOTOS = 20
WIDE_GAP = 60.0  # degrees
ONE_SIDE = 180.0  # degrees without a photo: it was taken from one side
ONE_HEIGHT = 8.0  # degrees
NAMED = 3


def improvements(report: CaptureReport) -> tuple[str, ...]:
    """What would improve a capture.

    Args:
        report: The capture's.

    Returns:
        At most LINES sentences, the weightiest first; where nothing stands out, one that says so.
    """
    found = [sentence for advise in ADVICE if (sentence := advise(report))]
    if all(photo.sharpness is None for photo in report.photos.values()):
        return tuple(found[:LINES]) or ("Nothing stands out: the photos overlap well.",)
    return tuple(found[:LINES]) or ("Nothing stands out: the photos are even, sharp and overlap well.",)


def blurred(photo: PhotoReport) -> bool:
    """Whether a photo is blurred, against others of the same points."""
    return photo.sharpness is not None and photo.sharpness < BLURRED


def uneven(photo: PhotoReport) -> bool:
    """Whether a photo is brighter or darker than others of the same points, so that it shows."""
    return photo.exposure_ev is not None and abs(photo.exposure_ev) >= UNEVEN_EV


def loose(photo: PhotoReport) -> bool:
    """Whether a photo hardly joins the others."""
    return photo.overlap < LOOSE


def _overlap(report: CaptureReport) -> str:
    median = report.median("overlap")
    if median < LITTLE_OVERLAP:
        return (
            f"Photos share {median:.0%} of what they see with their neighbours: take more, in smaller steps, so that "
            "two thirds are shared."
        )
    names = _names(report, loose)
    return f"{_listed(names)} hardly overlap{_s(names)} with others: add photos between." if names else ""


def _parallax(report: CaptureReport) -> str:
    median = report.median("parallax_degrees")
    if median >= LITTLE_PARALLAX:
        return ""
    return (
        f"What photos see is seen from {median:.1f}° apart at most, too little to tell distances: step sideways "
        "between photos instead of turning on the spot."
    )


def _blur(report: CaptureReport) -> str:
    names = _names(report, blurred)
    if not names:
        return ""
    return f"{_listed(names)} {'is' if len(names) == 1 else 'are'} blurred: take again, with more light or held still."


def _exposure(report: CaptureReport) -> str:
    spread = report.exposure_spread
    if spread is not None and spread >= UNEVEN_EV:
        return f"Exposure differs by {spread:.1f} stops between photos: lock exposure and white balance."
    balances = [photo.balance_ev for photo in report.photos.values() if photo.balance_ev is not None]
    if balances and max(max(channel) - min(channel) for channel in zip(*balances)) >= UNEVEN_BALANCE_EV:
        return "White balance differs between photos: lock it."
    return ""


def _gap(report: CaptureReport) -> str:
    coverage = report.coverage
    if coverage.gap_degrees < WIDE_GAP:
        return ""
    if coverage.gap_degrees >= ONE_SIDE:
        if not coverage.inward:
            return ""
        return (
            f"All photos are from one side ({coverage.covered_degrees:.0f}° around): what only others would see stays "
            "unknown. Go further around it."
        )
    between = "{} and {}".format(*coverage.gap_between)
    looks = "looks from" if coverage.inward else "looks into"
    return f"No photo {looks} the {coverage.gap_degrees:.0f}° between {between}: add some there."


def _heights(report: CaptureReport) -> str:
    coverage = report.coverage
    if not coverage.inward or coverage.heights_degrees >= ONE_HEIGHT or coverage.gap_degrees >= ONE_SIDE:
        return ""
    return "All photos are from about one height: add a second round from higher up or further down."


def _few(report: CaptureReport) -> str:
    count = len(report.photos)
    return f"{count} photos are few: 40 to 100 leave less to guess." if count < FEW_PHOTOS else ""


def _left_out(report: CaptureReport) -> str:
    names = list(report.left_out)
    return f"{_listed(names)} could not be used: see the import's messages." if names else ""


ADVICE: tuple[Callable[[CaptureReport], str], ...] = (
    _parallax,
    _overlap,
    _blur,
    _exposure,
    _few,
    _gap,
    _left_out,
    _heights,
)


def _names(report: CaptureReport, which: Callable[[PhotoReport], bool]) -> list[str]:
    return [name for name, photo in report.photos.items() if which(photo)]


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:NAMED])
    more = len(names) - NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _s(names: list[str]) -> str:
    return "s" if len(names) == 1 else ""
