"""What the comparison found: bars, table, plots and sheet."""

from __future__ import annotations

import math
from functools import cache, lru_cache
from pathlib import Path

import matplotlib
import numpy as np

from in2n_blender.engine.measure import psnr
from in2n_blender.engine.output.sheets import contact_sheet
from in2n_blender.engine.photos import Photos
from in2n_blender.workspace.files import atomic_path, write_json
from in2n_blender.workspace.layout import Workspace

matplotlib.use("agg")
from matplotlib import pyplot, ticker

SHEET_VIEWS = 2
DEPTH_RANGE = (1, 99)  # percentiles of disparity that the depth maps' colours span


def runs(compared) -> list[tuple[str, dict]]:
    """(who, result) of everything that was trained on a capture but for the tuning."""
    own = [(f"this engine, {preset}", result) for preset, result in compared.engine.items()]
    return own + [
        (f"nerfacto, {variant}", result)
        for variant, result in compared.nerfacto.items()
        if not variant.startswith("tuning")
    ]


def curve(compared, result: dict) -> list[tuple[float, float]]:
    """[(seconds of training, mean PSNR of the held-out views in dB)], by the metric that the engine's own evaluation
    uses."""
    folder = Path(result["folder"])
    return [
        (point["seconds"], _mean_psnr(str(compared.workspace), str(folder / point["file"])))
        for point in result["points"]
    ]


@cache
def _mean_psnr(workspace: str, file: str) -> float:
    truths = _photos(workspace)
    return float(
        np.mean([psnr(np.clip(kinds["rgb"], 0, 1), truths[view]) for view, kinds in rendered(Path(file)).items()])
    )


@lru_cache(maxsize=4)
def _photos(workspace: str) -> dict[str, np.ndarray]:
    """The held-out photos by name, over white where they have alpha."""
    from in2n_blender.scene.capture import PinholeCapture

    views = PinholeCapture.load(Workspace(workspace).capture_json).held_out_views
    opaque = lambda image: image if image.shape[-1] == 3 else image[..., :3] * image[..., 3:] + 1 - image[..., 3:]
    return {view.name: opaque(image) for view, image in zip(views, Photos(Workspace(workspace), views))}


def rendered(file: Path) -> dict[str, dict[str, np.ndarray]]:
    """{view: {"rgb", "depth"}} of one evaluation."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(file, allow_pickle=False) as arrays:
        for key in arrays.files:
            view, kind = key.rsplit("/", 1)
            found.setdefault(view, {})[kind] = arrays[key]
    return found


# --- bars -----------------------------------------------------------------------------------------------------------


def bars(everything: list, growth: list[dict], device: str, seconds: float, quick: bool) -> list[dict]:
    """Every bar: {"name", "value", "bar", "holds"}; value and holds are None where it was not measured, and "note" says
    why."""
    first, found = everything[0], []
    gpu = device == "cuda"
    preset = "draft" if quick else "standard"
    found.append(_time_bar(first, seconds, quick))
    own, peer = first.engine.get(preset), list(first.nerfacto.values())
    why = "nerfacto was not run" if not peer else "the engine's run did not finish"
    for name, value, bar in (
        ("training rays a second, times nerfacto's best", lambda r: r["rays_per_second"], 5),
        ("rendering rays a second, times nerfacto's best", render_rays, 20),
    ):
        ratio = value(own) / max(value(r) for r in peer) if own and peer else None
        found.append(_at_least(f"{name}, {first.name}, {preset} preset", ratio, bar, why))
    for compared in everything:
        best, mine = compared.nerfacto.get(compared.best), compared.engine.get(preset)
        gain = curve(compared, mine)[-1][1] - curve(compared, best)[-1][1] if best and mine else None
        found.append(
            _at_least(f"held-out PSNR above nerfacto's in dB, {compared.name}, {preset} preset", gain, 0.5, why)
        )
    memory = [c.engine["standard"]["peak_memory_mb"] for c in everything if "standard" in c.engine] if not gpu else []
    found.append(
        _at_most(
            "peak memory of a standard reconstruction in MiB",
            max(memory, default=None),
            2048,
            "no standard preset on a CPU was run",
        )
    )
    found += _growth_bars(growth)
    found += _gpu_bars(first, gpu, preset)
    return found


def _time_bar(first, seconds: float, quick: bool) -> dict:
    """The quicker preset's time to what nerfacto has after `seconds`, over that time; an upper bound, the next
    evaluation's time."""
    name = f"time to nerfacto's PSNR after {seconds / 60:.0f} minutes, as a share of it, {first.name}"
    best = first.nerfacto.get(first.best)
    if quick or best is None:
        return _at_most(name, None, 0.125, "left out by --quick" if quick else "nerfacto was not run")
    at, target = min((point for point in curve(first, best)), key=lambda point: abs(point[0] - seconds))
    times = [t for t in (time_to(curve(first, result), target) for result in first.engine.values()) if t is not None]
    if not times:
        return {"name": name, "value": None, "bar": 0.125, "holds": False, "note": f"{target:.2f} dB was not reached"}
    return {**_at_most(name, min(times) / at, 0.125, ""), "note": f"{target:.2f} dB after {min(times):.0f} s"}


def time_to(points: list[tuple[float, float]], target: float) -> float | None:
    """Seconds of the first evaluation at or above a PSNR."""
    return next((seconds for seconds, value in points if value >= target), None)


def render_rays(result: dict) -> float:
    """The most rays a second that any of a run's evaluations rendered."""
    return max((point["render_rays_per_second"] or 0 for point in result["points"]), default=0)


def _growth_bars(growth: list[dict]) -> list[dict]:
    names = (
        "training rays a second with the most images over the fewest",
        "memory an added image takes, over its 8-bit pixels",
    )
    by_count = sorted((g for g in growth if g["side"] == _usual_side(growth)), key=lambda g: g["images"])
    if len(by_count) < 2:
        return [
            _at_least(names[0], None, 0.9, "growth was not measured"),
            _at_most(names[1], None, 2, "growth was not measured"),
        ]
    few, many = by_count[0], by_count[-1]
    return [
        _at_least(names[0], many["rays_per_second"] / few["rays_per_second"], 0.9, ""),
        _at_most(
            names[1], (many["peak_memory_mb"] - few["peak_memory_mb"]) / (many["pixels_mb"] - few["pixels_mb"]), 2, ""
        ),
    ]


def _usual_side(growth: list[dict]) -> int | None:
    sides = [g["side"] for g in growth]
    return max(set(sides), key=sides.count) if sides else None


def _gpu_bars(first, gpu: bool, preset: str) -> list[dict]:
    result = first.engine.get(preset) if gpu else None
    why = "no CUDA device was used"
    reached = time_to(curve(first, result), 28) if result else None
    share = result.get("bandwidth_share") if result else None
    return [
        {
            **_at_most(
                f"seconds to 28 dB on a GPU, {first.name}", reached, 30, "28 dB was not reached" if result else why
            ),
            **({"holds": False} if result and reached is None else {}),
        },
        _at_least(
            f"training rays a second on a GPU, {first.name}", result["rays_per_second"] if result else None, 1e6, why
        ),
        {
            "name": "share of the memory bandwidth that the grids' reads and writes would take, uncached",
            "value": share,
            "bar": None,
            "holds": None,
            **({} if share else {"note": why}),
        },
    ]


def _at_least(name: str, value: float | None, bar: float, why_not: str) -> dict:
    return _bar(name, value, bar, value is not None and value >= bar, why_not)


def _at_most(name: str, value: float | None, bar: float, why_not: str) -> dict:
    return _bar(name, value, bar, value is not None and value <= bar, why_not)


def _bar(name: str, value: float | None, bar: float, holds: bool, why_not: str) -> dict:
    if value is None:
        return {"name": name, "value": None, "bar": bar, "holds": None, "note": f"not measured: {why_not}"}
    return {"name": name, "value": round(float(value), 4), "bar": bar, "holds": holds}


# --- files ----------------------------------------------------------------------------------------------------------


def write_report(out: Path, everything: list, growth: list[dict], found: list[dict], notes: list[str]) -> None:
    """result.json, table.md, and the pictures of what there is so far."""
    rows = [row(compared, who, result) for compared in everything for who, result in runs(compared)]
    curves = {
        compared.name: {
            who: [(round(s, 1), round(p, 3)) for s, p in curve(compared, result)] for who, result in runs(compared)
        }
        for compared in everything
    }
    write_json(out / "result.json", {"bars": found, "rows": rows, "curves": curves, "growth": growth, "notes": notes})
    with atomic_path(out / "table.md") as temporary:
        temporary.write_text(table(rows, found, notes), encoding="utf-8")
    shown = [compared for compared in everything if runs(compared)]
    if shown:
        plot_curves(
            out / "psnr_against_time.png", [c for c in shown if all(result.get("alone", True) for _, result in runs(c))]
        )
        write_sheet(out / "sheet.png", shown)
    if growth:
        plot_growth(out / "growth.png", growth)


def row(compared, who: str, result: dict) -> dict:
    """What a run was like; its times are None where others ran beside it."""
    k = compared.capture.views[0].camera.intrinsics
    timed = result.get("alone", True)
    return {
        "capture": compared.name,
        "size": f"{k.width}x{k.height}",
        "images": len(compared.capture.training_views),
        "method": who,
        "seconds": result["seconds"] if timed else None,
        "steps": result["steps"],
        "psnr_db": round(curve(compared, result)[-1][1], 2),
        "training_rays_per_second": result["rays_per_second"] if timed else None,
        "rendering_rays_per_second": render_rays(result) if timed else None,
        "peak_memory_mb": result["peak_memory_mb"],
    }


def table(rows: list[dict], found: list[dict], notes: list[str]) -> str:
    lines = [
        (
            "| capture | size | images | method | seconds | steps | training rays/s | rendering rays/s | held-out "
            "PSNR (dB) | peak memory (MiB) |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    number = lambda value: "–" if value is None else f"{value:,.0f}"
    for r in rows:
        lines.append(
            f"| {r['capture']} | {r['size']} | {r['images']} | {r['method']} | {number(r['seconds'])} | "
            f"{number(r['steps'])} | "
            f"{number(r['training_rays_per_second'])} | {number(r['rendering_rays_per_second'])} | "
            f"{r['psnr_db']:.2f} | {number(r['peak_memory_mb'])} |"
        )
    lines += ["", "| bar | value | wanted | holds |", "|---|---|---|---|"]
    said = {True: "yes", False: "no", None: "–"}
    for bar in found:
        value = (
            bar.get("note", "–")
            if bar["value"] is None
            else f"{bar['value']:.4g}" + (f" ({bar['note']})" if "note" in bar else "")
        )
        lines.append(
            f"| {bar['name']} | {value} | {'–' if bar['bar'] is None else format(bar['bar'], 'g')} | "
            f"{said[bar['holds']]} |"
        )
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])


def plot_curves(path: Path, everything: list) -> None:
    """Held-out PSNR against seconds of training, a panel a capture."""
    columns = min(3, len(everything))
    figure, panels = _panels(columns, math.ceil(len(everything) / columns))
    for panel, compared in zip(panels, everything):
        for who, result in runs(compared):
            points = curve(compared, result)
            panel.plot(*zip(*points), marker=".", label=who, linestyle="-" if who.startswith("this") else "--")
        panel.set(title=compared.name, xlabel="seconds of training", ylabel="held-out PSNR (dB)", xscale="log")
        panel.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(ticker.NullFormatter())
        panel.grid(alpha=0.3, which="both")
        panel.legend(fontsize=8)
    for panel in panels[len(everything) :]:
        panel.set_axis_off()
    _save(figure, path)


def plot_growth(path: Path, growth: list[dict]) -> None:
    """Rays a second and memory, against image count and against resolution."""
    side = _usual_side(growth)
    by_count = sorted((g for g in growth if g["side"] == side), key=lambda g: g["images"])
    counts = [g["images"] for g in growth]
    by_side = sorted((g for g in growth if g["images"] == max(set(counts), key=counts.count)), key=lambda g: g["side"])
    figure, panels = _panels(2, 2)
    for column, (points, key, label) in enumerate(
        ((by_count, "images", f"images of {side} pixels"), (by_side, "side", "longest side in pixels"))
    ):
        for line, (value, unit) in enumerate(
            (("rays_per_second", "training rays a second"), ("peak_memory_mb", "peak memory (MiB)"))
        ):
            panel = panels[2 * line + column]
            panel.plot([p[key] for p in points], [p[value] for p in points], marker="o")
            panel.set(xlabel=label, ylabel=unit, ylim=(0, 1.2 * max((p[value] for p in points), default=1)))
            panel.grid(alpha=0.3)
    _save(figure, path)


def _panels(columns: int, lines: int):
    figure, panels = pyplot.subplots(lines, columns, figsize=(5.5 * columns, 4 * lines), squeeze=False)
    return figure, list(panels.flat)


def _save(figure, path: Path) -> None:
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)


def write_sheet(path: Path, everything: list) -> None:
    """Held-out views: the photo, and what either side makes of it, as picture and as depth (near is bright)."""
    rows = []
    for compared in everything:
        sides = [
            ("this engine", compared.engine.get("standard") or compared.engine.get("draft")),
            ("nerfacto", compared.nerfacto.get(compared.best)),
        ]
        shown = [(who, rendered(Path(r["folder"]) / r["points"][-1]["file"])) for who, r in sides if r]
        common = [
            name for name in _photos(str(compared.workspace)) if shown and all(name in views for _, views in shown)
        ]
        for name in common[:: max(1, len(common) // SHEET_VIEWS)][:SHEET_VIEWS]:
            pictures = [_photos(str(compared.workspace))[name]]
            pictures += [views[name]["rgb"].clip(0, 1) for _, views in shown]
            pictures += [depth_picture(views[name]["depth"]) for _, views in shown]
            whose = " | ".join(who for who, _ in shown)
            rows.append((f"{compared.name}, {name}: photo | {whose} | depth: {whose}", pictures))
    if rows:
        with atomic_path(path) as temporary:
            contact_sheet(rows).save(temporary)


def depth_picture(depth: np.ndarray) -> np.ndarray:
    """(height, width) depth in any unit -> (height, width, 3), disparity coloured by its own range."""
    disparity = 1 / np.maximum(depth, 1e-6)
    low, high = np.percentile(disparity, DEPTH_RANGE)
    return matplotlib.colormaps["inferno"](np.clip((disparity - low) / max(high - low, 1e-9), 0, 1))[..., :3].astype(
        np.float32
    )
