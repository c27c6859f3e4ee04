"""Inside a Blender with a window: a script is a generator, and every `yield seconds` lets Blender go on for that long.

Pictures are taken from the X server: Blender's own screenshot is black under a software OpenGL.
"""

import faulthandler
import os
import subprocess
import sys
import time
import traceback

import bpy

OUT = os.environ["SHOT_DIR"]
BEGUN = time.monotonic()
STUCK_SECONDS = 40


def log(*words):
    print(f"[{time.monotonic() - BEGUN:6.2f}]", *words, flush=True)


def drive(steps) -> None:
    """Run the generator; Blender ends with it, with exit code 1 when it raises."""

    def step():
        faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)  # says where Blender hangs, and ends it
        try:
            return next(steps)
        except StopIteration:
            log("done")
        except BaseException:  # an exception in a timer would not be noticed
            traceback.print_exc()
            log("failed")
            try:
                shot("failed")
            except Exception:
                pass
            sys.stdout.flush()
            os._exit(1)
        bpy.app.timers.register(end, first_interval=0.3, persistent=True)
        return None

    def end():
        sys.stdout.flush()
        bpy.ops.wm.quit_blender()
        os._exit(0)

    bpy.app.timers.register(step, first_interval=1.0, persistent=True)


def until(condition, seconds=30.0, what=""):
    """`yield from until(lambda: …)`. Raises AssertionError when it takes longer."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what or condition}"
        yield 0.1


def window():
    return bpy.context.window_manager.windows[0]


def view3d():
    """The 3D Viewport's area, its main region and its sidebar."""
    area = next(a for a in window().screen.areas if a.type == "VIEW_3D")
    return area, next(r for r in area.regions if r.type == "WINDOW"), next(r for r in area.regions if r.type == "UI")


def in_view():
    """A context like that of a button in the sidebar."""
    area, _main, sidebar = view3d()
    return bpy.context.temp_override(window=window(), area=area, region=sidebar)


def press(operator, **arguments):
    """What a click on the operator's button does."""
    with in_view():
        result = operator("INVOKE_DEFAULT", True, **arguments)
    log(operator.idname_py() if hasattr(operator, "idname_py") else operator, result)
    return result


def shot(name: str) -> None:
    """Take a picture of the whole screen. Raises AssertionError when it is black."""
    path = os.path.join(OUT, f"{name}.png")
    subprocess.run(["import", "-silent", "-window", "root", path], check=True)
    mean = float(
        subprocess.run(["identify", "-format", "%[fx:mean]", path], capture_output=True, text=True, check=True).stdout
    )
    log("shot", name, round(mean, 3))
    assert mean > 0.01, "a black picture"


def redraw() -> None:
    for each in bpy.context.window_manager.windows:
        for area in each.screen.areas:
            area.tag_redraw()


def show_tab(tab: str):
    """Open the sidebar at a tab. The sidebar has to be drawn once before it has tabs."""
    area, _main, _sidebar = view3d()
    area.spaces.active.show_region_ui = True
    for _ in range(30):
        area.tag_redraw()
        yield 0.3
        _area, _main, sidebar = view3d()
        try:
            sidebar.active_panel_category = tab
            break
        except (TypeError, AttributeError):
            continue
    else:
        raise AssertionError(f"the sidebar has no tab {tab}")
    area.tag_redraw()
    yield 0.3


def move_mouse(x: int, y: int):
    """Origin at the bottom left. Two moves and a pause, or the next press is lost."""
    window().event_simulate(type="MOUSEMOVE", value="NOTHING", x=int(x), y=int(y))
    yield 0.1
    window().event_simulate(type="MOUSEMOVE", value="NOTHING", x=int(x) + 2, y=int(y))
    yield 0.1


def click(x: int, y: int):
    yield from move_mouse(x, y)
    window().event_simulate(type="LEFTMOUSE", value="PRESS", x=int(x) + 2, y=int(y))
    window().event_simulate(type="LEFTMOUSE", value="RELEASE", x=int(x) + 2, y=int(y))
    yield 0.3


def click_text(text: str, which: int = 0, least: float = 0.9):
    """Click where the sidebar says `text`. which: of several places the how manieth from the top, -1 the lowest.

    Blender tells nobody where its buttons are: the text is drawn with Blender's own font and looked for in a picture of
    the screen.
    """
    for turns in (0, -40, 8, 8, 8):
        yield from scroll(turns)
        places = find_text(text, least)
        if places:
            break
    assert places, f"“{text}” is not to be seen"
    x, y, likeness = sorted(places, key=lambda place: -place[1])[which]
    log("click on", text, (x, y), round(likeness, 2), f"of {len(places)}")
    yield from click(x, y)


def scroll(turns: int):
    """Turn the mouse's wheel over the sidebar, down for positive numbers; draws it again in any case."""
    with in_view():
        for _ in range(abs(turns)):
            bpy.ops.view2d.scroll_down() if turns > 0 else bpy.ops.view2d.scroll_up()
    redraw()
    yield 0.6


def type_text(text: str):
    """Type into the field that is being edited, in place of what it held, and press Return."""
    for character in text:
        window().event_simulate(
            type="SPACE" if character == " " else character.upper(), value="PRESS", unicode=character
        )
        window().event_simulate(type="SPACE" if character == " " else character.upper(), value="RELEASE")
    yield 0.2
    yield from press_return()


def press_return():
    """Confirm what a dialog asks."""
    window().event_simulate(type="RET", value="PRESS")
    window().event_simulate(type="RET", value="RELEASE")
    yield 0.5


def find_text(text: str, least: float, whole: bool = False) -> list[tuple[int, int, float]]:
    """Where the sidebar, or the whole window, shows a text: (x, y) of its middle, origin at the bottom left, and the
    correlation in [least, 1]."""
    import numpy as np

    needle = _drawn(text)
    _area, _main, sidebar = view3d()
    screen = _screen()[::-1]  # bottom row first
    left, bottom = (0, 0) if whole else (sidebar.x, sidebar.y)
    picture = screen if whole else screen[bottom : bottom + sidebar.height, left : left + sidebar.width]
    height, width = needle.shape
    needle = needle - needle.mean()
    shape = picture.shape
    spectrum = np.fft.rfft2(picture)

    def correlate(kernel):
        return np.fft.irfft2(spectrum_of(kernel), shape)[: shape[0] - height + 1, : shape[1] - width + 1]

    def spectrum_of(kernel):
        return spectrum * np.conj(np.fft.rfft2(kernel, shape))

    box = np.ones_like(needle)
    mean = correlate(box) / box.size
    square = np.fft.irfft2(np.fft.rfft2(picture**2) * np.conj(np.fft.rfft2(box, shape)), shape)[
        : mean.shape[0], : mean.shape[1]
    ]
    spread = np.sqrt(np.maximum(square - box.size * mean**2, 1e-6)) * np.linalg.norm(needle)
    likeness = np.where(spread > 0.05, correlate(needle) / spread, 0)
    found = []
    while True:
        y, x = np.unravel_index(np.argmax(likeness), likeness.shape)
        best = float(likeness[y, x])
        if best < least:
            return found
        found.append((int(left + x + width // 2), int(bottom + y + height // 2), best))
        likeness[max(y - height, 0) : y + height, max(x - width // 2, 0) : x + width // 2 + 1] = 0


def _drawn(text: str):
    """The text as Blender's interface draws it: (height, width) in [0, 1], bottom row first."""
    import blf
    import gpu
    import numpy as np
    from mathutils import Matrix

    preferences = bpy.context.preferences
    points = preferences.ui_styles[0].widget.points * preferences.system.ui_scale
    blf.size(0, points)
    width, _height = blf.dimensions(0, text)
    width, height = int(width) + 1, int(points * 1.3)
    canvas = gpu.types.GPUOffScreen(width, height)
    try:
        with canvas.bind():
            framebuffer = gpu.state.active_framebuffer_get()
            framebuffer.clear(color=(0.0, 0.0, 0.0, 1.0))
            gpu.matrix.load_matrix(Matrix.Identity(4))
            gpu.matrix.load_projection_matrix(
                Matrix(((2 / width, 0, 0, -1), (0, 2 / height, 0, -1), (0, 0, -1, 0), (0, 0, 0, 1)))
            )
            blf.color(0, 1.0, 1.0, 1.0, 1.0)
            blf.position(0, 0, points * 0.3, 0)
            blf.draw(0, text)
            pixels = framebuffer.read_color(0, 0, width, height, 3, 0, "FLOAT")
    finally:
        canvas.free()
    pixels.dimensions = width * height * 3
    return np.array(pixels, np.float64).reshape(height, width, 3).mean(2)


def _screen():
    """What is on the screen now: (height, width) grey in [0, 1], top row first."""
    import numpy as np

    size = window().width, window().height
    grey = subprocess.run(
        [
            "import",
            "-silent",
            "-window",
            "root",
            "-crop",
            f"{size[0]}x{size[1]}+0+0",
            "-colorspace",
            "Gray",
            "-depth",
            "8",
            "gray:-",
        ],
        check=True,
        capture_output=True,
    ).stdout
    return np.frombuffer(grey, np.uint8).reshape(size[1], size[0]) / 255


def key(name: str, over="WINDOW", **modifiers):
    """Press a key with the mouse over a region of the 3D Viewport."""
    area, main, sidebar = view3d()
    region = main if over == "WINDOW" else sidebar
    x, y = region.x + region.width // 2, region.y + region.height // 2
    yield from move_mouse(x, y)
    window().event_simulate(type=name, value="PRESS", x=x + 2, y=y, **modifiers)
    window().event_simulate(type=name, value="RELEASE", x=x + 2, y=y, **modifiers)
    yield 0.3
