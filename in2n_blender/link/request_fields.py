"""What a request's fields say of themselves, and the checks that follow from it: types, limits, choices."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import types
import typing
from dataclasses import dataclass
from typing import ClassVar

from ..scene.errors import In2nError


@dataclass(frozen=True)
class Setting:
    """What a person needs to know of a request's field.

    Attributes:
        label: Its name in the interface, in title case.
        help: One sentence without a full stop, as a tooltip and the command line's help show it.
        low: The least allowed number, for each number of a list.
        high: The largest allowed number.
        choices: The allowed texts; empty: any.
        pattern: A regular expression that a text has to match as a whole; empty: any.
        metavar: What stands for the value in the command line's help.
        advice: The hint of an error about this field.
        code: The code of that error.
    """

    label: str
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    metavar: str = ""
    advice: str = ""
    code: str = "bad_setting"


def setting(label: str, help: str, default=dataclasses.MISSING, factory=dataclasses.MISSING, **more):
    """A field with its `Setting`.

    Args:
        label: As `Setting.label`.
        help: As `Setting.help`.
        default: The field's default; a field with neither this nor `factory` is required.
        factory: Makes the default, of a list or dict.
        **more: Further attributes of the `Setting`.
    """
    return dataclasses.field(
        default=default, default_factory=factory, metadata={"setting": Setting(label, help, **more)}
    )


@dataclass(frozen=True, kw_only=True)
class Request:
    """What all requests share. method: the name in the message. locks_workspace: whether it writes there."""

    method: ClassVar[str]
    locks_workspace: ClassVar[bool] = True

    def check(self) -> None:
        """Check what can be told whatever the workspace holds: types, limits, choices, contradictions.

        Raises:
            In2nError: "bad_request", and the settings' own codes.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            _check_value(field, setting_of(type(self), field.name), value, _types(type(self)))
            if required(field) and isinstance(value, str) and not value.strip():
                raise bad_request(type(self), f"its {field.name} is empty")

    def to_params(self) -> dict:
        """The fields as JSON knows them; the inverse of `from_params`."""
        return dataclasses.asdict(self)


def setting_of(request: type[Request], name: str) -> Setting:
    """The `Setting` of a request's field.

    Args:
        request: The request's class.
        name: The field.

    Raises:
        KeyError: Where it has no such field.
    """
    return request.__dataclass_fields__[name].metadata["setting"]


def required(field) -> bool:
    """Whether a field has no default.

    Args:
        field: One of `dataclasses.fields`.
    """
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


@functools.cache
def _types(cls: type[Request]) -> dict[str, tuple[type, type | None, bool]]:
    """Field -> (its type, the type of a list's items, whether it may be None)."""
    found = {}
    for name, hint in typing.get_type_hints(cls).items():
        parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        optional = type(None) in parts
        (hint,) = (part for part in parts if part is not type(None))
        items = typing.get_args(hint)
        found[name] = (typing.get_origin(hint) or hint, items[0] if items else None, optional)
    return found


def field_type(cls: type[Request], name: str) -> type:
    """The type of a request's field, whether or not it may be None.

    Args:
        cls: The request's class.
        name: The field.

    Returns:
        str, int, float, bool, list or dict.

    Raises:
        KeyError: Where it has no such field.
    """
    return _types(cls)[name][0]


def item_type(cls: type[Request], name: str) -> type | None:
    """What a list of a request's field holds.

    Args:
        cls: The request's class.
        name: The field.

    Returns:
        The items' type; None where the field is no list.

    Raises:
        KeyError: Where it has no such field.
    """
    return _types(cls)[name][1] if field_type(cls, name) is list else None


def _check_value(field, setting: Setting, value: object, kinds: dict) -> None:
    kind, item, optional = kinds[field.name]
    if value is None and optional:
        return
    if not _is(value, kind) or (item is not None and not all(_is(part, item) for part in value)):
        raise In2nError(
            "bad_request",
            f"{setting.label} is not what it should be ({value!r:.80}).",
            setting.advice or "Leave it out.",
        )
    for part in value if isinstance(value, list) else [value]:
        check_limits(field.name, setting, part)


def _is(value: object, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def check_limits(name: str, setting: Setting, value: object) -> None:
    """Raise for a value beyond a setting's limits, choices or pattern.

    Args:
        name: The field, for messages.
        setting: What is allowed.
        value: Of the field's type; of a list, one item.

    Raises:
        In2nError: The setting's own code; "bad_request" for a text with a NUL.
    """
    if setting.choices and value not in setting.choices:
        raise In2nError(
            setting.code,
            f"There is no {name.replace('_', ' ')} “{shown(value)}”.",
            f"Choose one of: {', '.join(setting.choices)}.",
        )
    if setting.pattern and not re.fullmatch(setting.pattern, value):
        raise In2nError(setting.code, f"There is no {name.replace('_', ' ')} “{shown(value)}”.", setting.advice)
    if isinstance(value, str) and "\0" in value:
        raise In2nError("bad_request", f"{setting.label} has a character that no text has.", "Type it again.")
    if setting.low is None and setting.high is None:
        return
    low = -math.inf if setting.low is None else setting.low
    high = math.inf if setting.high is None else setting.high
    if not low <= value <= high:  # a NaN is not either
        if setting.code == "bad_guidance":
            raise In2nError(
                setting.code,
                f"The guidance scale {shown(value)} cannot be used.",
                "Give a number from 0 upwards; 7.5 (text) and 1.5 (image) are usual.",
            )
        raise In2nError(
            setting.code,
            f"{setting.label} is {shown(value)}, which cannot be used.",
            f"Give a number from {low:g} to {high:g}.",
        )


def shown(value: object) -> str:
    """A value within a sentence: on one line, and not without end."""
    text = repr(value)[1:-1] if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def bad_request(cls: type[Request], reason: str) -> In2nError:
    """What to say of a message that is no request of its method.

    Args:
        cls: The request's class.
        reason: What is wrong, as the end of a sentence.

    Returns:
        In2nError "bad_request", to be raised.
    """
    return In2nError(
        "bad_request", f"The request “{cls.method}” is not valid: {reason}.", "Use the same version on both sides."
    )
