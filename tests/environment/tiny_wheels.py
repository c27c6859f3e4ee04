"""Packages small enough to be installed for real in a test."""

import base64
import hashlib
import zipfile
from pathlib import Path


def make_wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> Path:
    """A pure-Python wheel. files: path in it -> text."""
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text.encode())}"
        for path, text in files.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"])
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


def make_torch_pair(index: Path, stray: Path) -> None:
    """An index with a torch and a torchvision of one build, and a folder with a torch of the same version and another
    build, which that torchvision cannot load."""
    make_wheel(index / "torch", "torch", "1.0", {"torch/__init__.py": "build = 'index'\n"})
    refuse = "if torch.build != 'index': raise RuntimeError('operator torchvision::nms does not exist')\n"
    make_wheel(index / "torchvision", "torchvision", "1.0", {"torchvision/__init__.py": f"import torch\n{refuse}"})
    make_wheel(stray, "torch", "1.0+cpu", {"torch/__init__.py": "build = 'stray'\n"})
    make_index(index)


def make_index(folder: Path) -> None:
    """The pages of an index whose packages lie in folders of their own."""
    for package in folder.iterdir():
        links = "".join(f'<a href="{wheel.name}">{wheel.name}</a>' for wheel in package.glob("*.whl"))
        package.joinpath("index.html").write_text(links)
