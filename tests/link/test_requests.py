"""Requests: what each field says of itself, and that nothing malformed comes through."""

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from in2n_blender.link.request_fields import Request, field_type, item_type, setting_of
from in2n_blender.link.requests import REQUESTS, Edit, Evaluate, PreviewGrid, from_params
from in2n_blender.scene.errors import In2nError

FIELDS = [(cls, field) for cls in REQUESTS.values() for field in dataclasses.fields(cls)]
SMALL_WORDS = {"of", "on", "the", "a", "and", "by", "from", "to"}


def names(case):
    return f"{case.__name__}" if isinstance(case, type) else getattr(case, "name", None)


def needed(cls) -> dict:
    """The fields that a request cannot do without, each with a value that is right."""
    return {
        field.name: "x"
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }


def made(cls, **fields) -> Request:
    return cls(**{**needed(cls), **fields})


def code_of(request: Request) -> str:
    with pytest.raises(In2nError) as refused:
        request.check()
    error = refused.value
    assert error.message and error.hint and "\n" not in error.message + error.hint
    return error.code


# --- what a field says of itself


@pytest.mark.parametrize("cls, field", FIELDS, ids=names)
def test_every_field_has_a_label_in_title_case_and_one_sentence_of_help(cls, field):
    setting = setting_of(cls, field.name)
    words = setting.label.split()
    assert words and all(word in SMALL_WORDS or word[0].isupper() for word in words) and words[0][0].isupper()
    assert setting.help and not setting.help.endswith(".") and "\n" not in setting.help


@pytest.mark.parametrize("cls, field", FIELDS, ids=names)
def test_every_field_has_a_type_that_its_limits_fit(cls, field):
    setting, kind = setting_of(cls, field.name), item_type(cls, field.name) or field_type(cls, field.name)
    assert kind in (str, int, float, bool, dict)
    assert kind in (int, float) or (setting.low, setting.high) == (None, None)
    assert kind not in (int, float) or None not in (setting.low, setting.high) and setting.low < setting.high
    assert kind is str or not (setting.choices or setting.pattern)


@pytest.mark.parametrize("cls", REQUESTS.values(), ids=names)
def test_no_request_is_made_by_position(cls):
    with pytest.raises(TypeError, match="positional"):
        cls("x")


@pytest.mark.parametrize("cls", REQUESTS.values(), ids=names)
def test_what_a_request_needs_is_enough_and_survives_the_wire(cls):
    request = from_params(cls.method, json.loads(json.dumps(made(cls).to_params())))
    assert request == made(cls) and type(request) is cls


@pytest.mark.parametrize("cls", REQUESTS.values(), ids=names)
def test_two_requests_share_no_list(cls):
    first, second = made(cls), made(cls)
    for field in dataclasses.fields(cls):
        if isinstance(getattr(first, field.name), (list, dict)):
            assert getattr(first, field.name) is not getattr(second, field.name)


# --- limits and choices

NUMBERS = [(c, f) for c, f in FIELDS if setting_of(c, f.name).low is not None]
CHOICES = [(c, f) for c, f in FIELDS if setting_of(c, f.name).choices or setting_of(c, f.name).pattern]


def in_field(cls, field, value):
    return made(cls, **{field.name: [value] if field_type(cls, field.name) is list else value})


@pytest.mark.parametrize("cls, field", NUMBERS, ids=names)
def test_numbers_have_limits(cls, field):
    setting = setting_of(cls, field.name)
    whole = field_type(cls, field.name) is int
    step = 1 if whole else 1e-6
    for value in (setting.low, setting.high):
        in_field(cls, field, int(value) if whole else value).check()
    for value in (setting.low - step, setting.high + step, 10**400, -(10**400)):
        assert code_of(in_field(cls, field, value)) == setting.code
    if not whole:
        for value in (math.nan, math.inf, -math.inf):
            assert code_of(in_field(cls, field, value)) == setting.code
    for value in (True, "1", [1, 2], {}, math.nan if whole else "nan"):
        assert code_of(in_field(cls, field, value)) == "bad_request"


@pytest.mark.parametrize("cls, field", CHOICES, ids=names)
def test_words_have_choices(cls, field):
    setting = setting_of(cls, field.name)
    for word in setting.choices or ("auto", "cpu", "cuda", "cuda:1", "mps"):
        in_field(cls, field, word).check()
    for word in ("", "no such thing", "cpu\n", "cuda:", "auto draft"):
        assert code_of(in_field(cls, field, word)) == setting.code
    for word in (5, None, ["auto"]):
        if word is not None or field_type(cls, field.name) is not str:
            assert code_of(in_field(cls, field, word)) == "bad_request"


@pytest.mark.parametrize("cls", REQUESTS.values(), ids=names)
def test_what_is_needed_must_not_be_empty_or_hold_a_nul(cls):
    for name in needed(cls):
        assert code_of(made(cls, **{name: " "})) in ("bad_request", "empty_instruction")
        assert code_of(made(cls, **{name: "a\0b"})) == "bad_request"


@pytest.mark.parametrize(
    "request_, code",
    [
        (made(Edit, instruction=" \n"), "empty_instruction"),
        (made(Edit, parent="x"), "own_parent"),
        (made(PreviewGrid, text_scales=[]), "bad_guidance"),
        (made(PreviewGrid, image_scales=[1.0] * 9), "bad_guidance"),
        (made(Evaluate, edit="e", source_caption="a garden"), "bad_captions"),
        (made(Evaluate, edit="e", source_caption="a", target_caption=" a "), "bad_captions"),
        (made(Evaluate, clip="name"), "nothing_edited"),
    ],
)
def test_contradictions(request_, code):
    assert code_of(request_) == code


# --- messages

MALFORMED = [
    (None, {}),
    (5, {}),
    ([], {}),
    ({}, {}),
    ("no such method", {}),
    ("edit", None),
    ("edit", []),
    ("edit", "text"),
    ("edit", 5),
    ("edit", {}),
    ("edit", {"workspace": "w"}),
    ("edit", {1: 2}),
    ("edit", {"self": 1}),
    ("edit", {"workspace": "w", "name": "n", "instruction": 5}),
    ("edit", {"workspace": "w", "name": "n", "instruction": ["make it snow"]}),
    ("edit", {"workspace": "w", "name": "n", "instruction": "x", "method": "edit"}),
    ("edit", {"workspace": "w", "name": "n", "instruction": "x", "check": None}),
    ("edit", {"workspace": {"a": 1}, "name": "n", "instruction": "x"}),
    ("preview", {"workspace": "w", "instruction": "x", "text_scales": {"a": 1}}),
    ("preview", {"workspace": "w", "instruction": "x", "text_scales": [[1.0]]}),
    ("preview", {"workspace": "w", "instruction": "x", "text_scales": [None]}),
    ("summary", {"workspace": "w", "edit": "e", "camera_path": "p", "out": "o", "results": []}),
    ("testbed", {"out": "o", "cache": "c", "methods": "iterative"}),
    ("testbed", {"out": "o", "cache": "c", "methods": [5]}),
]


@pytest.mark.parametrize("method, params", MALFORMED, ids=lambda value: repr(value)[:40])
def test_a_malformed_message_is_refused_in_a_sentence(method, params):
    with pytest.raises(In2nError) as refused:
        from_params(method, params)
    assert refused.value.code in ("bad_request", "unknown_method") and refused.value.hint


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([10**400, -(10**400), "a\0b", "\udce9", "cuda:1", "draft", "uniform"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("cls", REQUESTS.values(), ids=names)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_random_objects_are_requests_or_refused(cls, data):
    """What passes is of the right type in every field and within its limits."""
    known = st.fixed_dictionaries({}, optional={field.name: ANYTHING for field in dataclasses.fields(cls)})
    params = {**needed(cls), **data.draw(known)} | data.draw(st.just({}) | st.just({"other": 1}))
    try:
        request = from_params(cls.method, params)
    except In2nError as error:
        assert error.message and error.hint
        return
    assert set(params) <= {field.name for field in dataclasses.fields(cls)}
    for field in dataclasses.fields(cls):
        value, kind = getattr(request, field.name), field_type(cls, field.name)
        assert value is None or isinstance(value, (int, float) if kind is float else kind)
        limit = setting_of(cls, field.name)
        for number in value if isinstance(value, list) else [value]:
            assert limit.low is None or number is None or limit.low <= number <= limit.high


@settings(max_examples=150, deadline=None, derandomize=True)
@given(method=ANYTHING | st.sampled_from(sorted(REQUESTS)), params=ANYTHING)
def test_any_message_is_a_request_or_refused(method, params):
    try:
        assert isinstance(from_params(method, params), Request)
    except In2nError as error:
        assert error.message and error.hint


def test_an_edit_is_started_over_or_gone_on_with():
    given = {"workspace": "w", "name": "n", "instruction": "x"}
    for flag in ("restart", "apply_from_here"):
        assert getattr(from_params("edit", {**given, flag: True}), flag)
    with pytest.raises(In2nError) as refused:
        from_params("edit", {**given, "restart": True, "apply_from_here": True})
    assert refused.value.code == "restart_or_go_on"
