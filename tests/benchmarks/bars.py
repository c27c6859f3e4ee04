"""Numbers and what they are held to, as the benchmarks write them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from in2n_blender.workspace.files import write_json


@dataclass(frozen=True)
class Bar:
    """A number and what it is held to."""

    name: str
    value: float
    bar: float
    holds: bool


def told(bars: list[Bar], file: Path) -> int:
    """Write bars and print them.

    Args:
        bars: What was measured.
        file: The result.json.

    Returns:
        1 where one is missed, else 0.
    """
    write_json(file, [asdict(bar) for bar in bars])
    for bar in bars:
        print(f"{'holds' if bar.holds else 'MISSED':6}  {bar.value:10.4g} {bar.bar:10.4g}  {bar.name}")
    return 0 if all(bar.holds for bar in bars) else 1
