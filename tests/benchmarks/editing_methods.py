"""All methods on the testbed, by every editor: `python -m tests.benchmarks.editing_methods --out DIR [options]`.

Options are those of `testbed`, but for the editor, the methods and the seeds, which are what RUNS says. It takes hours
on two cores; each row is kept, and the same command goes on. Each run leaves its table, sheets and result.json in a
folder of its own in DIR. DIR/result.json has the bars of all; the exit status is 1 where one does not hold.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from in2n_blender.cli import main as cli
from in2n_blender.engine.evaluation.bars import SHAPE_RIVALS, find_bars
from in2n_blender.engine.evaluation.results import Row
from in2n_blender.workspace.files import read_json, write_json


@dataclass(frozen=True)
class Run:
    """One call of the testbed, on all scenes.

    Attributes:
        name: of its folder.
        editor: as `--editor` takes it.
        methods: as `--method` takes them; none: all.
        seeds: how many.
    """

    name: str
    editor: str
    methods: tuple[str, ...] = ()
    seeds: int = 3

    def line(self, out: Path) -> list[str]:
        """The command line of the testbed, without the user's options.

        Args:
            out: The folder of all runs.
        """
        methods = [word for method in self.methods for word in ("--method", method)]
        return [
            *("testbed", "--out", str(out / self.name), "--editor", self.editor, "--seeds", str(self.seeds)),
            *methods,
        ]


RUNS = (
    *(
        Run(f"tints-{answers}-{spread}", f"exact:K={answers},s={spread}", ("agreement",))
        for answers in (4, 8)
        for spread in (0.12, 0.25)
    ),
    Run("shapes", "exact:answers=shapes,K=2", ("agreement", *SHAPE_RIVALS)),
    Run("tints-all-methods", "exact", seeds=1),
    Run("miniature", "miniature", seeds=1),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--run", action="append", choices=[run.name for run in RUNS], help="only this one; several")
    given, rest = parser.parse_known_args()
    rows: list[Row] = []
    for run in RUNS:
        if given.run and run.name not in given.run:
            continue
        code = cli.main([*run.line(given.out), *rest])
        if code:
            return code
        rows += [Row(**row) for row in read_json(given.out / run.name / "result.json")["rows"]]
    found = find_bars(_each_once(rows))
    write_json(given.out / "result.json", {"bars": [asdict(bar) for bar in found]})
    for bar in found:
        print(f"{'holds' if bar.holds else 'MISSED':6}  {bar.value:10.4g} {bar.bar:10.4g}  {bar.name}")
    return 0 if all(bar.holds for bar in found) else 1


def _each_once(rows: list[Row]) -> list[Row]:
    """A method may be measured by two runs with one editor and seed."""
    return list({(row.method, row.scene, row.instruction, row.seed): row for row in rows}.values())


if __name__ == "__main__":
    sys.exit(main())
