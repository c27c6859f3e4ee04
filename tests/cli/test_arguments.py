"""Arguments are the requests' own: help, limits, choices, defaults and both names of the model."""

import argparse
import dataclasses

import pytest

from in2n_blender.cli import main as cli
from in2n_blender.cli.arguments import add_request, request_of
from in2n_blender.link.request_fields import setting_of
from in2n_blender.link.requests import REQUESTS, Edit, PreviewGrid, Reconstruct

TESTBED = REQUESTS["testbed"]  # a class of that name would be taken for tests


def parsed(request, *line, **how):
    parser = argparse.ArgumentParser()
    add_request(parser, request, **how)
    return parser.parse_args(line)


def text_of(parser) -> str:
    return " ".join(parser.format_help().split())


@pytest.mark.parametrize("request_", [r for r in REQUESTS.values() if r.method != "summary"], ids=lambda r: r.method)
def test_every_field_is_an_argument_with_its_help_and_choices(request_):
    parser = argparse.ArgumentParser(formatter_class=lambda prog: argparse.HelpFormatter(prog, width=10_000))
    add_request(parser, request_)
    shown = text_of(parser)
    for field in dataclasses.fields(request_):
        setting = setting_of(request_, field.name)
        assert " ".join(setting.help.split()) in shown
        assert not setting.choices or "{" + ",".join(setting.choices) + "}" in shown


def test_what_is_left_out_is_the_requests_default():
    assert request_of(Reconstruct, parsed(Reconstruct, "w")) == Reconstruct(workspace="w")
    assert request_of(PreviewGrid, parsed(PreviewGrid, "w", "--instruction", "x")) == PreviewGrid(
        workspace="w", instruction="x"
    )
    assert request_of(TESTBED, parsed(TESTBED, "--out", "o", "--cache", "c")) == TESTBED(out="o", cache="c")


def test_what_is_given_arrives_in_its_type():
    line = "w --name n --instruction x --guidance-text 5 --seed 3 --restart --noise-schedule uniform".split()
    assert request_of(Edit, parsed(Edit, *line)) == Edit(
        workspace="w", name="n", instruction="x", guidance_text=5.0, seed=3, restart=True, noise_schedule="uniform"
    )
    line = "w --instruction x --text-scales 1 2.5 --image-scales 1".split()
    found = request_of(PreviewGrid, parsed(PreviewGrid, *line))
    assert found.text_scales == [1.0, 2.5] and found.image_scales == [1.0]
    line = "--out o --cache c --method iterative --method per-frame --instruction gold".split()
    found = request_of(TESTBED, parsed(TESTBED, *line))
    assert found.methods == ["iterative", "per-frame"] and found.instructions == ["gold"]


@pytest.mark.parametrize("option", ["--model", "--editor"])
def test_both_names_of_the_model_work(option):
    line = ["w", "--name", "n", "--instruction", "x", option, "a/b"]
    assert request_of(Edit, parsed(Edit, *line)).editor == "a/b"


def test_a_command_chooses_and_a_line_may_leave_out():
    found = parsed(Edit, "w", "--instruction", "x", optional=("name",), defaults={"preset": "draft"})
    assert request_of(Edit, found, name="made up").name == "made up" and found.preset == "draft"
    with pytest.raises(SystemExit):
        parsed(Edit, "w", "--instruction", "x")


@pytest.mark.parametrize(
    "line, option",
    [
        (["--seed", "-1"], "--seed"),
        (["--seed", str(2**31)], "--seed"),
        (["--rounds", "0"], "--rounds"),
        (["--device", "abacus"], "--device"),
        (["--perceptual", "vgg"], "--perceptual"),
        (["--preset", "huge"], "--preset"),
    ],
)
def test_limits_are_told_with_the_options_name(capsys, line, option):
    with pytest.raises(SystemExit) as ended:
        parsed(Edit, "w", "--name", "n", "--instruction", "x", *line)
    assert ended.value.code == 2 and f"argument {option}" in capsys.readouterr().err


COMMANDS = "demo run import reconstruct edit preview render mesh splats evaluate testbed".split()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_help_is_written_twice_in_a_command(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    said = capsys.readouterr().out
    assert "(default: None)" not in said and "%" not in said and said.count("--device") <= 2
