"""The paper's ablations on the testbed: `python -m tests.benchmarks.editing_methods --out DIR [options of testbed]`.

Runs all methods on all scenes (about an hour on two cores), and writes to DIR/bars.json whether the iterative update is
the best of the methods with a NeRF against the truth, and more consistent than editing frames by themselves.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from in2n_blender.cli import main as cli
from in2n_blender.engine.evaluation.results import Row, mean_rows
from in2n_blender.workspace.files import read_json, write_json

ITERATIVE, PER_FRAME = "iterative", "per-frame"


def bars(rows: list[Row]) -> list[dict]:
    """The order that the paper reports, on the means over scenes and instructions."""
    means = {row.method: row for row in mean_rows(rows)}
    found = []
    for name in ("psnr_db", "ssim", "consistency"):
        for other in means:
            if other != ITERATIVE:
                value, bar = getattr(means[ITERATIVE], name), getattr(means[other], name)
                found.append(
                    {"name": f"{name} of {ITERATIVE} above {other}'s", "value": value, "bar": bar, "holds": value > bar}
                )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    given, rest = parser.parse_known_args()
    code = cli.main(["testbed", "--out", str(given.out), *rest])
    if code:
        return code
    found = bars([Row(**row) for row in read_json(given.out / "result.json")["rows"]])
    write_json(given.out / "bars.json", found)
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
