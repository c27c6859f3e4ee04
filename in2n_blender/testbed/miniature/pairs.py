"""Training pairs: rendered scenes from the cache, photographs, and random pictures, in batches of one instruction
mix."""

import json
import math
import subprocess
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image
from torch.nn import functional

from ...engine.diffusion.miniature.operations import OPERATIONS
from ...link.process import PACKAGE_PARENT, blender_command
from ...models.model import Instruction
from .instructions import INSTRUCTIONS
from .settings import TrainingConfig

RENDER_MODULE = "in2n_blender.testbed.scenes.render_pairs"
HELD_OUT_FIRST = 100_000
SHAPE = "shape"  # as in render_pairs.py, which only Blender can import
PHOTOGRAPHS = ("astronaut", "brick", "chelsea", "coffee", "grass", "gravel", "motorcycle_left", "rocket")
# Rendered edits are harder to learn than functions of the picture: they are drawn more often.
INSTRUCTION_SHARE = {"snow": 12.0, "sunset": 8.0, "autumn": 2.0, "black and white": 1.3}


@dataclass
class Batch:
    """Pairs to learn from.

    Attributes:
        originals: (batch, 3, size, size) float32, sRGB in [0, 1].
        edits: The same shape, each original's edit.
        texts: The instruction of each.
        shapes: The same shape as the originals, in [0, 1]: how much snow lies on what is seen, how far up it looks, how
            near it is (`render_pairs.shape_material`). Zero where it is not known.
        shape_known: (batch,) bool.
    """

    originals: torch.Tensor
    edits: torch.Tensor
    texts: list[str]
    shapes: torch.Tensor
    shape_known: torch.Tensor


def start_rendering(
    cache: Path,
    first: int,
    scenes: int,
    photographs: Path | None = None,
    python: str = sys.executable,
    threads: int = 1,
) -> subprocess.Popen:
    """Start rendering scenes into a cache; what the renderer prints goes to render.log there.

    Args:
        cache: The folder of the rendered pairs, made where it is missing.
        first: The number of the first scene.
        scenes: How many there are to be.
        photographs: A folder of pictures that textures may show.
        python: A Python that can import bpy, or the program `blender` itself.
        threads: Of the renderer.

    Returns:
        The renderer's process.
    """
    cache.mkdir(parents=True, exist_ok=True)
    arguments = ["--cache", str(cache), "--first", str(first), "--scenes", str(scenes), "--threads", str(threads)]
    arguments += ["--photographs", str(photographs)] if photographs else []
    with open(cache / "render.log", "ab") as log:
        return subprocess.Popen(
            blender_command(python, RENDER_MODULE, arguments),
            cwd=PACKAGE_PARENT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def write_photographs(folder: Path, longest_side: int = 512) -> Path:
    """Write the photographs inside scikit-image's wheel as PNG files; nothing is downloaded.

    Args:
        folder: Where they go, made where it is missing; files that are there are kept.
        longest_side: In pixels; larger photographs are scaled down.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(skimage.data.__file__).parent
    for name in PHOTOGRAPHS:
        for path in source.glob(f"{name}.*"):
            if path.suffix in (".png", ".jpg") and not (folder / f"{name}.png").exists():
                picture = Image.open(path).convert("RGB")
                picture.thumbnail((longest_side, longest_side), Image.LANCZOS)
                picture.save(folder / f"{name}.png")
    return folder


class RenderedPairs:
    """The rendered views of a cache in memory as uint8, each (edits, 3, size, size): original first.

    Args:
        cache: The folder of the rendered pairs.
        held_out: Whether the scenes from HELD_OUT_FIRST on are read, else those before.

    `shapes` has for each view (3, size, size) uint8, or None where the cache was made without.
    """

    def __init__(self, cache: Path, held_out: bool = False):
        self.cache, self.held_out = cache, held_out
        self.edits: list[str] = []
        self.views: list[torch.Tensor] = []
        self.shapes: list[torch.Tensor | None] = []
        self._seen: set[str] = set()
        self.refresh()

    def refresh(self) -> int:
        """Read what was rendered since the last call; returns the number of views."""
        index_path = self.cache / "index.json"
        if not index_path.exists():
            return 0
        index = json.loads(index_path.read_text(encoding="utf-8"))
        self.edits = index["edits"]
        for scene, rows in sorted(index["scenes"].items(), key=lambda item: int(item[0])):
            if scene in self._seen or (int(scene) >= HELD_OUT_FIRST) != self.held_out:
                continue
            self._seen.add(scene)
            for row in rows:
                self.views.append(torch.stack([self._read(row[edit]) for edit in self.edits]))
                self.shapes.append(self._read(row[SHAPE]) if SHAPE in row else None)
        return len(self.views)

    def _read(self, name: str) -> torch.Tensor:
        picture = np.array(Image.open(self.cache / name).convert("RGB"))
        return torch.from_numpy(picture).permute(2, 0, 1).contiguous()

    def pair(self, view: int, edit: str) -> torch.Tensor:
        """A view and its true edit.

        Args:
            view: Its number.
            edit: One of `edits`.

        Returns:
            (2, 3, size, size) float32, sRGB in [0, 1]: the original, then the edit.
        """
        pictures = self.views[view]
        return pictures[[0, self.edits.index(edit)]].float() / 255


def true_edit(rendered: RenderedPairs, view: int, instruction: Instruction) -> torch.Tensor:
    """The right answer to an instruction for one view.

    Args:
        rendered: The rendered views.
        view: The view's number.
        instruction: What is asked for: a rendered edit, or a function of the picture.

    Returns:
        (3, size, size) float32, sRGB in [0, 1].
    """
    if instruction.rendered:
        return rendered.pair(view, instruction.name)[1]
    return OPERATIONS[instruction.name](rendered.views[view][:1].float() / 255)[0]


class PairSampler:
    """Draws training batches: every instruction, every kind of picture, random crops, flips, scales and tones.

    Args:
        rendered: The rendered views.
        photographs: (3, height, width) uint8 sRGB each.
        seed: Of the random numbers.
    """

    def __init__(self, rendered: RenderedPairs, photographs: list[torch.Tensor], seed: int):
        self.rendered, self.photographs = rendered, photographs
        self.random = np.random.default_rng(seed)
        self.share = np.array([INSTRUCTION_SHARE.get(instruction.name, 1.0) for instruction in INSTRUCTIONS])
        self.share /= self.share.sum()

    def spawn(self, count: int) -> list["PairSampler"]:
        """Samplers over the same pictures, each with random numbers of its own.

        Args:
            count: How many.
        """
        return [PairSampler(self.rendered, self.photographs, seed) for seed in self.random.integers(2**31, size=count)]

    def batch(self, count: int, size: int) -> Batch:
        """Draw pairs, each with one of its instruction's paraphrases.

        Args:
            count: How many.
            size: Pixels a side.
        """
        parts, texts = [], []
        drawn = sorted(self.random.choice(len(INSTRUCTIONS), size=count, p=self.share))
        for number in dict.fromkeys(drawn):
            instruction, times = INSTRUCTIONS[number], drawn.count(number)
            parts.append(self._rendered(instruction.name, times, size) if instruction.rendered else None)
            if parts[-1] is None:
                pictures = self._tone(torch.stack([self._picture(size) for _ in range(times)]), strength=1.0)
                edited = OPERATIONS[instruction.name](pictures)
                parts[-1] = pictures, edited, torch.zeros_like(pictures), torch.zeros(times, dtype=torch.bool)
            texts += [self._phrase(instruction) for _ in range(times)]
        originals, edits, shapes, known = (torch.cat(kind) for kind in zip(*parts))
        return Batch(originals, edits, texts, shapes, known)

    def _rendered(self, edit: str, count: int, size: int) -> tuple[torch.Tensor, ...]:
        """Originals, edits, shapes and whether the shapes are known, `count` of each."""
        crops, known = [], []
        for view in self.random.integers(len(self.rendered.views), size=count):
            shape = self.rendered.shapes[view]
            known.append(shape is not None)
            shape = torch.zeros_like(self.rendered.views[view][0]) if shape is None else shape
            pictures = torch.cat([self.rendered.pair(view, edit), shape[None].float() / 255])
            crops.append(self._crop(pictures, size))
        stacked = torch.stack(crops)
        pairs = self._tone(stacked[:, :2], strength=0.5)
        return pairs[:, 0], pairs[:, 1], stacked[:, 2], torch.tensor(known)

    def _phrase(self, instruction: Instruction) -> str:
        phrase = instruction.phrases[self.random.integers(len(instruction.phrases))]
        return phrase + ("." if self.random.random() < 0.1 else "!" if self.random.random() < 0.05 else "")

    def _picture(self, size: int) -> torch.Tensor:
        kind = self.random.random()
        if kind < 0.5 and self.rendered.views:
            view = self.rendered.views[int(self.random.integers(len(self.rendered.views)))]
            # Edited renders are pictures like any other.
            which = int(self.random.choice(len(view), p=[0.6] + [0.4 / (len(view) - 1)] * (len(view) - 1)))
            return self._crop(view[which : which + 1].float() / 255, size)[0]
        if kind < 0.8 and self.photographs:
            photograph = self.photographs[int(self.random.integers(len(self.photographs)))]
            return self._crop(photograph[None].float() / 255, size)[0]
        return self._shapes(size)

    def _crop(self, pictures: torch.Tensor, size: int) -> torch.Tensor:
        """One random crop, scale and flip for all `pictures` (n, 3, h, w)."""
        height, width = pictures.shape[-2:]
        side = size if self.random.random() < 0.4 else int(self.random.integers(size, min(height, width, 4 * size) + 1))
        side = min(side, height, width)
        top, left = self.random.integers(height - side + 1), self.random.integers(width - side + 1)
        pictures = pictures[..., top : top + side, left : left + side]
        if side != size:
            pictures = functional.interpolate(
                pictures, size=(size, size), mode="bilinear", antialias=True, align_corners=False
            )
        return pictures.flip(-1) if self.random.random() < 0.5 else pictures

    def _tone(self, pictures: torch.Tensor, strength: float) -> torch.Tensor:
        """Random gamma, exposure and white balance, one of each for every item of the batch."""
        shape = (len(pictures),) + (1,) * (pictures.dim() - 1)
        gamma = self._tensor(np.exp(self.random.normal(0, 0.25 * strength, shape)))
        gain = self._tensor(np.exp(self.random.normal(0, 0.12 * strength, shape)))
        balance_shape = (len(pictures),) + (1,) * (pictures.dim() - 4) + (3, 1, 1)
        balance = self._tensor(np.exp(self.random.normal(0, 0.10 * strength, balance_shape)))
        return (pictures.clamp(0, 1) ** gamma * gain * balance).clamp(0, 1)

    def _shapes(self, size: int) -> torch.Tensor:
        """A random picture of overlapping gradients and shapes with soft noise, (3, size, size)."""
        rows, columns = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
        picture = self._gradient(rows, columns)
        for _ in range(int(self.random.integers(1, 9))):
            angle, x, y = self.random.uniform(0, math.pi), *self.random.uniform(-1, 1, 2)
            along = (columns - x) * math.cos(angle) + (rows - y) * math.sin(angle)
            across = (rows - y) * math.cos(angle) - (columns - x) * math.sin(angle)
            width, height = self.random.uniform(0.05, 0.8, 2)
            if self.random.random() < 0.5:
                inside = ((along / width) ** 2 + (across / height) ** 2) < 1
            else:
                inside = (along.abs() < width) & (across.abs() < height)
            picture = torch.where(inside, self._gradient(rows, columns), picture)
        coarse = self._tensor(self.random.normal(0, self.random.uniform(0, 0.1), (1, 3, size // 2, size // 2)))
        return (picture + functional.interpolate(coarse, size=(size, size), mode="bilinear")[0]).clamp(0, 1)

    def _gradient(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        colour, slope_x, slope_y = self.random.random(3), self.random.normal(0, 0.12), self.random.normal(0, 0.12)
        if self.random.random() < 0.3:
            colour = np.full(3, colour.mean()) + self.random.normal(0, 0.03, 3)
        return self._tensor(colour)[:, None, None] + slope_x * columns + slope_y * rows

    @staticmethod
    def _tensor(values) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.float32))


def load_photographs(folder: Path) -> list[torch.Tensor]:
    """A folder's PNG pictures, each at its full size, at a half and at a third of it.

    Args:
        folder: Where they lie.

    Returns:
        (3, height, width) uint8 sRGB each; without those of less than 128 pixels a side.
    """
    pictures = []
    for path in sorted(folder.glob("*.png")):
        picture = Image.open(path).convert("RGB")
        for divisor in (1, 2, 3):
            small = picture.resize((picture.width // divisor, picture.height // divisor), Image.LANCZOS)
            pictures.append(torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous())
    return [picture for picture in pictures if min(picture.shape[-2:]) >= 128]


class BatchSource:
    """Training batches of both sizes, prepared on demand or, for a fast device, by threads ahead of it.

    A batch of the large size holds as many pixels as one of the small size.

    Args:
        sampler: Draws the batches.
        config: Gives the sizes, and the share of the large one.
        threads: How many prepare batches; 0: they are drawn on demand.
    """

    def __init__(self, sampler: PairSampler, config: TrainingConfig, threads: int):
        self.config = config
        self._sampler = sampler
        self._pool = ThreadPoolExecutor(threads) if threads else None
        self._ahead = deque((each, self._pool.submit(self._draw, each)) for each in sampler.spawn(threads))

    def __enter__(self) -> "BatchSource":
        return self

    def __exit__(self, *_) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def next(self) -> Batch:
        """The next batch, waited for where it is not ready."""
        if not self._ahead:
            return self._draw(self._sampler)
        sampler, future = self._ahead.popleft()
        batch = future.result()
        self._ahead.append((sampler, self._pool.submit(self._draw, sampler)))
        return batch

    def _draw(self, sampler: PairSampler) -> Batch:
        config = self.config
        size = config.large_size if sampler.random.random() < config.large_share else config.size
        return sampler.batch(max(1, config.batch * config.size**2 // size**2), size)
