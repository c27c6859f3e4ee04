"""`batch`: a table of runs, one a line; what lines share is made once.

DIR/batch.json says how each line is and what it came to, and is rewritten as soon as one ends. Lines that ask for the
same capture in the same way share a workspace, and so its reconstruction. A line that fails does not stop the others.

    DIR/batch.json
    DIR/captures/<capture>-<mark>/          a workspace
    DIR/captures/<capture>-<mark>.json      which of its stages are done
    DIR/<line's name>/                      what `run` leaves: contact_sheet.png, frames/edited/, mesh.glb, …
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import re
import time
from dataclasses import dataclass
from pathlib import Path

from ..link.client import EngineBug
from ..link.requests import RunBatch
from ..remote.machines import chosen_machine
from ..scene.errors import Cancelled, In2nError
from ..workspace.chain import BATCH_RECORD, CANCELLED, DONE, FAILED, WAITING
from ..workspace.files import read_json, write_json
from ..workspace.layout import Workspace, safe_name
from ..workspace.outputs import claim, refuse_foreign, run_names
from ..workspace.stages import Stages
from .arguments import add_run, run_columns
from .commands import PATH_NAME, edit_name, engine_for
from .run import Chain, Place, files_mark, plain_stages, run_stages, stages_of, summary_of
from .setup import check_known, existing, free_folder, made_folder
from .terminal import printable

SEVERAL = "|"  # between the values of a cell
MOST_RUNS = 10_000
CAPTURES, RECORD = "captures", BATCH_RECORD
NAME, CAPTURE = "name", "capture"  # columns: of the lines' names, and of what is no option
FILES = {"region", "key-view"}  # columns of files, which are named as seen from the table's folder
YES, NO = {"yes", "true", "1", "x"}, {"no", "false", "0"}


@dataclass(frozen=True)
class BatchRun:
    """One run of the table.

    Attributes:
        name: Of its folder.
        line: Of the file, from 1.
        args: As `run` has them parsed.
        capture: What is imported.
        workspace: The name of the workspace that it shares with others.
        edit: The edit's name there.
    """

    name: str
    line: int
    args: argparse.Namespace
    capture: Path
    workspace: str
    edit: str


def run_batch(args, interruption) -> int:
    """`batch`: every run of the table, one after the other, or on the workers of a cluster.

    Args:
        args: The parsed line: table, out, cluster and workers.
        interruption: Says whether the user asked to stop.

    Returns:
        An exit code: 0 where every run is done, 2 where one failed.

    Raises:
        In2nError: "bad_table", and before anything is made what `run` raises for a line's options, with its number;
            "missing_file", "bad_path", "cannot_write", "not_ours", "not_there" for a cluster on another machine, and
            what the environment and a cluster raise.
        Cancelled: When the user asked to stop; the same command goes on from there.
    """
    table, out = existing(args.table), free_folder(args.out)
    runs = read_table(table)
    refuse_foreign(out, [RECORD, CAPTURES])
    for run in runs:
        refuse_foreign(out / run.name, run_names(run.args.frames))
    if args.cluster is not None:
        _refuse_machine()
    with engine_for(interruption) as engine:
        claim(made_folder(out), [RECORD, CAPTURES])
        rows = _known(out / RECORD, runs)
        if args.cluster is not None:
            return _on_cluster(args, runs, rows, out, engine)
        for number, run in enumerate(runs):
            print(printable(f"[{number + 1}/{len(runs)}] {run.name}: {run.args.instruction}"), flush=True)
            try:
                _one(run, rows[run.name], out, engine)
            finally:
                write_json(out / RECORD, {"runs": list(rows.values())})
    return _say(rows.values())


def _say(rows) -> int:
    """Print how all went; the exit code."""
    print(printable(table_of(rows)))
    return 0 if all(row["state"] == DONE for row in rows) else 2


def _refuse_machine() -> None:
    if (machine := chosen_machine()) is not None:
        raise In2nError(
            "not_there",
            f"A batch goes to a cluster or to “{machine.name}”, not to both.",
            "Leave --machine out, or run the command on that machine.",
        )


def _on_cluster(args, runs: list[BatchRun], rows: dict[str, dict], out: Path, engine) -> int:
    """All runs as one job of the engine's, which hands them to the cluster's workers."""
    for run in runs:
        claim(made_folder(out / run.name), run_names(run.args.frames))
    made_folder(out / CAPTURES)
    write_json(out / RECORD, {"runs": list(rows.values())})
    plan = plan_of(runs, out, rows)
    request = RunBatch(out=str(out), plan=plan, cluster=args.cluster, workers=args.workers)
    request.check()
    engine(request)
    return _say(read_json(out / RECORD)["runs"])


def plan_of(runs: list[BatchRun], out: Path, rows: dict[str, dict] | None = None) -> dict:
    """The runs as plain data, for the engine.

    Args:
        runs: As `read_table` gives them.
        out: The batch's folder.
        rows: Of batch.json, by the runs' names; None: as they begin.

    Returns:
        "shared": workspace's name -> "file" (of its stages) and "chains", one for each camera path; "runs": "row",
        "ground" (which of the former), "stages", "own" (the file of its stages) and "summary" (the request).

    Raises:
        In2nError: What the requests' checks raise, "bad_json".
    """
    rows = rows or _known(out / RECORD, runs)
    plan, of_imports = {"shared": {}, "runs": []}, {}
    for run in runs:
        place = _place(run, out)
        if run.workspace not in of_imports:
            of_imports[run.workspace] = {"files": files_mark(run.capture, out)}
        chain = _chain(run.args, run.capture, place.workspace)
        stages = [vars(stage) for stage in plain_stages(chain, of_imports[run.workspace])]
        ground = [stage for stage in stages if stage["shared"]]
        shared = plan["shared"].setdefault(run.workspace, {"file": str(place.shared.file), "chains": []})
        if ground not in shared["chains"]:
            shared["chains"].append(ground)
        plan["runs"].append(
            {
                "row": rows[run.name],
                "ground": run.workspace,
                "stages": stages,
                "own": str(place.own.file),
                "summary": summary_of(run.args, place, {}).to_params(),
            }
        )
    return plan


def _place(run: BatchRun, out: Path) -> Place:
    shared = Stages(out / CAPTURES / f"{run.workspace}.json")
    own = Stages(out / run.name / "run.json")
    return Place(out / run.name, out, Workspace(out / CAPTURES / run.workspace), shared, own, _path_name(run.args))


def _one(run: BatchRun, row: dict, out: Path, engine) -> None:
    """Do a run and note in its row how it went. Raises Cancelled."""
    folder, started = out / run.name, time.monotonic()
    try:
        claim(made_folder(folder), run_names(run.args.frames))
        made_folder(out / CAPTURES)
        place = _place(run, out)
        chain = _chain(run.args, run.capture, place.workspace)
        run_stages(run.args, run.capture, chain, place, engine, again=False)
    except (In2nError, EngineBug) as error:
        reason = error.message if isinstance(error, In2nError) else f"A mistake in the program: {error}"
        row.update(state=FAILED, error=reason)
        print(printable(f"{run.name}: {reason}"), flush=True)
        return
    except (Cancelled, KeyboardInterrupt):
        row.update(state=CANCELLED)
        raise
    report = read_json(folder / "report.json")
    seconds = round(row.get("seconds", 0.0) + time.monotonic() - started, 1)
    row.update(state=DONE, seconds=seconds, psnr_db=report.get("reconstruction", {}).get("psnr_db"))
    row.pop("error", None)


def _chain(args: argparse.Namespace, capture: Path, workspace: Workspace) -> Chain:
    """A seed is that of the edit: the reconstruction is what lines share."""
    return stages_of(args, capture, workspace, _path_name(args), reconstruction_seed=0)


def _path_name(args: argparse.Namespace) -> str:
    return f"{PATH_NAME}-{args.frames}"


def _known(record: Path, runs: list[BatchRun]) -> dict[str, dict]:
    """A row for each run: what is known of those of an earlier go, by their names."""
    found = read_json(record) if record.is_file() else {}
    found = found.get("runs") if isinstance(found, dict) else None
    before = {row.get(NAME): row for row in found or [] if isinstance(row, dict)}
    rows = {}
    for run in runs:
        asked = {NAME: run.name, "capture": str(run.capture), "instruction": run.args.instruction}
        asked |= {"seed": run.args.seed, "model": run.args.editor}
        seconds = before.get(run.name, {}).get("seconds", 0.0)
        rows[run.name] = {**asked, "state": WAITING, "seconds": seconds if isinstance(seconds, float) else 0.0}
    return rows


def table_of(rows) -> str:
    """What a batch came to, a line each.

    Args:
        rows: As batch.json has them.

    Returns:
        Text in columns.
    """
    lines = [("run", "state", "seconds", "held-out dB", "")]
    for row in rows:
        psnr = row.get("psnr_db")
        score = f"{psnr:.1f}" if isinstance(psnr, (int, float)) else ""
        lines.append((row[NAME], row["state"], f"{row['seconds']:.0f}", score, row.get("error", "")))
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    return "\n".join("  ".join([*(f"{line[i]:<{widths[i]}}" for i in range(4)), line[4]]).rstrip() for line in lines)


# --- the table


def read_table(table: Path) -> list[BatchRun]:
    """The runs of a table, all checked.

    Args:
        table: A CSV file with a heading: the options of `run` without their dashes, "capture" and "instruction" among
            them, and "name" where lines are to be called something. Commas, semicolons or tabs are between its cells.
            A cell with several values, "|" between them, stands for a line each.

    Returns:
        In the file's order.

    Raises:
        In2nError: "bad_table", "missing_file", and what `run` raises for options; each says the line.
    """
    heading, lines = _cells(table)
    parser, runs = _LineParser(), []
    for parser.line, cells in lines:
        choices = [[value.strip() for value in cell.split(SEVERAL)] for cell in cells]
        for values in itertools.product(*choices):
            if len(runs) == MOST_RUNS:
                raise _bad(parser.line, f"the table has more than {MOST_RUNS:,} runs", "Split it.")
            runs.append(_run_of(parser, dict(zip(heading, values)), table.parent, len(runs) + 1))
    if not runs:
        raise In2nError("bad_table", f"{table} has no line below its heading.", "Add a line for each run.")
    _refuse_twins(runs)
    return runs


def _cells(table: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The heading, and each line's number and cells."""
    columns = {CAPTURE, NAME, *run_columns()}
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            between = max(",;\t", key=first.count)
            reader = csv.reader(file, delimiter=between, strict=True)
            heading = [_column(cell) for cell in next(reader, [])]
            lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise In2nError("bad_table", f"{table} cannot be read as a table: {why}.", "Save it as CSV in UTF-8.") from None
    if unknown := [cell for cell in heading if cell not in columns]:
        hint = f"Columns are options of `run`, such as capture, instruction, seed, model; {NAME} for the folder's name."
        raise _bad(1, f"there is no option “{unknown[0]}”", hint)
    if len(set(heading)) < len(heading) or not {CAPTURE, "instruction"} <= set(heading):
        raise _bad(1, "the heading needs capture and instruction, and each column once", "Mend the first line.")
    for number, cells in lines:
        if len(cells) != len(heading):
            raise _bad(number, f"there are {len(cells)} cells, not {len(heading)}", "Quote cells that have commas.")
    return heading, lines


def _column(cell: str) -> str:
    return re.sub(r"[ _]+", "-", cell.strip().lower().lstrip("-"))


def _run_of(parser: _LineParser, values: dict[str, str], folder: Path, number: int) -> BatchRun:
    line, given = parser.line, {column: value for column, value in values.items() if value}
    name = given.pop(NAME, None)
    try:
        args = parser.parsed(given, folder)
        capture = existing(args.source)
        check_known(args.instruction, args.editor)
        stages = _chain(args, capture, Workspace(folder))
        edit = edit_name(args)
        name = safe_name(name or f"{number:03d}-{edit}")
    except In2nError as error:
        if error.code == "bad_table":
            raise
        raise In2nError(error.code, f"Line {line}: {error.message}", error.hint) from None
    shared = [repr({**stages[key][0].to_params(), "workspace": ""}) for key in ("import", "reconstruct")]
    mark = hashlib.sha256("\n".join(shared).encode()).hexdigest()[:4]
    return BatchRun(name, line, args, capture, f"{_folder_name(capture.stem)}-{mark}", edit)


class _LineParser(argparse.ArgumentParser):
    """Parses the lines of a table as `run` would its options. line: the one that it is at."""

    def __init__(self):
        super().__init__(prog="", add_help=False, allow_abbrev=False)
        add_run(self)
        self.line, self._kinds = 0, run_columns()

    def parsed(self, given: dict[str, str], folder: Path) -> argparse.Namespace:
        words = []
        for column, value in given.items():
            if column == CAPTURE:
                words += ["--", str(folder / value)]
            elif self._kinds[column] is bool:
                words[:0] = self._switch(column, value)
            else:
                words[:0] = [f"--{column}={folder / value if column in FILES else value}"]
        return self.parse_args(words)

    def error(self, message: str):
        raise _bad(self.line, message, "See `run --help` for what each option can be.")

    def _switch(self, column: str, value: str) -> list[str]:
        if value.lower() not in YES | NO:
            raise _bad(self.line, f"{column} is yes or no, not “{value[:80]}”", "Leave it empty for the usual one.")
        return [f"--{column}"] if value.lower() in YES else []


def _bad(line: int, what: str, hint: str) -> In2nError:
    return In2nError("bad_table", f"Line {line}: {what}.", hint)


def _folder_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")[:60] or "run"


def _refuse_twins(runs: list[BatchRun]) -> None:
    """Two runs of one name would write to one folder, and two that ask for the same would be one."""
    for run in runs:
        if run.name.lower() in (CAPTURES, RECORD):
            raise _bad(run.line, f"“{run.name}” is taken", "Give it another name.")
    for what in (lambda run: run.name.lower(), lambda run: (run.workspace, run.edit, run.args.frames)):
        seen: dict = {}
        for run in runs:
            other = seen.setdefault(what(run), run)
            if other is not run:
                raise _bad(run.line, f"it asks for what line {other.line} asks for", "Give lines names of their own.")
