"""What chance does to a file or a message: bytes, numbers and words in it, and values in its JSON."""

from __future__ import annotations

import copy
import json
import random
import re

WORDS = [
    *(b"nan", b"-1", b"0", b"1e400", b"1e308", b"-1e308", b"1e-320", b"9" * 20, b"9" * 5000, b"2147483648"),
    *(b"null", b"{}", b"[]", b"", b"\xff\xfe", b"\0", b"<a>", b"../", b"C:\\", b"/etc/passwd", b"[" * 2000),
]
VALUES = [
    *(None, True, False, 0, -1, 2, 1e308, -1e308, 5e-324, 2**31, 2**63, 10**400, float("nan"), float("inf")),
    *("", "x", "../../x", "/x", "C:x", "CON", "a\0b", "\ud800", "n" * 300, "~nobody/x", [], [[]], [1], [None], {}),
    *({"a": {}}, [[[1, 2], [3]], "x"], list(range(40)), {"x": [1e999] * 4}),
]
LONGEST = 1 << 20  # bytes: what grows beyond is cut


def mutated_bytes(data: bytes, chance: random.Random) -> bytes:
    """A file with bytes changed, cut out, doubled or put in, or with a number that became something else.

    Args:
        data: The whole file.
        chance: Decides.
    """
    for _ in range(chance.randint(1, 4)):
        at, other = chance.randint(0, len(data)), chance.randint(0, len(data))
        word, kind = chance.choice(WORDS), chance.randrange(6)
        if kind == 0:
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[at + chance.randint(1, 40) :]
        elif kind == 2:
            data = data[:at] + word + data[at:]
        elif kind == 3:
            data = data[:at] + data[other : other + 60] + data[at:]
        elif kind == 4:
            data = _with_a_number_replaced(data, at, word)
        else:
            data = data[:at]
    return data[:LONGEST]


def _with_a_number_replaced(data: bytes, at: int, word: bytes) -> bytes:
    found = re.compile(rb"-?\d+(\.\d+)?").search(data, at)
    return data if found is None else data[: found.start()] + word + data[found.end() :]


def mutated_json(value, chance: random.Random):
    """A JSON value with one to three of its parts removed, doubled, renamed or of another kind.

    Args:
        value: What JSON can hold; stays as it is.
        chance: Decides.
    """
    value = json.loads(json.dumps(value))
    for _ in range(chance.randint(1, 3)):
        value = _changed_somewhere(value, chance)
    return value


def _changed_somewhere(value, chance: random.Random):
    if not value or not isinstance(value, (dict, list)) or chance.random() < 0.1:
        return copy.deepcopy(chance.choice(VALUES))
    key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
    kind = chance.random()
    if kind < 0.7:
        value[key] = _changed_somewhere(value[key], chance)
    elif kind < 0.85:
        del value[key]
    elif isinstance(value, dict):
        value[chance.choice(["", "id", "method", "x" * 300, "\0", str(key) + " "])] = value[key]
    else:
        value.insert(key, value[key])
    return value


def mutated_text(data: bytes, chance: random.Random) -> bytes:
    """A file of JSON with a value changed where it is one, else, and half of the time, with bytes changed.

    Args:
        data: The whole file.
        chance: Decides.
    """
    if data[:1] in (b"{", b"[") and chance.random() < 0.5:
        try:
            return json.dumps(mutated_json(json.loads(data), chance)).encode()
        except (ValueError, RecursionError):
            pass
    return mutated_bytes(data, chance)
