"""What the published method needs for its best: `python -m tests.benchmarks.published_cost --workspace DIR --out DIR`.

Edits a workspace's reconstruction by an exact editor with the default method, and with the published one (`faithful`)
for more and more rounds, and measures the held-out views against the one answer that they are nearest to. Its best is
the highest of these scores. DIR/result.json has the rows and the bar: the default method takes at most a tenth of the
evaluations of that best. Rows that it holds already are not computed again. Two rounds are 1,600 evaluations of 40
views, and take about two minutes of a core.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from in2n_blender.engine.editing.agreement import Agreement
from in2n_blender.engine.editing.dataset_update import Faithful
from in2n_blender.engine.evaluation.bars import JUDGED, PUBLISHED
from in2n_blender.workspace.files import read_json, write_json
from in2n_blender.workspace.layout import Workspace

from .bars import Bar
from .one_answer import edited_and_measured

METHODS = {JUDGED: Agreement, PUBLISHED: Faithful}
SHARE_OF_PUBLISHED = 0.1


def measure(workspace: Workspace, method: str, rounds: int | None, editor: str, seed: int) -> dict:
    """One row: the edit as the held-out cameras see it.

    Args:
        workspace: With a reconstruction.
        method: One of METHODS.
        rounds: How often every view is edited; None: the method's own number.
        editor: An exact one.
        seed: Of the edit.

    Returns:
        What was measured, and what it cost.
    """
    label = f"cost {method} {rounds} {editor} {seed}"
    state, row = edited_and_measured(workspace, label, METHODS[method], editor, seed, rounds)
    cost = {"nerf_steps": state["step"], "cpu_seconds": state["cpu_seconds"]}
    return {"method": method, "rounds": rounds, **row, **cost}


def bars(rows: list[dict]) -> list[Bar]:
    """The default method's evaluations beside a tenth of those of the published one's best score.

    Args:
        rows: As `measure` gives them.

    Returns:
        Two for each editor and seed that both were measured with: of evaluations, and of scores.
    """
    found = []
    for editor, seed in dict.fromkeys((row["editor"], row["seed"]) for row in rows):
        here = [row for row in rows if (row["editor"], row["seed"]) == (editor, seed)]
        judged = next((row for row in here if row["method"] == JUDGED), None)
        published = [row for row in here if row["method"] == PUBLISHED]
        if not judged or not published:
            continue
        best = max(published, key=lambda row: row["psnr_db"])
        most, tenth = judged["evaluations"], SHARE_OF_PUBLISHED * best["evaluations"]
        about = f"{editor}, seed {seed}"
        name = f"evaluations of {JUDGED} at most a tenth of those of {PUBLISHED}'s best of {len(published)}, {about}"
        found.append(Bar(name, most, tenth, most <= tenth))
        name = f"PSNR of {JUDGED} (dB) at least {PUBLISHED}'s best, {about}"
        found.append(Bar(name, judged["psnr_db"], best["psnr_db"], judged["psnr_db"] >= best["psnr_db"]))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--editor", action="append", help="exact:K=4,s=0.12 where none is named")
    parser.add_argument(
        "--rounds", type=int, action="append", help=f"of {PUBLISHED}; 2, 4, 8 and 16 where none is named"
    )
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    result = given.out / "result.json"
    rows = read_json(result)["rows"] if result.is_file() else []
    asked = [(JUDGED, None), *((PUBLISHED, rounds) for rounds in given.rounds or (2, 4, 8, 16))]
    for editor in given.editor or ["exact:K=4,s=0.12"]:
        for seed in range(given.seeds):
            for method, rounds in asked:
                key = {"method": method, "rounds": rounds, "editor": editor, "seed": seed}
                if not any(key.items() <= row.items() for row in rows):
                    rows.append(measure(Workspace(given.workspace), method, rounds, editor, seed))
                    given.out.mkdir(parents=True, exist_ok=True)
                    write_json(result, {"rows": rows, "bars": [asdict(bar) for bar in bars(rows)]})
                    print(rows[-1], flush=True)
    found = bars(rows)
    write_json(result, {"rows": rows, "bars": [asdict(bar) for bar in found]})
    for bar in found:
        print(f"{'holds' if bar.holds else 'MISSED':6}  {bar.value:10.4g} {bar.bar:10.4g}  {bar.name}")
    return 0 if all(bar.holds for bar in found) else 1


if __name__ == "__main__":
    sys.exit(main())
