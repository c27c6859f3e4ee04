"""Presets: they change size, never code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """longest_side: photos are scaled down (never up) so that their longer side has at most this many pixels."""

    name: str
    longest_side: int


PRESETS = {p.name: p for p in (Preset("draft", 240), Preset("standard", 512), Preset("full", 1024))}
