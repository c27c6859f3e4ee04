"""Which device a job runs on: what is there, what computes, and where our own kernels run."""

import os
import subprocess
import sys

import pytest
import torch

from in2n_blender.engine import device as devices
from in2n_blender.engine import warp_devices
from in2n_blender.engine.device import find_devices, gpu_problems, pick_device, scene_device
from in2n_blender.engine.nerf.camera_refinement import CameraRefinement
from in2n_blender.engine.nerf.settings import CPU, GPU, settings_for
from in2n_blender.scene.errors import In2nError
from tests.engine.ball import ring

OLD_GPU = "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might be ..."


@pytest.mark.parametrize("name", ["cuda:99999999999", "cuda:7000", "gpu", "meta", ""])
def test_a_device_that_is_not_there_is_refused_in_one_sentence(name):
    with pytest.raises(In2nError) as refused:
        pick_device(name)
    assert refused.value.code == "no_device" and f"“{name}”" in refused.value.message


def test_auto_is_the_first_device_that_is_found():
    assert pick_device("auto") == torch.device(find_devices()[0]["device"])
    assert pick_device("cpu") == torch.device("cpu") and find_devices()[-1]["device"] == "cpu"


@pytest.fixture
def cuda(monkeypatch):
    """A machine with a CUDA device, of which every operation fails as the test says: nothing, or with an error."""
    errors = {"torch": None, "warp": None}
    real = torch.arange

    def arange(*args, device=None, **more):
        if torch.device(device or "cpu").type == "cuda" and errors["torch"]:
            raise errors["torch"]
        return real(*args, **more)

    def on_the_device(values):
        if errors["warp"]:
            raise errors["warp"]
        return None

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    monkeypatch.setattr(torch, "arange", arange)
    monkeypatch.setattr(torch, "zeros", lambda *args, device=None, **more: on_the_device(torch.ones(4)))
    for probe in (devices.fault, warp_devices.fault):
        probe.cache_clear()
    yield errors
    for probe in (devices.fault, warp_devices.fault):
        probe.cache_clear()


def test_a_gpu_older_than_the_build_of_torch_is_left_to_the_cpu(cuda):
    cuda["torch"], said = RuntimeError(OLD_GPU), []
    assert pick_device("auto", said.append) == torch.device("cpu") == scene_device("auto", said.append)
    assert said[0] == "The GPU is not used: this build of PyTorch has no kernels for so old a GPU."
    assert gpu_problems() == ["A GPU is not used: this build of PyTorch has no kernels for so old a GPU."]
    assert [found["device"] for found in find_devices()] == ["cpu"]
    with pytest.raises(In2nError) as refused:
        pick_device("cuda")
    assert refused.value.code == "no_device" and "so old a GPU" in refused.value.message


def test_a_gpu_whose_memory_is_used_up_is_still_one(cuda):
    cuda["torch"] = torch.OutOfMemoryError("CUDA out of memory")
    assert pick_device("auto") == torch.device("cuda")


def test_where_warp_does_not_compute_the_scene_is_the_cpus(cuda):
    cuda["warp"], said = RuntimeError("Warp was not built with CUDA support.\n"), []
    assert scene_device("auto", said.append) == scene_device("cuda") == torch.device("cpu")
    assert "(Warp was not built with CUDA support)" in said[0] and said[0].startswith(
        "The scene is computed on the CPU"
    )
    assert pick_device("auto") == torch.device("cuda"), "the 2D model needs no Warp"


def test_warp_has_no_amd_gpus_though_torch_calls_them_cuda(cuda, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert not warp_devices.has_kind(torch.device("cuda")) and scene_device("auto") == torch.device("cpu")
    assert "Warp" in warp_devices.fault(torch.device("cuda"))


def test_on_a_mac_the_scene_is_the_cpus_and_the_model_metals(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(devices, "fault", lambda device: None)
    assert pick_device("auto") == pick_device("mps") == torch.device("mps")
    assert scene_device("auto") == scene_device("mps") == torch.device("cpu")
    assert settings_for("standard", scene_device("auto").type) == CPU["standard"] != GPU["standard"]


def test_a_driver_beside_a_torch_for_processors_alone_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices.shutil, "which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr(torch.version, "cuda", None)
    (said,) = gpu_problems()
    assert "made for processors alone" in said and "repair" in said
    monkeypatch.setattr(devices.shutil, "which", lambda program: None)
    assert gpu_problems() == []


def test_the_real_probe_of_warp_computes_on_the_cpu():
    warp_devices.fault.cache_clear()
    assert warp_devices.fault(torch.device("cpu")) is None
    values = torch.zeros(4)
    wp = warp_devices.warp()
    wp.launch(warp_devices._counting_kernel(), dim=4, inputs=[wp.from_torch(values)], device="cpu")
    assert values.tolist() == [0, 1, 2, 3]


def test_refined_cameras_come_to_the_cpu_before_they_are_widened(monkeypatch):
    """Metal knows no float64."""
    refinement, where, real = CameraRefinement(2), [], torch.Tensor.cpu

    class OnMetal(torch.Tensor):
        def double(self):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

        def cpu(self):
            where.append("cpu")
            return real(self.as_subclass(torch.Tensor))

    values = tuple(tensor.detach().as_subclass(OnMetal) for tensor in refinement.deltas())
    monkeypatch.setattr(refinement, "deltas", lambda: values)
    assert len(refinement.cameras(ring(2), 1.0)) == 2 and where == ["cpu", "cpu"]


def test_the_worker_lets_metal_fall_back_before_torch_is_loaded():
    script = "import os, sys; import in2n_blender.engine.worker; print('torch' in sys.modules, "
    script += "os.environ['PYTORCH_ENABLE_MPS_FALLBACK'])"
    env = {name: value for name, value in os.environ.items() if name != "PYTORCH_ENABLE_MPS_FALLBACK"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, cwd=os.getcwd())
    assert done.stdout.split() == ["False", "1"], done.stderr
