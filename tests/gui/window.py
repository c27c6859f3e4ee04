"""A Blender with a window where there is no screen: a Debian chroot with Blender, Xvfb and a software OpenGL, and runs
in it.

The chroot takes about 1.2 GB and some minutes to make, once; it needs Linux, root and mmdebstrap or debootstrap. Each
run has a profile of its own, with this checkout's extension built and installed by Blender itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from in2n_blender.cli.extension import stage

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SUITES = {"sid": "Blender 5.2", "trixie": "Blender 4.3"}
PACKAGES = (
    "blender",
    "xvfb",
    "xauth",
    "libgl1-mesa-dri",
    "libegl1",
    "libgl1",
    "libegl-mesa0",
    "libglx-mesa0",
    "imagemagick",
    "python3-numpy",
    "python3-requests",
    "python3-cattr",
    "python3-zstandard",
    "ca-certificates",
)
PLAIN = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LIBGL_ALWAYS_SOFTWARE": "1",
    "GALLIUM_DRIVER": "llvmpipe",
}
FIRST_PROCESS = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
MAKE_SECONDS, RUN_SECONDS = 1800, 1200  # limits, not what they usually take
SIZE = (1280, 1400)  # of the screen, in pixels


class Unavailable(Exception):
    """Why there is no window here, in one sentence."""


@dataclass(frozen=True)
class Window:
    """A made chroot. root: its folder. Scripts and results are exchanged through its /share."""

    root: Path
    borrowed: tuple[Path, ...] = ()  # folders of this machine that are seen inside, at the same place

    @property
    def share(self) -> Path:
        return self.root / "share"

    def blender(
        self,
        arguments: list[str],
        env: dict[str, str] | None = None,
        screen: bool = False,
        seconds: int = RUN_SECONDS,
        size: tuple[int, int] = SIZE,
    ) -> subprocess.CompletedProcess:
        """Run the chroot's Blender; screen: in a window on a virtual screen. Its output comes back merged."""
        command = ["blender", *arguments]
        if screen:
            command = ["xvfb-run", "-a", "-s", f"-screen 0 {size[0]}x{size[1]}x24 +extension GLX", *command]
        # Blender and the worker read /proc; the namespaces take it, and every process, away again at the end. Python is
        # there to be the
        # first process: Xvfb does not tell the first process of a namespace that it is ready, and xvfb-run would wait
        # for ever.
        inside = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            f"--root={self.root}",
            "--wd=/",
            "--mount-proc",
            "python3",
            "-c",
            FIRST_PROCESS,
            *command,
        ]
        for folder in self.borrowed:
            (self.root / folder.relative_to("/")).mkdir(parents=True, exist_ok=True)
            lend = 'mount --rbind "$1" "$2" && shift 2 && exec "$@"'
            inside = [
                "unshare",
                "--mount",
                "sh",
                "-c",
                lend,
                "sh",
                str(folder),
                str(self.root / folder.relative_to("/")),
                *inside,
            ]
        return subprocess.run(
            inside,
            env={**PLAIN, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
        )

    def install_extension(self, profile: str) -> dict[str, str]:
        """Build and install this checkout's extension into a fresh profile; returns the environment that uses it."""
        shutil.rmtree(self.share / profile, ignore_errors=True)
        shutil.rmtree(self.share / "staged", ignore_errors=True)
        (self.share / profile).mkdir(parents=True)
        stage(ROOT, self.share / "staged", {})
        manifest = self.share / "staged" / "blender_manifest.toml"
        manifest.write_text(
            re.sub(r"(?m)^(platforms|wheels) = \[\]\n", "", manifest.read_text(encoding="utf-8")), encoding="utf-8"
        )
        env = {"BLENDER_USER_RESOURCES": f"/share/{profile}", "IN2N_HOME": f"/share/{profile}/home"}
        for arguments in (
            ["build", "--source-dir", "/share/staged", "--output-filepath", "/share/in2n.zip"],
            ["install-file", "-r", "user_default", "--enable", "/share/in2n.zip"],
        ):
            done = self.blender(["-b", "--command", "extension", *arguments], env)
            assert done.returncode == 0, done.stdout
        quiet = (
            "import bpy; v = bpy.context.preferences.view; v.show_splash = False; v.ui_scale = 0.85; "
            "bpy.ops.wm.save_userpref()"
        )
        self.blender(["-b", "--python-expr", quiet], env)
        return env

    def run(
        self,
        script: Path,
        env: dict[str, str],
        out: Path,
        seconds: int = RUN_SECONDS,
        size: tuple[int, int] = SIZE,
    ) -> str:
        """Run a script in a window and fetch the pictures it took; returns what was printed. Raises AssertionError when
        it failed."""
        scripts, shots = self.share / "gui", self.share / "shots"
        for folder in (scripts, shots):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(HERE, scripts, ignore=shutil.ignore_patterns("__pycache__"))
        for extra in (ROOT / "tests" / "blender" / "recorded_worker.py", script):
            shutil.copy2(extra, scripts)
        shots.mkdir()
        arguments = [
            "--window-geometry",
            "0",
            "0",
            str(size[0]),
            str(size[1]),
            "--no-window-focus",
            "--enable-event-simulate",
            "--python-exit-code",
            "3",
            "--python",
            f"/share/gui/{script.name}",
        ]
        out.mkdir(parents=True, exist_ok=True)
        try:
            done = self.blender(arguments, {**env, "SHOT_DIR": "/share/shots"}, True, seconds, size)
        finally:
            for shot in sorted(shots.iterdir()):
                shutil.copy2(shot, out)
        (out / f"{script.stem}.log").write_text(done.stdout, encoding="utf-8")
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout


def find_or_make(suite: str, folder: Path | None = None) -> Window:
    """The suite's chroot: the one in `folder` ($IN2N_GUI_CHROOT), or one in the cache folder, made now if need be.

    Raises Unavailable.
    """
    made = folder or _cache() / f"blender-{suite}"
    if not sys.platform.startswith("linux"):
        raise Unavailable("a chroot can only be made on Linux")
    if os.geteuid() != 0:
        raise Unavailable("making and entering a chroot needs root")
    if not shutil.which("unshare"):
        raise Unavailable("unshare (util-linux) is missing")
    if not (made / "usr/bin/blender").exists():
        if folder is not None:
            raise Unavailable(f"{folder} holds no Blender")
        _make(suite, made)
    (made / "share").mkdir(exist_ok=True)
    return Window(made)


def _cache() -> Path:
    return Path(
        os.environ.get("IN2N_GUI_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "in2n_blender" / "gui"
    )


def _make(suite: str, folder: Path) -> None:
    """Made under another name and renamed, so that a half-made one is never used."""
    mirror, unfinished = _mirror(), folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    if shutil.which("mmdebstrap"):
        command = [
            "mmdebstrap",
            "--mode=root",
            "--variant=apt",
            "--components=main",
            f"--include={','.join(PACKAGES)}",
            '--aptopt=APT::Install-Recommends "false"',
            '--aptopt=Acquire::Languages "none"',
            '--aptopt=Acquire::Check-Valid-Until "false"',
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=force-unsafe-io",
            suite,
            str(unfinished),
            mirror,
        ]
    elif shutil.which("debootstrap"):
        command = [
            "debootstrap",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            suite,
            str(unfinished),
            mirror,
        ]
    else:
        raise Unavailable("mmdebstrap or debootstrap is missing (apt-get install mmdebstrap)")
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=MAKE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"making the chroot took longer than {MAKE_SECONDS // 60} minutes") from None
    if done.returncode != 0:
        lines = [
            line for line in done.stdout.splitlines() if line.startswith(("E:", "W:"))
        ] or done.stdout.splitlines()[-1:]
        raise Unavailable(f"the chroot could not be made: {lines[0] if lines else 'no reason given'}")
    os.rename(unfinished, folder)


def _mirror() -> str:
    """Where this machine gets its own packages from. Raises Unavailable."""
    for file in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        if not file.exists():
            continue
        found = re.search(r"^(?:URIs:|deb(?: \[.*?\])?)\s+(\S+)", file.read_text(encoding="utf-8"), re.M)
        if found:
            return found.group(1)
    raise Unavailable("this machine has no Debian packages to take Blender from")
