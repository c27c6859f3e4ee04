"""Memory that ends, on a GPU or in the machine: what is computed at once is halved, and the job goes on."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from in2n_blender.engine.device import is_out_of_memory
from in2n_blender.engine.editing.batches import AskedEdit, Batches
from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.engine.nerf.parts import LEAST, Parts
from in2n_blender.engine.nerf.reconstruction import reconstruct
from in2n_blender.engine.nerf.scene import Scene
from in2n_blender.engine.nerf.training import LEAST_RAYS, Trainer
from in2n_blender.link.requests import Reconstruct
from in2n_blender.scene.reporting import Reporter
from tests.engine.ball import TINY, look_at, reconstructed_ball, ring, sphere_image, trained_on
from tests.faults.test_not_finite import tiny_trainer

ROOT = Path(__file__).resolve().parents[2]
ENDS = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "numpy": lambda: MemoryError("Unable to allocate 2.00 GiB"),
    "torch on the CPU": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
    ),
}
# what jobs leave: blocks in a ring that nobody holds, below small ones that live on
LEFT = """
import gc, sys, psutil
from in2n_blender.engine.worker import give_back_memory
from in2n_blender.engine.heap import trim_heap
held = lambda: psutil.Process().memory_info().rss >> 20
gc.disable()
before = held()
ring = [bytearray(b"x" * 60_000) for _ in range(5000)]
ring.append(ring)
lives_on = [bytearray(600) for _ in range(2000)]  # larger than what Python itself keeps together
full = held()
del ring
trim_heap() if sys.argv[1] == "trimmed" else gc.collect() if sys.argv[1] == "collected" else give_back_memory()
print(full - before, held() - before)
"""
ENDINGS = pytest.mark.parametrize("ending", ENDS.values(), ids=ENDS)


@ENDINGS
def test_what_the_libraries_say_of_memory_is_known(ending):
    assert is_out_of_memory(ending())
    assert not is_out_of_memory(RuntimeError("shapes do not fit")) and not is_out_of_memory(ValueError("memory"))


@pytest.mark.skipif(sys.platform != "linux", reason="glibc keeps what is freed")
@pytest.mark.parametrize("how, freed", [("trimmed", False), ("collected", False), ("both", True)])
def test_what_a_job_freed_goes_back_to_the_system(how, freed):
    """It is in rings, which Python collects late, and then in holes, which glibc keeps: why a worker once grew from job
    to job."""
    done = subprocess.run([sys.executable, "-c", LEFT, how], cwd=ROOT, capture_output=True, text=True, check=True)
    full, after = map(int, done.stdout.split())
    assert full > 280 and (after < 0.3 * full if freed else after > 0.8 * full), (full, after)


@pytest.fixture(scope="module")
def scene():
    cameras = ring(3)
    return trained_on(cameras, [sphere_image(camera) for camera in cameras], steps=20)[1]


@ENDINGS
def test_a_view_is_the_same_in_smaller_parts_and_the_log_says_so_once(scene, monkeypatch, ending):
    camera = look_at((3, 0, 1), size=(40, 30))
    whole, points = scene.render(camera), torch.rand(1000, 3) - 0.5
    density, color = scene.density(points), scene.color(points, torch.nn.functional.normalize(points))
    real, sizes, said = Scene._rays, [], []

    def rays(self, bundle):
        sizes.append(len(bundle))
        if len(bundle) > 400:
            raise ending()
        return real(self, bundle)

    monkeypatch.setattr(Scene, "_rays", rays)
    monkeypatch.setattr(scene, "parts", Parts("cpu"))
    for _ in range(2):
        parts = scene.render(camera, Reporter(said.append))
    assert torch.allclose(parts.rgb_srgb, whole.rgb_srgb, atol=1e-5) and torch.allclose(
        parts.depth, whole.depth, atol=1e-3
    )
    assert sizes == [1200, 600, 300, 300, 300, 300, 300, 300, 300, 300] and len(said) == 1 and "300 rays" in said[0]
    assert torch.allclose(scene.density(points), density, rtol=1e-4)
    assert torch.allclose(scene.color(points, torch.nn.functional.normalize(points)), color, atol=1e-5)


def test_where_nothing_fits_it_is_said(scene):
    def never(first, last):
        raise torch.OutOfMemoryError("not even this")

    parts = Parts("cpu")
    with pytest.raises(torch.OutOfMemoryError):
        parts.run(5000, never)
    assert parts.most < 2 * LEAST
    with pytest.raises(ZeroDivisionError):
        Parts("cpu").run(10, lambda first, last: 1 / 0)
    assert Parts("cpu").run(0, lambda first, last: (first, last)) == [(0, 0)]


@ENDINGS
def test_a_step_trains_on_fewer_rays_and_that_is_kept(monkeypatch, ending):
    said = []
    trainer = tiny_trainer(said)
    trainer.settings = replace(trainer.settings, rays=512)
    trainer.rays, real = 512, Trainer._losses

    def losses(self):
        if self is trainer and self.rays > 200:
            raise ending()
        return real(self)

    monkeypatch.setattr(Trainer, "_losses", losses)
    for _ in range(3):
        trainer.step()
    assert trainer.rays == 128 and trainer.step_count == 3 and len(said) == 2 and "128 rays" in said[1]
    other = tiny_trainer()
    other.settings = trainer.settings
    other.restore(*trainer.state())
    assert other.rays == 128 and other.step() == trainer.step()


def test_a_step_that_never_fits_fails_as_it_is(monkeypatch):
    trainer = tiny_trainer()
    trainer.rays = 4 * LEAST_RAYS
    monkeypatch.setattr(Trainer, "_losses", lambda self: (_ for _ in ()).throw(torch.OutOfMemoryError("never")))
    with pytest.raises(torch.OutOfMemoryError):
        trainer.step()
    assert trainer.step_count == 0


def test_a_reconstruction_goes_on_and_is_done(tmp_path, monkeypatch):
    ball = reconstructed_ball(tmp_path / "ws", ring(3))
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)
    real, said = Trainer._losses, []

    def losses(self):
        if self.rays > 200:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self)

    monkeypatch.setattr(Trainer, "_losses", losses)
    request = Reconstruct(workspace=str(ball), preset="draft", device="cpu", steps=12, restart=True)
    state = reconstruct(request, Reporter(said.append))
    assert state["done"] and state["rays"] == 128 and any("Memory ended" in str(event) for event in said)
    assert reconstruct(replace(request, restart=False), Reporter()) == state


@ENDINGS
def test_a_batch_of_edits_is_halved_and_said(ending):
    asked, said = [AskedEdit(number, torch.zeros(4, 6, 3), 0.5, 0) for number in range(4)], []

    def edit(batch):
        if len(batch) > 1:
            raise ending()
        return [one.start for one in batch]

    assert len(Batches(4, said.append).run(asked, edit)) == 4
    assert ["2 views are" in said[0], "one view is" in said[1], len(said)] == [True, True, 2]
