"""A table of runs, against the real worker with jobs that need no torch."""

import json
import shutil

import pytest

from in2n_blender.cli import batch as module
from in2n_blender.cli import main as cli
from in2n_blender.cli.arguments import run_columns
from in2n_blender.cli.batch import plan_of, read_table
from in2n_blender.remote.machines import MACHINE_VARIABLE
from in2n_blender.scene.errors import In2nError
from in2n_blender.workspace.chain import Stage
from tests.cli.test_commands import sentence_and_hint

HEADING = "capture,instruction,model\n"


def batch(table, out):
    return cli.main(["batch", str(table), "--out", str(out)])


@pytest.fixture
def table(tmp_path, capture):
    """A function text -> the file, beside a capture that is called "capture"."""

    def write(text, name="table.csv"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return write


def rows_of(out):
    return json.loads((out / "batch.json").read_text())["runs"]


def test_every_line_is_run_and_what_lines_share_is_made_once(engine, table, tmp_path, capsys):
    out = tmp_path / "out"
    text = "Capture,Instruction,Model,Seed,Name\ncapture,make it snow,any/model,1|2,\ncapture,crash,any/model,,night\n"
    assert batch(table(text.replace("crash", "make it night")), out) == 0
    rows = rows_of(out)
    assert [row["state"] for row in rows] == ["done"] * 3 and rows[2]["name"] == "night"
    assert [row["seed"] for row in rows] == [1, 2, 0]
    (workspace,) = (path for path in (out / "captures").iterdir() if path.is_dir())
    assert (workspace / "calls.txt").read_text().splitlines() == ["reconstruct restart=False"]
    assert len(list((workspace / "edits").iterdir())) == 3
    asked = [json.loads((out / row["name"] / "report.json").read_text()) for row in rows]
    assert [report["results"]["reconstruct"]["psnr_db"] for report in asked] == [30.0] * 3
    assert len({report["edit"] for report in asked}) == 3 and {report["workspace"] for report in asked} == {
        str(workspace)
    }
    printed = capsys.readouterr().out
    assert "[3/3] night: make it night" in printed and printed.count("reconstruct: done before") == 2


def test_a_line_that_fails_stops_no_other_and_is_tried_again(engine, table, tmp_path, capsys):
    out = tmp_path / "out"
    lines = ["crash once", "user error", "bug", "make it snow"]
    made = table(HEADING + "".join(f"capture,{line},any/model\n" for line in lines))
    assert batch(made, out) == 2
    rows = rows_of(out)
    assert [row["state"] for row in rows] == ["failed", "failed", "failed", "done"]
    assert rows[1]["error"] == "There is no editor." and "mistake in the program" in rows[2]["error"]
    assert "There is no editor." in capsys.readouterr().out
    assert batch(made, out) == 2
    assert [row["state"] for row in rows_of(out)] == ["done", "failed", "failed", "done"]
    assert not (out / rows[1]["name"] / "report.json").exists()


def test_what_is_done_is_not_done_again(engine, table, tmp_path, capsys):
    out, made = tmp_path / "out", table(HEADING + "capture,make it snow,any/model\n")
    assert batch(made, out) == 0
    report = out / rows_of(out)[0]["name"] / "report.json"
    first = report.stat().st_mtime_ns
    assert batch(made, out) == 0 and report.stat().st_mtime_ns == first, "nor is its summary"
    report.unlink()
    assert batch(made, out) == 0 and report.exists()


def test_photos_that_were_changed_are_reconstructed_anew_for_every_line(engine, table, capture, tmp_path, capsys):
    out, made = tmp_path / "out", table(HEADING + "capture,make it snow|make it night,any/model\n")
    assert batch(made, out) == 0
    (capture / "photo.png").write_bytes(b"new")
    capsys.readouterr()
    assert batch(made, out) == 0
    printed = capsys.readouterr().out
    assert "edit make-it" not in printed, "no edit was taken for done"
    assert printed.count("import: done before") == printed.count("reconstruct: done before") == 1


def test_cancelled_it_goes_on(engine, table, tmp_path, monkeypatch):
    out, made = tmp_path / "out", table(HEADING + "capture,make it snow|make it night,any/model\n")
    calls = []

    def cancelled(*given, **more):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run_stages(*given, **more)

    run_stages = module.run_stages
    monkeypatch.setattr(module, "run_stages", cancelled)
    assert batch(made, out) == 130
    assert [row["state"] for row in rows_of(out)] == ["done", "cancelled"]
    assert batch(made, out) == 0 and [row["state"] for row in rows_of(out)] == ["done", "done"]


def test_captures_and_settings_have_workspaces_of_their_own(table, capture, tmp_path):
    shutil.copytree(capture, tmp_path / "other")
    runs = read_table(
        table("capture,instruction,preset,seed\ncapture|other,make it night,draft|full,3\ncapture,make it snow,,\n")
    )
    assert [run.args.seed for run in runs] == [3, 3, 3, 3, 0]
    places = [run.workspace for run in runs]
    assert len(set(places[:4])) == 4 and places[4] not in places[1:4]
    assert places[0].startswith("capture-") and places[2].startswith("other-")


def test_tables_of_other_programs_are_read(table):
    for text in (
        "\ufeffcapture;instruction;model\r\ncapture;make it snow, please;any/model\r\n",
        "capture\tinstruction\tmodel\ncapture\tmake it snow, please\tany/model\n\n",
        'capture,instruction,Guidance Text,model\n"capture","make it snow, please",,any/model\n,,,\n',
    ):
        (run,) = read_table(table(text))
        assert run.args.instruction == "make it snow, please" and run.args.editor == "any/model"


def test_every_option_of_a_run_is_a_column(table, tmp_path):
    (tmp_path / "picture.png").write_bytes(b"")
    values = {"capture": "capture", "instruction": "make it snow", "model": "any/model", "key-view": "picture.png"}
    values |= {"preset": "full", "refine-cameras": "yes", "appearance": "no", "frames": "12", "method": "agreement"}
    assert set(values) <= set(run_columns())
    (run,) = read_table(table(",".join(values) + "\n" + ",".join(values.values()) + "\n"))
    assert (run.args.preset, run.args.refine_cameras, run.args.appearance) == ("full", True, False)
    assert (run.args.frames, run.args.editing_method) == (12, "agreement")
    assert run.args.key_view == str(tmp_path / "picture.png")


@pytest.mark.parametrize(
    "text, said",
    [
        (b"", "Line 1: the heading needs"),
        ("capture,instruction\n", "no line below"),
        ("capture,colour\nx,y\n", "Line 1: there is no option “colour”"),
        ("capture,capture,instruction\na,b,c\n", "Line 1: the heading needs"),
        (HEADING + "nothing,make it snow,any/model\n", "Line 2: "),
        (HEADING + "capture,make it snow\n", "Line 2: there are 2 cells, not 3"),
        (HEADING + "capture,,any/model\n", "Line 2: the following arguments are required: --instruction"),
        (HEADING + "\ncapture,turn it into cheese,miniature\n", "Line 3: "),
        ("capture,instruction,seed\ncapture,make it night,two\n", "Line 2: argument --seed: 'two' is not"),
        ("capture,instruction,appearance\ncapture,make it night,maybe\n", "Line 2: appearance is yes or no"),
        ("capture,instruction,name\ncapture,make it night,../up\n", "Line 2: "),
        ("capture,instruction,name\ncapture,make it night,captures\n", "Line 2: “captures” is taken"),
        (
            HEADING + "capture,make it snow,any/model\ncapture,make it snow,any/model\n",
            "Line 3: it asks for what line 2",
        ),
        ("capture,instruction,name\ncapture,make it night,a\ncapture,make it snow,A\n", "Line 3: it asks for what"),
        (b"capture,instruction\ncapture,\xff\xfe\n", "cannot be read as a table"),
        (b'capture,instruction\ncapture,"never closed\n', "cannot be read as a table"),
        (
            "capture,instruction,seed\ncapture,make it night," + "|".join(map(str, range(10_001))) + "\n",
            "more than 10,000",
        ),
    ],
)
def test_a_table_that_is_wrong_is_refused_before_anything_is_made(engine, table, tmp_path, capsys, text, said):
    assert batch(table(text), tmp_path / "out") == 2
    assert said in sentence_and_hint(capsys) and not (tmp_path / "out").exists()


def test_what_it_did_not_make_it_does_not_touch(engine, table, tmp_path, capsys):
    out, made = tmp_path / "out", table("capture,instruction,model,name\ncapture,make it snow,any/model,snow\n")
    (out / "snow").mkdir(parents=True)
    (out / "snow" / "mesh.glb").write_text("mine")
    assert batch(made, out) == 2 and "mesh.glb" in sentence_and_hint(capsys)
    assert (out / "snow" / "mesh.glb").read_text() == "mine" and not (out / "batch.json").exists()


def test_only_a_table_is_one(tmp_path):
    with pytest.raises(In2nError) as refused:
        read_table(tmp_path)
    assert refused.value.code == "bad_table"


def test_the_plan_for_a_cluster_has_what_is_shared_once(table, tmp_path):
    text = "capture,instruction,model,seed,frames,name\n"
    text += "capture,make it snow,any/model,1|2,,\ncapture,make it night,any/model,,7,night\n"
    plan = json.loads(json.dumps(plan_of(read_table(table(text)), tmp_path / "out")))
    (shared,) = plan["shared"].values()
    assert [[stage["key"] for stage in chain] for chain in shared["chains"]] == [
        ["import", "reconstruct", "path through-views-48"],
        ["import", "reconstruct", "path through-views-7"],
    ]
    assert len({run["own"] for run in plan["runs"]}) == 3 and {run["ground"] for run in plan["runs"]} == {
        *plan["shared"]
    }
    stages = [Stage(**stage) for stage in plan["runs"][2]["stages"]]
    assert [stage.key.split()[0] for stage in stages] == ["import", "reconstruct", "edit", "path", "render", "mesh"]
    assert "workspace" not in stages[2].settings and stages[2].params["cluster"] is None


def test_a_batch_goes_to_a_cluster_or_to_another_machine(engine, table, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(MACHINE_VARIABLE, "")
    made = table(HEADING + "capture,make it snow,any/model\n")
    line = ["batch", str(made), "--out", str(tmp_path / "out"), "--cluster", "auto", "--machine", "gpu"]
    assert cli.main(line) == 2 and "not to both" in sentence_and_hint(capsys)
    assert not (tmp_path / "out").exists()
