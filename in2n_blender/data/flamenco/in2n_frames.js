// Flamenco 3: frames of a .blend whose scene is rendered by IN2N, or composited with it.
// Copy this file into the `scripts` folder beside Flamenco Manager and restart it.
//
// Workers need Blender with the IN2N extension and its engine: IN2N_HOME or IN2N_ENGINE_PYTHON says where that is,
// IN2N_DEVICE what it computes on. The workspace lies on the share, and may be read-only.

const JOB_TYPE = {
    label: "IN2N Frames",
    description: "Render frames of a captured scene or its edit",
    settings: [
        { key: "frames", type: "string", required: true,
          eval: "f'{C.scene.frame_start}-{C.scene.frame_end}'",
          evalInfo: { showLinkButton: true, description: "Scene frame range" },
          description: "Frames to render. Examples: '47', '1-30', '3, 5-10, 47-327'" },
        { key: "chunk_size", type: "int32", default: 1, propargs: { min: 1 }, visible: "submission",
          description: "Frames that one Blender renders: the engine starts once for them" },
        { key: "render_output_root", type: "string", subtype: "dir_path", required: true, visible: "submission",
          description: "Folder of the frames; parts of the job's name are added to it" },
        { key: "add_path_components", type: "int32", required: true, default: 0, propargs: { min: 0, max: 32 },
          visible: "submission", description: "How many folders of the .blend's path are added, too" },
        { key: "render_output_path", type: "string", subtype: "file_path", editable: false,
          eval: "str(Path(abspath(settings.render_output_root), last_n_dir_parts(settings.add_path_components), " +
                "jobname, '{timestamp}', '######'))",
          description: "Where the frames go" },
        { key: "addon", type: "string", default: "", visible: "submission",
          description: "The extension's module where workers do not enable it, such as bl_ext.system.in2n_blender" },
        { key: "blendfile", type: "string", required: true, visible: "web", description: "The file to render" },
        { key: "format", type: "string", required: true, eval: "C.scene.render.image_settings.file_format",
          visible: "web" },
    ],
};

// An artist's video cannot be made of pieces.
const VIDEO_FORMATS = ["FFMPEG", "AVI_RAW", "AVI_JPEG"];

function compileJob(job) {
    const settings = job.settings;
    if (VIDEO_FORMATS.indexOf(settings.format) >= 0) {
        throw `IN2N renders frames on a farm, and no “${settings.format}”: choose PNG or OpenEXR in Output Properties.`;
    }
    settings.render_output_path = outputPath(job);
    for (const task of frameTasks(settings)) {
        job.addTask(task);
    }
}

function outputPath(job) {
    if (!job.settings.render_output_path) {
        throw "The job has no folder for its frames.";
    }
    return job.settings.render_output_path.replace("{timestamp}", formatTimestampLocal(job.created));
}

function frameTasks(settings) {
    return frameChunker(settings.frames, settings.chunk_size).map((chunk) => {
        const task = author.Task(`frames-${chunk}`, "blender");
        task.addCommand(author.Command("blender-render", {
            exe: "{blender}",
            exeArgs: "{blenderArgs}",
            // A script that fails fails the task; the network is not asked.
            argsBefore: [
                "--offline-mode", "--python-exit-code", "1",
                ...(settings.addon ? ["--addons", settings.addon] : []),
            ],
            blendfile: settings.blendfile,
            args: [
                "--render-output", settings.render_output_path,
                "--render-format", settings.format,
                "--render-frame", chunk.replaceAll("-", ".."),
            ],
        }));
        return task;
    });
}
