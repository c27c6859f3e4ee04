"""Runs in a Blender with a window: an artist's day, from an empty file to an edit, with the engine's part recorded.

Every state of the sidebar and the engine's page is photographed. CAPTURE: the folder of a capture.
"""

import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, os.path.dirname(__file__))

import bpy
import numpy as np
from acting import (
    CAPTURE,
    PACKAGE,
    answers,
    asked,
    begin_reconstruction,
    close_other_windows,
    finish_reconstruction,
    jobs,
    module,
    name_a_python,
    photos,
    pictures,
    preview_record,
    progress,
    record_the_engine,
    scene,
    settled,
    snowy,
    start,
    status,
)
from driver import (
    click_text,
    drive,
    in_view,
    key,
    press,
    press_return,
    redraw,
    scroll,
    shot,
    show_tab,
    type_text,
    until,
    view3d,
)
from mathutils import Vector

PLY = """ply
format ascii 1.0
element vertex 3
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
element face 1
property list uchar int vertex_indices
end_header
0.25 0 0 255 0 0
1 0.5 0 0 255 0
0 1 2 0 0 128
3 0 1 2
"""


# --- the day


def day():
    record_the_engine()
    for thing in list(bpy.data.objects):
        bpy.data.objects.remove(thing)
    yield from show_tab("IN2N")
    yield from pictures("01-start-without-engine")
    yield from engine_page("02-engine-page-not-installed")
    name_a_python()
    yield from import_capture()
    yield from reconstruct()
    yield from preview()
    yield from edit()
    yield from results()
    yield from outdated()
    yield from crash_and_log()
    yield from save_and_reopen()
    answers(
        devices={
            "result": {
                "devices": [
                    {"device": "cuda", "name": "A GPU", "memory_gb": 24.0},
                    {"device": "cpu", "name": "A processor, 8 threads", "memory_gb": None},
                ]
            }
        }
    )
    press(bpy.ops.in2n.find_devices)
    yield from settled("finding devices")
    yield from engine_page("15-engine-page-another-python")


def import_capture():
    bpy.ops.ed.undo_push(message="before the import")
    yield from click_text("Import Capture…")
    yield 0.5
    browser = bpy.context.window_manager.windows[-1]
    files = browser.screen.areas[0].spaces.active
    yield from until(lambda: files.params is not None, what="the file browser")
    files.params.directory, files.params.filename = f"{CAPTURE}/".encode(), "transforms.json"
    shot("02c-file-browser")
    with bpy.context.temp_override(window=browser, area=browser.screen.areas[0]):
        bpy.ops.file.execute()
    yield 1.0
    objects = len(bpy.data.objects)
    assert scene().in2n.capture is not None and objects > len(photos())
    yield from pictures("03-imported")
    assert_framed()
    yield from key("Z", ctrl=True)
    yield 0.5
    assert not bpy.data.objects and scene().in2n.capture is None, "an import is one undo step"
    yield from key("Z", ctrl=True, shift=True)
    yield 0.5
    assert len(bpy.data.objects) == objects and scene().in2n.capture is not None
    shot_camera = bpy.data.objects.new("Shot", bpy.data.cameras.new("Shot"))
    scene().collection.objects.link(shot_camera)
    scene().camera = shot_camera
    shot_camera.matrix_world = next(o for o in bpy.data.objects if o.in2n.role == "CAMERA").matrix_world.normalized()
    press(bpy.ops.in2n.look_through, direction="CURRENT")
    yield from pictures("03b-through-a-photo")
    assert scene().camera == shot_camera and scene().render.resolution_x == 1920, "nothing of the shot changes"
    press(bpy.ops.in2n.back_to_shot)
    yield 0.5


def assert_framed():
    """The capture's points fill about half of the view, and all its cameras are in it, as Blender draws it."""
    view = view3d()[0].spaces.active.region_3d

    def places(role):
        found = []
        for thing in (o for o in bpy.data.objects if o.in2n.role == role):
            corners = [v.co for v in thing.data.vertices] if role == "POINTS" else [Vector()]
            found += [view.perspective_matrix @ (thing.matrix_world @ corner).to_4d() for corner in corners]
        assert all(at.w > 0 for at in found), "all before the viewer"
        return [sorted(at[axis] / at.w for at in found) for axis in (0, 1)]

    assert all(-1 < along[0] and along[-1] < 1 for along in places("CAMERA"))
    spans = [(along[-1 - len(along) // 50] - along[len(along) // 50]) / 2 for along in places("POINTS")]
    assert 0.2 < max(spans) < 0.7, spans


def reconstruct():
    yield from begin_reconstruction(photos()[2])
    yield from pictures("04-reconstructing")
    yield from key("ESC")  # which is Blender's own: to stop a playback must not cancel an hour of training
    assert jobs().running() and not jobs().current().cancelling
    yield from click_text("Cancel")
    yield from settled("the reconstruction")
    assert "cancelled" in status(), status()
    yield from pictures("05-cancelled")
    yield from finish_reconstruction(mesh={"files": {"meshes/quick/original.ply": PLY}})
    assert "27.3" in status(), status()
    assert any(o.in2n.quick and o.visible_get() for o in bpy.data.objects), "the scene appears unasked"
    yield from pictures("06-reconstructed")
    scene().in2n.show_when_done = False  # what follows is about one job at a time


def preview():
    yield from click_text("Make it look like autumn")  # what the empty field says
    yield from type_text("make it look like it just snowed")
    assert scene().in2n.instruction == "make it look like it just snowed", scene().in2n.instruction
    looks = snowy("snowy")
    answers(preview={"events": [progress(0, 4, "Editing", unit="pictures")], "until_cancelled": True})
    yield from start("Preview Grid")
    yield from until(lambda: jobs().running() and jobs().current().progress is not None, what="the preview to begin")
    folder = asked()[-1]
    yield from pictures("07-preview-begins")
    yield from click_text("Cancel")
    yield from settled("the preview")
    assert "cancelled" in status(), status()
    record, copies = preview_record(looks)
    answers(
        preview={
            "files": {f"previews/{scene().in2n.preview}/preview.json": record},
            "copies": copies,
            "result": {"pictures": json.loads(record)["pictures"]},
        }
    )
    yield from start("Preview Grid")
    yield from settled("the preview")
    assert folder["instruction"] == scene().in2n.instruction
    yield from pictures("08-previews")
    yield from click_text("7.5 · 1.2")
    settings = scene().in2n
    assert not settings.use_default_guidance and round(settings.guidance_image, 3) == 1.2, (
        "a click on a picture takes its guidance"
    )


def edit():
    name = photos()[0].stem
    looks = snowy("snowy")
    image = ["artifact", {"kind": "image", "path": "{workspace}/edits/{name}/preview.png"}]
    record = json.dumps(
        {
            "name": "x",
            "instruction": scene().in2n.instruction,
            "guidance_text": 7.5,
            "guidance_image": 1.5,
            "seed": 0,
            "editor": "miniature",
        }
    )
    files = {"edits/{name}/edit.json": record}
    copies = {"edits/{name}/preview.png": looks, f"edits/{{name}}/dataset/{name}.png": looks}
    answers(
        edit={
            "files": files,
            "copies": copies,
            "events": [progress(130, 800, "Edit 13 of 80, noise 0.74", 372.0), image],
            "until_cancelled": True,
        }
    )
    yield from start("Start Edit")
    yield from until(lambda: jobs().current().image, what="the first edited view")
    press(bpy.ops.in2n.extract_mesh)
    yield from pictures("09-editing-and-a-job-that-waits")
    press(bpy.ops.in2n.cancel_waiting, index=[job.label for job in jobs().waiting()].index("Extract Mesh"))
    yield from click_text("Cancel")
    yield from settled("the edit")
    assert "cancelled" in status(), status()
    yield from pictures("10-edit-cancelled")
    answers(edit={"files": {**files, "edits/{name}/state.json": json.dumps({"done": True})}, "copies": copies})
    assert abs(asked()[-1]["guidance_image"] - 1.2) < 1e-6
    yield from click_text("Resume")
    yield from settled("the resumed edit")
    assert "is ready" in status() and len(scene().in2n.edits) == 1, status()
    yield from pictures("11-edited")


def results():
    name = scene().in2n.edits[0].name
    scene().frame_start, scene().frame_end = 1, 3
    copies = {f"renders/{name}/Scene/{n:04d}.png": str(photos()[n]) for n in (1, 2, 3)}
    answers(render={"copies": copies}, mesh={"files": {f"meshes/{name}.ply": PLY}})
    yield from start("Render Frames")
    press(bpy.ops.in2n.extract_mesh)
    yield from settled("frames and mesh")
    assert any(o.in2n.role == "MESH" and not o.in2n.quick for o in bpy.data.objects)
    yield from pictures("12-results")
    for kind in ("CLIP", "SEQUENCER", "COMPOSITOR"):
        press(bpy.ops.in2n.load_frames, kind=kind)
    yield from pictures("12c-as-a-clip")
    press(bpy.ops.in2n.load_frames)
    yield from outputs(name)


def outputs(name):
    """What leaves the scene: a row each, the splats shown in place of the mesh, the mesh written to a file."""
    ball = Path(os.environ["IN2N_HOME"]).with_name("ball.ply")
    write_ball_of_splats(ball)
    told = {"views": 20, "bytes": 31_400_000, "files": ["images/0.png"], "folder": "datasets"}
    folder = f"datasets/{name}"
    answers(
        splats={
            "result": {"splats": SPLATS},
            "files": {f"splats/{name}.json": json.dumps({"splats": SPLATS})},
            "copies": {f"splats/{name}.ply": str(ball), f"splats/{name}.png": str(photos()[5])},
        },
        export={
            "result": told,
            "files": {f"{folder}/dataset.json": json.dumps(told)},
            "copies": {f"{folder}/images/0.png": str(photos()[3])},
        },
    )
    press(bpy.ops.in2n.export_dataset)
    yield from settled("the dataset")
    press(bpy.ops.in2n.add_kept_box)
    press(bpy.ops.in2n.make_splats)
    yield from settled("the splats")
    assert Path(asked()[-1]["keep"]).is_file(), "the box that is seen"
    (splats,) = (o for o in bpy.data.objects if o.in2n.role == "SPLATS")
    mesh = next(o for o in bpy.data.objects if o.in2n.role == "MESH" and not o.in2n.quick)
    assert splats.visible_get() and not mesh.visible_get()
    yield from scroll(60)
    yield from pictures("12d-outputs")
    file = Path(os.environ["IN2N_HOME"]).with_name("handed-on.glb")
    with in_view():
        bpy.ops.in2n.export_output("EXEC_DEFAULT", kind="MESH", edit=name, filepath=str(file))
    assert file.read_bytes()[:4] == b"glTF", "Blender's exporter wrote it"
    yield from click_text("Export…")
    yield 0.5
    browser = bpy.context.window_manager.windows[-1]
    files = browser.screen.areas[0].spaces.active
    yield from until(lambda: files.params is not None, what="the file browser")
    assert files.params.filename == f"{name} mesh.glb", files.params.filename
    shot("12e-export-browser")
    with bpy.context.temp_override(window=browser, area=browser.screen.areas[0]):
        bpy.ops.file.cancel()
    yield 0.5
    press(bpy.ops.in2n.show_output, kind="MESH", edit=name)


SPLATS = 4000


def write_ball_of_splats(file: Path):
    """A ball of flat splats, each across the ball's radius, in all colours."""
    random = np.random.default_rng(0)
    normals = random.normal(size=(SPLATS, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    quaternions = np.column_stack([1 + normals[:, 2], -normals[:, 1], normals[:, 0], np.zeros(SPLATS)])
    columns = {axis: normals[:, i] for i, axis in enumerate("xyz")} | {"opacity": np.full(SPLATS, 4.0)}
    columns |= {f"f_dc_{i}": normals[:, i] * 1.7 for i in range(3)}
    columns |= {f"scale_{i}": np.full(SPLATS, np.log((0.03, 0.03, 0.002)[i])) for i in range(3)}
    columns |= {f"rot_{i}": quaternions[:, i] for i in range(4)}
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {SPLATS}"]
    head += [*(f"property float {name}" for name in columns), "end_header", ""]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes("\n".join(head).encode() + np.stack(list(columns.values()), -1).astype("<f4").tobytes())


def outdated():
    """The reconstruction was made again after the edit."""
    workspace, name = Path(scene().in2n.workspace), scene().in2n.edits[0].name
    provenance = {"kind": "edit", "settings": {}, "inputs": {"reconstruction": "earlier"}}
    for file, more in (
        (workspace / "reconstruction" / "state.json", {"weights": "now"}),
        (workspace / "edits" / name / "edit.json", {"provenance": provenance}),
        (workspace / "edits" / name / "state.json", {"provenance": provenance}),
    ):
        file.write_text(json.dumps({**json.loads(file.read_text()), **more}))
    redraw()
    yield 0.5
    yield from click_text("Make Beside")
    yield from settled("the edit made anew")
    again = [request for request in asked() if request["method"] == "edit"][-1]
    assert again["name"] == f"{name}-2" and not again["restart"], again
    scene().in2n.active_edit = 0
    yield from pictures("12b-outdated")


def crash_and_log():
    answers(edit={"crash": True, "events": [progress(40, 800, "Edit 4 of 80, noise 0.90", 372.0)]})
    press(bpy.ops.in2n.edit, name="second")
    yield from settled("the crash")
    assert "stopped unexpectedly" in status(), status()
    yield from pictures("13-crashed")
    press(bpy.ops.in2n.show_log)
    yield 1.0
    yield from pictures("13b-log")
    close_other_windows()
    yield 0.5


def save_and_reopen():
    blend = Path(os.environ["IN2N_HOME"]).with_name("day.blend")
    for old in (blend, blend.with_suffix(".in2n")):
        shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    press(bpy.ops.in2n.move_workspace)  # which asks first, since it saves the file
    yield from pictures("13c-moving-asks")
    yield from press_return()
    yield from settled("moving the workspace")
    assert scene().in2n.workspace == str(blend.with_suffix(".in2n")), scene().in2n.workspace
    assert not bpy.data.is_dirty, "moving it has saved the file"
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    yield 1.0
    yield from show_tab("IN2N")
    assert [e.name for e in scene().in2n.edits][:1] and scene().in2n.workspace == str(blend.with_suffix(".in2n"))
    assert module("blender.underway").offered(scene()).label == "Edit"
    yield from pictures("14-reopened")


def engine_page(name):
    """The add-on's preferences, in a window of their own, from the top and from the bottom."""
    import addon_utils

    bpy.ops.screen.userpref_show("INVOKE_DEFAULT")
    yield 0.5
    bpy.context.preferences.active_section = "ADDONS"
    bpy.context.window_manager.addon_search = "IN2N"
    for addon in addon_utils.modules():
        if addon.__name__ == PACKAGE:
            addon_utils.module_bl_info(addon)["show_expanded"] = True
    yield 1.5
    yield from pictures(name)
    page = bpy.context.window_manager.windows[-1]
    area = page.screen.areas[0]
    region = next(r for r in area.regions if r.type == "WINDOW")
    with bpy.context.temp_override(window=page, area=area, region=region):
        for _ in range(12):
            bpy.ops.view2d.scroll_down()
    yield from pictures(f"{name}-below")
    close_other_windows()
    yield 0.5


drive(day())
