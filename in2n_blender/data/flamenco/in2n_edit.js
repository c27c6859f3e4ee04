// Flamenco 3: reconstruct a capture, edit it by an instruction, then render the edit's frames along a camera path.
// Copy this file into the `scripts` folder beside Flamenco Manager and restart it.
//
// Workers need Blender with the IN2N extension and its engine, as for “IN2N Frames”. A task that was interrupted goes
// on from what it saved; what is done already is done at once. The workspace lies on the share, and is written to.

const JOB_TYPE = {
    label: "IN2N Edit",
    description: "Reconstruct a capture, edit it, render the edit",
    settings: [
        { key: "workspace", type: "string", subtype: "dir_path", required: true, eval: "C.scene.in2n.workspace",
          description: "The capture's workspace, on the share" },
        { key: "instruction", type: "string", required: true, eval: "C.scene.in2n.instruction",
          description: "What to change, for example “make it look like it snowed”" },
        { key: "name", type: "string", default: "", description: "The edit's name; empty: made from the instruction" },
        { key: "model", type: "string", required: true, default: "miniature",
          eval: "C.scene.in2n.editor_folder if C.scene.in2n.editor == 'folder' else C.scene.in2n.editor",
          description: "The 2D model, as `models` lists them, or a folder" },
        { key: "preset", type: "string", required: true, default: "standard", eval: "C.scene.in2n.preset",
          choices: ["draft", "standard", "full"], description: "Size of photos and model" },
        { key: "seed", type: "int32", default: 0, propargs: { min: 0 }, description: "The same seed, the same edit" },
        { key: "camera_path", type: "string", subtype: "file_path", default: "",
          description: "Camera path file; empty: a path through the photos" },
        { key: "addon", type: "string", default: "", visible: "submission",
          description: "The extension's module where workers do not enable it, such as bl_ext.system.in2n_blender" },
        { key: "blendfile", type: "string", required: true, visible: "hidden" },
    ],
};

function compileJob(job) {
    const settings = job.settings;
    if (!settings.workspace) {
        throw "The scene has no workspace yet: import its capture first.";
    }
    if (!settings.instruction.trim()) {
        throw "The instruction is empty: type what to change.";
    }
    settings.name = settings.name || nameOf(settings.instruction);
    const steps = [
        step(settings, "reconstruct", [settings.workspace, "--preset", settings.preset]),
        step(settings, "edit", [
            settings.workspace, "--name", settings.name, "--instruction", settings.instruction,
            "--model", settings.model, "--preset", settings.preset, "--seed", `${settings.seed}`,
        ]),
        step(settings, "render", [
            settings.workspace, "--edit", settings.name,
            ...(settings.camera_path ? ["--path", settings.camera_path] : []),
        ]),
    ];
    steps.forEach((task, index) => {
        if (index > 0) {
            task.addDependency(steps[index - 1]);
        }
        job.addTask(task);
    });
}

// One command of the engine's, from inside a Blender without a window.
function step(settings, command, rest) {
    const task = author.Task(command, "blender");
    task.addCommand(author.Command("exec", {
        exe: "{blender}",
        args: [
            "--background", "--offline-mode", ...(settings.addon ? ["--addons", settings.addon] : []),
            "--command", "in2n", command, ...rest,
        ],
    }));
    return task;
}

// The instruction's first words, as a plain file name.
function nameOf(instruction) {
    const words = instruction.toLowerCase().match(/[a-z0-9]+/g) || ["edit"];
    return words.slice(0, 6).join("-").slice(0, 40);
}
