"""Photos by names that other machines wrote: other slashes, case, Unicode forms, code pages, and folders that are not
here."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

from .leave import current

EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif")
REDUCED = ("images_2", "images_4", "images_8")  # what nerfstudio, LLFF and mip-NeRF 360 call photos scaled down
CODE_PAGES = ("cp1252", "cp936", "cp932", "cp949", "cp950", "cp1251", "cp1250", "cp850")

_ABSOLUTE = re.compile(r"[A-Za-z]:/|/|~/")


class PhotoFinder:
    """Finds files below a folder.

    A name is taken as it is where such a file is there. Else its parts are compared without regard to case and to
    whether accents are composed (NFC, as most systems write them) or decomposed (NFD, as macOS does). Of an absolute
    path, or one that leads out of the folder, the longest tail that is there counts; where the user allows no files
    elsewhere (`leave`), it goes before the file itself.

    Args:
        folder: Where names are relative to.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._listings: dict[Path, dict[str, list[str]]] = {}
        self._by_tail: dict[Path, str] = {}

    def find(self, label: str) -> Path | None:
        """The file that a name means.

        Args:
            label: The name as a capture's files give it; its extension may be missing.

        Returns:
            The file, None where there is none, or where it cannot be told which one is meant.
        """
        name = normal(label)
        if not name or "\0" in name:
            return None
        found = self._exact(name) or self._below(self.folder, name)
        if found and not (is_foreign(name) and not current().allows(found)):
            return found
        if is_foreign(name):
            return self._tail(name) or found
        first, _, rest = name.partition("/")
        if first == "images" and rest:
            return next(filter(None, (self._below(self.folder, f"{reduced}/{rest}") for reduced in REDUCED)), None)
        return None

    def _exact(self, name: str) -> Path | None:
        path = self.folder / name
        candidates = [path] + [path.with_name(path.name + e) for e in EXTENSIONS for e in (e, e.upper())]
        return next((p for p in candidates if _is_file(p)), None)

    def _below(self, folder: Path, name: str) -> Path | None:
        """The one file whose path below the folder is the name, case and accents aside."""
        *folders, last = (part for part in name.split("/") if part != ".")
        for part in folders:
            if part == "..":
                folder = folder.parent
                continue
            known = self._listing(folder).get(folded(part), [])
            if len(known) != 1:
                return None
            folder = folder / known[0]
        listing = self._listing(folder)
        for candidate in (last, *(last + extension for extension in EXTENSIONS)):
            known = listing.get(folded(candidate), [])
            if len(known) == 1 and _is_file(folder / known[0]):
                return folder / known[0]
        return None

    def _tail(self, name: str) -> Path | None:
        """Two names with the same tail would be two photos of other folders: neither is it."""
        parts = [part for part in name.split("/") if part not in ("", "..", "~")]
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            for place in ("", "images/", *(f"{reduced}/" for reduced in REDUCED)):
                found = self._below(self.folder, place + tail)
                if found:
                    return found if self._by_tail.setdefault(found, name) == name else None
        return None

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._listings:
            listing: dict[str, list[str]] = {}
            try:
                for entry in os.scandir(folder):
                    listing.setdefault(folded(entry.name), []).append(entry.name)
            except OSError:
                pass
            self._listings[folder] = listing
        return self._listings[folder]


class PhotoSearch:
    """Finds photos in several folders: by their whole name, then by its last part alone.

    Args:
        folders: The likeliest first; those that are not there are passed over.
    """

    def __init__(self, *folders: Path):
        self._finders = [PhotoFinder(folder) for folder in dict.fromkeys(folders) if folder.is_dir()]
        self._taken: dict[Path, str] = {}

    def find(self, label: str) -> Path | None:
        """The file that a name means.

        Args:
            label: The name as a capture's files give it; its extension may be missing.

        Returns:
            The file, None where there is none, or where it was found for another name already.
        """
        name = normal(label)
        for candidate in dict.fromkeys((name, name.rsplit("/", 1)[-1])):
            for finder in self._finders:
                found = finder.find(candidate)
                if found:
                    return found if self._taken.setdefault(found, name) == name else None
        return None


def usual_folders(folder: Path) -> tuple[Path, ...]:
    """Where photos lie, seen from the folder of a capture's file.

    Args:
        folder: That folder.
    """
    names = ("", "images", "photos", "input", "undistorted/images")
    return tuple(base / name for base in (folder, folder.parent) for name in names if name or base == folder)


def normal(label: str) -> str:
    """A name with "/" between its folders, and without "./" at its beginning."""
    name = label.replace("\\", "/").strip()
    while name.startswith("./"):
        name = name[2:]
    return name


def is_foreign(label: str) -> bool:
    """Whether a name leads out of the capture's folder: an absolute path of any system, or one with ".."."""
    name = normal(label)
    return bool(_ABSOLUTE.match(name)) or ".." in name.split("/")


def folded(text: str) -> str:
    """A name as it is compared: NFC, case aside."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def in_their_code_page(labels: list[str], found: Callable[[str], bool]) -> list[str]:
    """Names that programs wrote in the code page of their Windows, in Unicode.

    Args:
        labels: Names, with surrogates (as "surrogateescape" makes them) where they are not UTF-8.
        found: Whether there is a photo of some name.

    Returns:
        The names in that code page in which most of them are found; those that are found as UTF-8 as they were.
    """
    odd = {label for label in labels if not label.isascii() and (_undecoded(label) or not found(label))}
    if not any(map(_undecoded, odd)):
        return labels

    def decoded(label: str, page: str) -> str:
        return label.encode("utf-8", "surrogateescape").decode(page, "replace")

    page = max(CODE_PAGES, key=lambda page: sum(found(decoded(label, page)) for label in sorted(odd)[:200]))
    return [decoded(label, page) if label in odd else label for label in labels]


def photos_in(folder: Path) -> list[Path]:
    """The pictures of a folder, by their extensions, in the order of their names.

    Args:
        folder: A folder, there or not.

    Returns:
        Their files.
    """
    try:
        return sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in EXTENSIONS and p.is_file())
    except OSError:
        return []


def first_folder(places: Iterable[Path]) -> Path | None:
    """The first of some folders that holds pictures, None where none does."""
    return next((place for place in places if photos_in(place)), None)


def _undecoded(label: str) -> bool:
    return any("\udc80" <= letter <= "\udcff" for letter in label)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that this system does not allow
        return False
