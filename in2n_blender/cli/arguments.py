"""The command line's arguments, made from the requests of `link`: their help, limits, choices and defaults are written
there alone."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable

from ..link.request_fields import Request, check_limits, field_type, item_type, setting_of
from ..link.requests import Edit, ExtractMesh, ImportCapture, MakeSplats, PathThroughViews, Reconstruct
from ..scene.errors import In2nError

FLAGS = {  # of fields that are not called --field on the line; one without a dash has no flag
    "workspace": ("workspace",),
    "source": ("capture",),
    "editor": ("--model", "--editor"),  # the second is what it was called once
    "editing_method": ("--method",),
    "camera_path": ("--path",),
    "methods": ("--method",),
    "scenes": ("--scene",),
    "instructions": ("--instruction",),
}
SEVERAL_TIMES = {"methods", "scenes", "instructions"}
DEMO_DEFAULTS = {"instruction": "make it look like it snowed", "preset": "draft", "resolution": 160, "splats": 200_000}
DEMO_FLAGS = {"resolution": ("--mesh-resolution",)}
DEMO_FIELDS = {
    Edit: ("instruction", "editor", "preset", "device", "seed", "rounds"),
    Reconstruct: ("steps",),
    PathThroughViews: ("frames",),
    ExtractMesh: ("resolution",),
    MakeSplats: ("splats",),
}
# Of `run`: the requests of its stages, and which of their fields the line does not give.
RUN_FIELDS = {
    ImportCapture: ("workspace",),
    Reconstruct: ("workspace", "preset", "restart"),
    Edit: (
        "workspace",
        "name",
        "preset",
        "seed",
        "device",
        "restart",
        "parent",
        "apply_from_here",
        "cluster",
        "workers",
    ),
}
KINDS = {int: "a whole number", float: "a number", str: "text"}


def add_request(
    parser: argparse.ArgumentParser,
    request: type[Request],
    names: Iterable[str] | None = None,
    *,
    without: Iterable[str] = (),
    optional: Iterable[str] = (),
    flags: dict[str, tuple[str, ...]] | None = None,
    defaults: dict[str, object] | None = None,
) -> None:
    """Add a request's fields to a parser, under their own names, so that `request_of` finds them.

    Args:
        parser: Gets an option a field, or an argument without a flag where `FLAGS` says so.
        request: The class.
        names: Only these fields; all unless given.
        without: Not these fields.
        optional: Fields that the request needs and the line may leave out, for the command to choose.
        flags: Other flags than `FLAGS` has.
        defaults: Other defaults than the request has.
    """
    chosen = {field.name: field for field in dataclasses.fields(request)}
    for name in names or chosen:
        if name not in without:
            _add(parser, request, chosen[name], _flags(name, flags), name in optional, (defaults or {}).get(name))


def request_of(request: type[Request], arguments: argparse.Namespace, **given) -> Request:
    """The checked request of parsed arguments.

    Args:
        request: The class.
        arguments: What a parser found that `add_request` prepared; what it left out is the request's default.
        given: Fields that the command chose.

    Raises:
        In2nError: What `Request.check` raises.
    """
    names = {field.name for field in dataclasses.fields(request)}
    found = {name: value for name, value in vars(arguments).items() if name in names and value is not None}
    made = request(**{**found, **given})
    made.check()
    return made


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Add the demo's options, which its program in Blender's Python has too.

    Args:
        parser: Gets the options.
    """
    parser.add_argument(
        "--out", default="demo", metavar="DIR", help="folder for everything the demo makes (default: ./%(default)s)"
    )
    parser.add_argument("--capture", metavar="CAPTURE", help="another capture than the bundled one")
    for request, names in DEMO_FIELDS.items():
        add_request(parser, request, names, flags=DEMO_FLAGS, defaults=DEMO_DEFAULTS)


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the options of `run`, which a table of runs has as columns.

    Args:
        parser: Gets the options, and the capture as an argument.
    """
    for request, without in RUN_FIELDS.items():
        add_request(parser, request, without=without)
    add_request(parser, PathThroughViews, ("frames",))
    add_request(parser, ExtractMesh, ("resolution",), flags=DEMO_FLAGS)


def run_columns() -> dict[str, type]:
    """What `run` can be told, as columns of a table: the options without their dashes, and what kind each is."""
    fields = [
        (request, field.name)
        for request, without in RUN_FIELDS.items()
        for field in dataclasses.fields(request)
        if field.name not in without
    ] + [(PathThroughViews, "frames"), (ExtractMesh, "resolution")]
    named = lambda name: [flag.lstrip("-") for flag in _flags(name, DEMO_FLAGS)]
    return {column: field_type(request, name) for request, name in fields for column in named(name)}


def demo_line(arguments: argparse.Namespace) -> list[str]:
    """The line that a parser with the demo's options reads as these arguments.

    Args:
        arguments: The demo's, as parsed.
    """
    names = ("out", "capture", *(name for names in DEMO_FIELDS.values() for name in names))
    chosen = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    return [f"{_flags(name, DEMO_FLAGS)[0]}={value}" for name, value in chosen.items()]


def _flags(name: str, other: dict[str, tuple[str, ...]] | None) -> tuple[str, ...]:
    return {**FLAGS, **(other or {})}.get(name, ("--" + name.replace("_", "-"),))


def _add(parser, request: type[Request], field, options: tuple[str, ...], optional: bool, default) -> None:
    setting, kind = setting_of(request, field.name), field_type(request, field.name)
    own = None if field.default is dataclasses.MISSING else field.default
    default = own if default is None else default
    has_flag = options[0].startswith("-")
    needed = own is None and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    settings: dict = {"default": default, "help": _help(setting.help, default, kind)}
    if has_flag:
        settings.update(dest=field.name, required=needed and not optional and default is None)
    if kind is bool:
        parser.add_argument(*options, action=argparse.BooleanOptionalAction if own else "store_true", **settings)
        return
    if setting.choices:
        settings["choices"] = setting.choices
    settings["metavar"] = setting.metavar or (None if setting.choices else "N" if kind is int else field.name.upper())
    if kind is list:
        settings.update({"action": "append"} if field.name in SEVERAL_TIMES else {"nargs": "+"})
        if field.name in SEVERAL_TIMES:
            settings["help"] += "; several times for several"
    if not has_flag:
        options = (field.name,)
        settings.pop("default")
    parser.add_argument(*options, type=_reader(request, field.name), **settings)


def _help(text: str, default, kind: type) -> str:
    text = text.replace("%", "%%")
    return text if default in (None, "") or kind is bool or "(default:" in text else f"{text} (default: %(default)s)"


def _reader(request: type[Request], name: str):
    """text -> value, for argparse, which tells which option was wrong. A scale is left to the request's check, which
    has a hint for it."""
    setting, kind = setting_of(request, name), item_type(request, name) or field_type(request, name)

    def read(text: str):
        try:
            value = kind(text)
            if kind is not float and not setting.choices:
                check_limits(name, setting, value)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:80]!r} is not {KINDS[kind]}") from None
        except In2nError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return value

    return read
