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
    mean = float(subprocess.run(["identify", "-format", "%[fx:mean]", path], capture_output=True, text=True, check=True).stdout)
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


def key(name: str, over="WINDOW", **modifiers):
    """Press a key with the mouse over a region of the 3D Viewport."""
    area, main, sidebar = view3d()
    region = main if over == "WINDOW" else sidebar
    x, y = region.x + region.width // 2, region.y + region.height // 2
    yield from move_mouse(x, y)
    window().event_simulate(type=name, value="PRESS", x=x + 2, y=y, **modifiers)
    window().event_simulate(type=name, value="RELEASE", x=x + 2, y=y, **modifiers)
    yield 0.3
