"""The miniature's bars on scenes it never saw: `python -m tests.benchmarks.miniature --out DIR`.

Renders the held-out scenes into a cache, edits them by every instruction and paraphrase, and writes DIR/result.json
(every bar: value, bar, holds; the rows of every instruction), DIR/sheet.png and, with --photos, DIR/photos.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from in2n_blender.models.catalogue import MINIATURE
from in2n_blender.testbed.miniature import train
from in2n_blender.workspace.files import read_json, write_json

MOST_BYTES = 16_000_000
RESULT = "result.json"


def bars(result: dict) -> list[dict]:
    """What the miniature has to reach, with what it reaches."""
    weights = sum(path.stat().st_size for path in MINIATURE.folder.rglob("*.safetensors"))
    paraphrases = [row["paraphrases_right_share"] for row in result["instructions"]]
    return [
        _bar("mean_psnr_db", result["mean_psnr_db"], 25.0),
        _bar("lowest_psnr_db", result["lowest_psnr_db"], 18.0),
        _bar("right_instruction_share", result["right_instruction_share"], 0.95),
        _bar("paraphrases_right_share", round(sum(paraphrases) / len(paraphrases), 4), 0.95),
        {"name": "safetensors_bytes", "value": weights, "bar": MOST_BYTES, "holds": weights <= MOST_BYTES},
    ]


def _bar(name: str, value: float, least: float) -> dict:
    return {"name": name, "value": value, "bar": least, "holds": value >= least}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    given, rest = parser.parse_known_args()
    code = train.main(["--evaluate", "--out", str(given.out), *rest])
    if code:
        return code
    result = read_json(given.out / RESULT)
    result["bars"] = bars(result)
    write_json(given.out / RESULT, result)
    print(json.dumps(result["bars"], indent=1))
    return 0 if all(bar["holds"] for bar in result["bars"]) else 1


if __name__ == "__main__":
    sys.exit(main())
