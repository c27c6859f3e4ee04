"""What an edit hands to its networks lies where they do: seen without a GPU, by tensors that only know their device.

A fake tensor on "cuda" has a shape and a device and no numbers; an operation that mixes devices fails as on a GPU."""

import sys

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from in2n_blender.engine.diffusion.editor import OriginalLatent, noise_generator
from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.engine.diffusion.network_editor import NetworkEditor
from in2n_blender.engine.diffusion.sdxl_instruct_pix2pix import Words
from tests.engine.family_checks import INSTRUCTION, picture
from tests.engine.test_half_precision import FOLDERS

SIZE, CUDA = (64, 96), torch.device("cuda")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fake CUDA tensors need torch's CUDA build")


def on_the_gpu(thing):
    """A fake of whatever holds tensors, on the GPU."""
    if isinstance(thing, torch.Tensor):
        return torch.empty(thing.shape, dtype=thing.dtype, device=CUDA)
    if isinstance(thing, (tuple, list)):
        return type(thing)(on_the_gpu(part) for part in thing)
    if isinstance(thing, Words):
        return Words(on_the_gpu(thing.tokens), on_the_gpu(thing.pooled))
    return thing


def move(network: nn.Module) -> None:
    for module in network.modules():
        for name, weight in module._parameters.items():
            module._parameters[name] = None if weight is None else nn.Parameter(on_the_gpu(weight), False)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else on_the_gpu(buffer)


@pytest.mark.parametrize(
    "family", [family for family in FOLDERS if family != "CosXL-Edit"]
)  # reads its sigmas' numbers
def test_every_tensor_is_where_the_networks_are(tmp_path, monkeypatch, family):
    monkeypatch.setattr(NetworkEditor, "_dtype", lambda self: self.half)
    editor = load_editor(str(FOLDERS[family](tmp_path)), "cpu")
    editor.prepare(INSTRUCTION)
    editor.working_side, editor.most_pixels = 32, 48 * 64  # so that photos' detail comes back, too
    photo, now = picture(2, 1, *SIZE), torch.tensor([0.5] if hasattr(editor, "transformer") else [500])
    original, guidance = editor.encode_original(photo), (4.0, 1.5)
    assert original.photo is not None
    texts = editor._texts(original, guidance[0]) if editor.keeps_photos else None
    with FakeTensorMode(allow_non_fake_inputs=True):
        editor.device = CUDA
        for part in ("unet", "transformer", "vae"):
            if hasattr(editor, part):
                move(getattr(editor, part))
        if texts is None:
            editor._text = on_the_gpu(editor._text)
        else:
            monkeypatch.setattr(editor, "_texts", lambda *given: on_the_gpu(texts))
        latent = editor._sample_latent(torch.empty(1, 3, *SIZE), [noise_generator(0, 0, 0)])
        editor._set_schedule(latent.shape, 2)
        condition = editor._condition(
            OriginalLatent(on_the_gpu(original.latent), original.image_size, original.photo), guidance
        )
        prediction = editor._guided(latent, now, condition, guidance)
        edited = editor._decode_to_size(prediction, condition, SIZE)
        found = (latent, condition.latent, prediction, edited)
        assert all(tensor.device.type == "cuda" for tensor in found)
        assert prediction.shape == latent.shape and edited.shape == (1, 3, *SIZE)
        with pytest.raises(Exception, match="[Dd]evice"):
            editor._guided(latent.cpu(), now, condition, guidance)  # such a mistake is seen
