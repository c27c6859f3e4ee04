"""Edits that are limited to a region: `python -m tests.benchmarks.region WORKSPACE --region FILE --out DIR`.

Makes the same edit twice in a copy of a reconstructed workspace, everywhere and limited to the region, and writes to
DIR/result.json, bar by bar (name, value, bar, holds), from the held-out views:

- that nothing changes outside: PSNR of the limited edit against the unedited renders over pixels that showed nothing
  of the region (less than a hundredth of their colour came from it), and its mean change in 255ths;
- that inside the edit is as good as without the limit: PSNR of both against the exact editor's nearest answer, over the
  pixels whose colour comes from inside the region (a pixel that shows something of both is right when it is neither
  edit's). With another editor nobody knows the answer, and there is no such bar.

DIR/sheet.png shows the views: unedited, limited, everywhere, what of them lies in the region, and the change outside.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

from in2n_blender.engine.editing.methods import edit
from in2n_blender.engine.editing.regions import seen_inside
from in2n_blender.engine.evaluation.answers import load_exact
from in2n_blender.engine.measure import psnr
from in2n_blender.engine.nerf.dataset import camera_bundle
from in2n_blender.engine.nerf.regions import InsideTest
from in2n_blender.engine.nerf.rendering import render_rays
from in2n_blender.engine.nerf.scene import LocalScene, load_scene
from in2n_blender.engine.output.sheets import contact_sheet, spread
from in2n_blender.engine.photos import load_images, opaque
from in2n_blender.link.requests import Edit
from in2n_blender.models.exact import is_exact
from in2n_blender.scene.camera import Camera
from in2n_blender.scene.readers.regions import read_region
from in2n_blender.scene.reporting import Progress, Reporter
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace

KEPT_DB, MOST_CHANGE, INSIDE_DB = 45.0, 2.0, 0.5
NOTHING = 0.01  # of a pixel's colour, up to which it counts as showing nothing of the region
FULL = 0.99  # of a pixel's colour, from which on it counts as showing nothing else
SHEET_VIEWS = 6


def printing() -> Reporter:
    """A reporter that prints every fiftieth step."""

    def emit(event) -> None:
        if isinstance(event, Progress) and event.done % 50 == 0:
            print(f"{event.message} {event.done}/{event.total}", flush=True)

    return Reporter(emit)


@torch.no_grad()
def share_of_region(scene: LocalScene, camera: Camera) -> np.ndarray:
    """How much of each pixel's colour comes from within the region, of the unedited scene.

    Args:
        scene: The limited edit's.
        camera: In capture units.

    Returns:
        (height, width) in [0, 1].
    """
    ground, model = scene.ground, scene.ground.model
    found = []
    for rays in camera_bundle(camera, ground.transform, ground.device)[0].split(4096):

        def places(samples, rays=rays):
            middles = (samples.starts + samples.ends)[..., None] / 2
            return (rays.origins[:, None] + rays.directions[:, None] * middles).view(-1, 3)

        def field(samples):
            members = scene.inside.membership(places(samples))
            return ground.density_at(places(samples)), members[:, None].expand(-1, 3)

        proposal = lambda samples: ground.proposal_at(places(samples))
        found.append(render_rays(rays, model.settings, model.near, proposal, field).color[:, 0].cpu())
    return torch.cat(found).view(camera.intrinsics.height, camera.intrinsics.width).numpy()


def nearest_answer_db(renders: list[np.ndarray], answers: list[np.ndarray], masks: list[np.ndarray]) -> float:
    """PSNR over masked pixels to the answer that is nearest in all views together.

    Args:
        renders: (height, width, 3) sRGB a view.
        answers: (K, height, width, 3) a view.
        masks: (height, width) bool a view.
    """
    errors = [
        np.concatenate([(render[mask] - right[k][mask]) ** 2 for render, right, mask in zip(renders, answers, masks)])
        for k in range(len(answers[0]))
    ]
    return -10 * float(np.log10(min(error.mean() for error in errors)))


def measure(given) -> dict:
    """Both edits, and what they are held to.

    Args:
        given: The parsed line.

    Returns:
        {"bars": [{"name", "value", "bar", "holds"}], and what they are measured on}.
    """
    workspace = Workspace(given.out / "workspace")
    if not workspace.root.exists():
        keep = shutil.ignore_patterns("edits", "renders", "meshes", "previews", "earlier", "*.lock")
        shutil.copytree(given.workspace, workspace.root, ignore=keep)
    region = read_region(given.region, given.soft_edge)
    common = {"workspace": str(workspace.root), "instruction": given.instruction, "editor": given.model}
    common |= {"editing_method": given.method, "seed": given.seed, "preset": given.preset, "rounds": given.rounds}
    limits = {"region": str(given.region), "soft_edge": given.soft_edge}
    edit(Edit(name="everywhere", device=given.device, **common), printing())
    edit(Edit(name="limited", device=given.device, **common, **limits), printing())

    scenes = [load_scene(workspace, name, given.device) for name in (None, "limited", "everywhere")]
    capture, inside = scenes[0].capture, InsideTest(region, scenes[0].device)
    views = capture.held_out_views or capture.training_views[::8]
    seen = [[scene.render(view.camera) for view in views] for scene in scenes]
    before, limited, everywhere = ([view.rgb_srgb.numpy() for view in of_scene] for of_scene in seen)
    masks = [seen_inside(inside, view.camera, shown).numpy() for view, shown in zip(views, seen[0])]
    shares = [share_of_region(scenes[1], view.camera) for view in views]
    outside, within = [share < NOTHING for share in shares], [share >= FULL for share in shares]
    cut = lambda images, chosen: np.concatenate([image[where] for image, where in zip(images, chosen)])
    change = np.abs(cut(limited, outside) - cut(before, outside)).mean() * 255
    kept = psnr(cut(limited, outside), cut(before, outside))
    bars = [
        bar("background PSNR against the unedited renders (dB)", kept, KEPT_DB, kept >= KEPT_DB),
        bar("mean change outside (of 255)", change, MOST_CHANGE, change <= MOST_CHANGE),
    ]
    if is_exact(given.model):
        editor = load_exact(given.model, "cpu")
        photos = [torch.from_numpy(opaque(photo)).permute(2, 0, 1) for photo in load_images(workspace, capture, views)]
        answers = [editor.answers(photo).permute(0, 2, 3, 1).numpy() for photo in photos]
        value, unlimited = (nearest_answer_db(images, answers, within) for images in (limited, everywhere))
        bars.append(
            bar(
                "PSNR inside against the nearest answer (dB)",
                value,
                unlimited - INSIDE_DB,
                value >= unlimited - INSIDE_DB,
            )
        )
    sheet(given.out / "sheet.png", before, limited, everywhere, masks, shares)
    parts = {"outside": float(np.mean(np.concatenate(outside))), "inside": float(np.mean(np.concatenate(within)))}
    inside_change = np.abs(cut(limited, within) - cut(before, within)).mean() * 255
    return {"bars": bars, "parts": parts, "mean_change_inside": round(float(inside_change), 3), "views": len(views)}


def bar(name: str, value: float, wanted: float, holds: bool) -> dict:
    """One line of the result."""
    return {"name": name, "value": round(float(value), 3), "bar": round(float(wanted), 3), "holds": bool(holds)}


def sheet(path: Path, before, limited, everywhere, masks, shares) -> None:
    """Write the views: unedited, limited, everywhere, what of them is edited, and what changed outside, tenfold."""
    chosen = spread(len(before), SHEET_VIEWS)
    grey = lambda image: np.repeat(image[..., None], 3, -1).astype(np.float32)
    changes = [np.abs(a - b) * 10 * grey(share < NOTHING) for a, b, share in zip(limited, before, shares)]
    rows = [("unedited", before), ("limited to the region", limited), ("everywhere", everywhere)]
    rows += [("the region", [grey(mask) for mask in masks]), ("change outside, tenfold", changes)]
    contact_sheet([(label, [images[i].clip(0, 1) for i in chosen]) for label, images in rows]).save(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path, help="with a reconstruction; it is copied, not changed")
    parser.add_argument("--region", type=Path, required=True, metavar="FILE")
    parser.add_argument("--soft-edge", type=float, metavar="W")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--instruction", default="paint it")
    parser.add_argument("--model", default="exact:K=4,s=0.12")
    parser.add_argument("--method", default="agreement")
    parser.add_argument("--preset", default="draft")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    result = measure(given)
    write_json(given.out / "result.json", result)
    print(json.dumps(result, indent=1))
    return 0 if all(each["holds"] for each in result["bars"]) else 1


if __name__ == "__main__":
    sys.exit(main())
