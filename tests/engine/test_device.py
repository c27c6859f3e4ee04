"""Which device a job runs on."""

import pytest
import torch

from in2n_blender.engine.device import find_devices, pick_device
from in2n_blender.scene.errors import In2nError


@pytest.mark.parametrize("name", ["cuda:99999999999", "cuda:7000", "gpu", "meta", ""])
def test_a_device_that_is_not_there_is_refused_in_one_sentence(name):
    with pytest.raises(In2nError) as refused:
        pick_device(name)
    assert refused.value.code == "no_device" and f"“{name}”" in refused.value.message


def test_auto_is_the_first_device_that_is_found():
    assert pick_device("auto") == torch.device(find_devices()[0]["device"])
    assert pick_device("cpu") == torch.device("cpu") and find_devices()[-1]["device"] == "cpu"
