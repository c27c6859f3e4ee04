"""What each part of agreement is worth: `python -m tests.benchmarks.agreement_parts --workspace DIR --out DIR`.

Edits a workspace's reconstruction by exact editors with all parts, and with each part left out or changed alone, and
measures the held-out views against the one answer that they are nearest to. Rows that DIR/result.json holds already are
not computed again. A row takes one to two minutes on two cores.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace
from pathlib import Path

from in2n_blender.engine.editing.agreement import Agreement, Parts
from in2n_blender.workspace.files import read_json, write_json
from in2n_blender.workspace.layout import Workspace

from .one_answer import edited_and_measured

VARIANTS = {
    "as it is": Parts(),
    "nothing carried": replace(Parts(), carry=False),
    "level not found": replace(Parts(), find_level=False),
    "four key views first": replace(Parts(), key_views=4),
    "four, edited again": replace(Parts(), key_views=4, again=True),
    "nothing left out": replace(Parts(), leave_out=False),
    "two rounds": Parts(),
    "updates not averaged": replace(Parts(), mean=False),
}
ROUNDS = {"two rounds": 2}


def measure(workspace: Workspace, variant: str, editor: str, seed: int, preset: str, device: str) -> dict:
    """One row: the edit with a variant's parts, seen by the held-out cameras.

    Args:
        workspace: With a reconstruction.
        variant: One of VARIANTS.
        editor: An exact one.
        seed: Of the edit.
        preset: Of the edit.
        device: What it runs on.

    Returns:
        What was measured, and what it cost.
    """
    method = type("Variant", (Agreement,), {"parts": VARIANTS[variant]})
    label = f"parts {variant} {editor} {seed}"
    state, row = edited_and_measured(workspace, label, method, editor, seed, ROUNDS.get(variant), preset, device)
    return {"variant": variant, **row, "noise_level": state["noise_level"], "left_out": state["left_out"]}


def table(rows: list[dict]) -> str:
    """The rows' means over editors and seeds, as Markdown."""
    lines = [
        "| variant | PSNR (dB) | spread (dB) | lowest share of one answer | evaluations |",
        "|---|--:|--:|--:|--:|",
    ]
    for variant in VARIANTS:
        here = [row for row in rows if row["variant"] == variant]
        if here:
            scores = [row["psnr_db"] for row in here]
            spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
            share = min(row["one_mode_share"] for row in here)
            cost = statistics.mean(row["evaluations"] for row in here)
            lines.append(f"| {variant} | {statistics.mean(scores):.2f} | {spread:.2f} | {share:.1%} | {cost:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--editor", action="append", help="exact:K=8,s=0.25 where none is named")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="all where none is named")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--preset", default="draft")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    result = given.out / "result.json"
    rows = read_json(result)["rows"] if result.is_file() else []
    for editor in given.editor or ["exact:K=8,s=0.25"]:
        for seed in range(given.seeds):
            for variant in given.variant or VARIANTS:
                if not any((r["variant"], r["editor"], r["seed"]) == (variant, editor, seed) for r in rows):
                    rows.append(measure(Workspace(given.workspace), variant, editor, seed, given.preset, given.device))
                    given.out.mkdir(parents=True, exist_ok=True)
                    write_json(result, {"rows": rows})
                    (given.out / "table.md").write_text(table(rows), encoding="utf-8")
                    print(rows[-1], flush=True)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
