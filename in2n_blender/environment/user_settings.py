"""What the user has set up for pip (a company's mirror, its proxy, its certificates), said in uv's words too."""

from __future__ import annotations

import configparser
import os
from pathlib import Path


def _pip_settings() -> dict[str, str]:
    """pip's settings for installing by the names of `pip config`: configuration files from the widest to the nearest,
    then PIP_ variables."""
    home, found = Path.home(), {}
    files = [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        home / ".pip/pip.conf",
        home / ".config/pip/pip.conf",
        home / "Library/Application Support/pip/pip.conf",
        home / "pip/pip.ini",
    ]
    files += [Path(os.environ[v]) / "pip" / "pip.ini" for v in ("PROGRAMDATA", "APPDATA") if v in os.environ]
    files += [Path(os.environ["PIP_CONFIG_FILE"])] if os.environ.get("PIP_CONFIG_FILE") else []
    for file in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update({k.replace("_", "-"): v for k, v in parser.items(section)})
    found.update({k[4:].lower().replace("_", "-"): v for k, v in os.environ.items() if k.startswith("PIP_") and v})
    return found


def uv_settings_from_pip() -> dict[str, str]:
    """pip's settings in uv's words, for those who set up only pip (a company's mirror, its proxy).

    uv reads none of pip's settings. find-links is passed on only with no-index: beside an index it may offer a torch
    that fits no torchvision.

    Returns:
        Environment variables for uv.
    """
    pip = _pip_settings()
    said = {}
    chosen = any(
        os.environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
    )
    if pip.get("index-url") and not chosen:
        said["UV_DEFAULT_INDEX"] = pip["index-url"]
    extra = [url for url in pip.get("extra-index-url", "").split() if not url.startswith("file:")]
    if extra and not chosen:
        said["UV_INDEX"] = " ".join(extra)
        said["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # what pip does: all indexes are equal
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        said["UV_NO_INDEX"] = "1"
        said["UV_FIND_LINKS"] = ",".join(pip.get("find-links", "").split())
    if pip.get("cert"):
        said["SSL_CERT_FILE"] = pip["cert"]
    if pip.get("proxy"):
        said["ALL_PROXY"] = pip["proxy"]
    if pip.get("trusted-host"):
        said["UV_INSECURE_HOST"] = pip["trusted-host"]
    return said
