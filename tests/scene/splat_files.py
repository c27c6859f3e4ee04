"""A small cloud of splats, written by hand as 3D Gaussian Splatting writes them."""

from pathlib import Path

import numpy as np

COEFFICIENTS = 8  # of f_rest a channel: degree 2


def columns_of(count: int = 40, seed: int = 0) -> dict[str, np.ndarray]:
    """Splats of all sizes, shapes and colours round the origin."""
    random = np.random.default_rng(seed)
    names = ["x", "y", "z", *(f"f_dc_{i}" for i in range(3)), *(f"f_rest_{i}" for i in range(3 * COEFFICIENTS))]
    columns = {name: random.normal(size=count) for name in names}
    columns["opacity"] = random.normal(size=count) * 2
    columns |= {f"scale_{i}": np.log(random.uniform(0.01, 0.2, count)) for i in range(3)}
    columns |= {f"rot_{i}": random.normal(size=count) for i in range(4)}
    return {name: values.astype(np.float32) for name, values in columns.items()}


def write_splats(file: Path, columns: dict[str, np.ndarray]) -> Path:
    table = np.stack(list(columns.values()), -1).astype("<f4")
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(table)}"]
    head += [*(f"property float {name}" for name in columns), "end_header", ""]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes("\n".join(head).encode() + table.tobytes())
    return file
