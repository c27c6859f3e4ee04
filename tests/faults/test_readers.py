"""Whatever happens to a file that is read, it is an In2nError or a capture, in time.

The long run, also over checkpoints and whole pictures, is `tests/benchmarks/faults.py`; what was found is in DAMAGED.
"""

import random
import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from in2n_blender.scene.errors import In2nError
from tests.faults.mutations import mutated_text
from tests.faults.readers import READERS, engine_readers

MOST_SECONDS = 2.0  # of the process's own time, on a machine that does other things
# reader -> what changes its file to what once was no In2nError
DAMAGED = {
    "transforms": [lambda data: data.replace(b"64", b"9" * 5000, 1)],
    "meshroom": [
        lambda data: data.replace(b"64", b"9" * 5000, 1),
        lambda data: data.replace(b'"transform": {', b'"transform": null, "x": {', 1),
        lambda data: data.replace(b".png", b"9" * 5000 + b".png", 1),
    ],
    "opensfm": [lambda data: re.sub(rb'"camera": "[^"]*"', b'"camera": []', data, count=1)],
    "colmap as text": [lambda data: data.replace(b".png", b"9" * 5000 + b".png", 1)],
    "model description": [lambda data: data.replace(b"64", b"1" + b"0" * 400, 1)],
    "inria": [lambda data: data.replace(b"64", b"1" + b"0" * 400, 1)],
    "capture.json": [lambda data: re.sub(rb'"offset": \[[^\]]*\]', b'"offset": []', data)],
    "points": [
        lambda data: data.replace(b"vertex 20", b"vertex " + b"9" * 25, 1),
    ],
    "region mesh": [lambda data: data.replace(b"element face 6", b"element other 999999999999", 1)],
    "archive": [lambda data: re.sub(rb"(transforms\.json).", b"\\1\xff", data, count=1, flags=re.DOTALL)],
    "job.json": [
        lambda data: data.replace(b": 3", b": Infinity"),
        lambda data: data.replace(b": 1", b": 1" + b"0" * 400),
        lambda data: data.replace(b": 1", b": -1" + b"0" * 400),
    ],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Reader -> (its whole file, the bytes of that)."""
    made = {}
    for number, reader in enumerate(READERS):
        file = reader.write(tmp_path_factory.mktemp(f"{number}"))
        made[reader.name] = file, file.read_bytes()
    return made


def read_damaged(reader, file, data):
    file.write_bytes(data)
    began = time.process_time()
    try:
        reader.read(file)
    except In2nError as error:
        assert error.message and error.hint and "\n" not in error.message
    except reader.raises:
        pass
    assert time.process_time() - began < MOST_SECONDS


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_what_is_whole_is_read(reader, whole):
    file, data = whole[reader.name]
    file.write_bytes(data)
    reader.read(file)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
def test_whatever_is_damaged_is_one_sentence(reader, whole, seed):
    file, data = whole[reader.name]
    read_damaged(reader, file, mutated_text(data, random.Random(seed)))


def test_a_video_of_an_unknown_codec_is_one_sentence(tmp_path):
    reader = next(reader for reader in engine_readers() if reader.name == "video")
    file = reader.write(tmp_path)
    data = file.read_bytes()
    damaged = data.replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC")
    assert damaged != data
    read_damaged(reader, file, damaged)


@pytest.mark.parametrize("name, damage", [(name, damage) for name, damages in DAMAGED.items() for damage in damages])
def test_what_was_found_stays_mended(name, damage, whole):
    file, data = whole[name]
    assert damage(data) != data
    read_damaged(next(reader for reader in READERS if reader.name == name), file, damage(data))
