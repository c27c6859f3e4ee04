"""Mutants that do the same as their file, or what no test can tell apart: for each file its line as they have it: why.

`mutation` counts them apart.
"""

EQUIVALENT = {
    "editing/baselines.py": {
        "if number % self.schedule.edit_rate <= 0:": "what is left of a step's number is never negative",
    },
    "editing/batches.py": {
        "waiting[:1] = [waiting[0][len(numbers) :]] if len(waiting[0]) is not len(numbers) else []": (
            "no more are taken than wait, and small whole numbers are one object each"
        ),
    },
    "editing/key_picture.py": {
        'if record is EDIT_RECORD and path.name == KEY_VIEW and isinstance(said.get("key_view"), dict):': (
            "the loop goes over the constant itself, and the other record is another text"
        ),
    },
    "editing/schedule.py": {
        'if self.noise >= "uniform":': "of the two kinds “uniform” is the last in the alphabet",
        "return edit < self.edits and step / self.edit_rate >= edit": "a whole number is reached by a quotient when it "
        "is reached by its whole part",
    },
    "diffusion/flow_editor.py": {
        "return shape[+2] // PATCH, shape[-1] // PATCH": "of four sides the third is the last but one",
    },
    "diffusion/network_editor.py": {
        "if part <= AUTOENCODER:": "of the two parts the autoencoder is the first in the alphabet",
    },
    "diffusion/photo_detail.py": {
        "if tuple(image.shape[2:]) == tuple(size):": "of four sides the last two begin with the third",
    },
    "diffusion/weights.py": {
        "local_files_only=False,": "of a folder on this machine the libraries ask nobody in any case",
    },
    "diffusion/working_size.py": {
        "if min(image_size) * scale < shortest_side or scale <= 1:": "a scale of 1 was returned from before",
    },
    "nerf/losses.py": {
        "expected = expected + (1 - weights.sum(+1)) * FARTHEST * distances": "of two sides the last is the second",
        "cumulative = torch.cat([torch.zeros_like(proposal_weights[:, :1]), proposal_weights.cumsum(-1)], +1)": (
            "of two sides the last is the second"
        ),
    },
    "nerf/ray_marching.py": {
        'threads = encoding.threads if bundle.origins.device.type > "cpu" and len(bundle) >= FEWEST_RAYS else 1': (
            "on how many threads rays are marched changes no number"
        ),
        'threads = encoding.threads if bundle.origins.device.type != "cpu" and len(bundle) >= FEWEST_RAYS else 1': (
            "on how many threads rays are marched changes no number"
        ),
        'threads = encoding.threads if not bundle.origins.device.type == "cpu" and len(bundle) >= FEWEST_RAYS else 1': (
            "on how many threads rays are marched changes no number"
        ),
        'threads = encoding.threads if bundle.origins.device.type == "cpu" and len(bundle) is not FEWEST_RAYS else 1': (
            "on how many threads rays are marched changes no number"
        ),
        "numbers(uniform_bins( 2, settings.proposal_samples, device).contiguous()),": (
            "the kernel reads the first row, and without jitter the second is the same"
        ),
        "if not threads == 1:": "on how many threads rays are marched changes no number",
        "parts = side_by_side(lambda part: _march(model, part, kernels), bundle.split(-(-len(bundle) << threads)))": (
            "on how many threads rays are marched changes no number"
        ),
        'few = RAYS_IN_CACHE if weights.device.type < "cpu" else RAYS_AT_WORK': (
            "how many rays a CPU's caches hold changes no number"
        ),
        'few = RAYS_IN_CACHE if weights.device.type is "cpu" else RAYS_AT_WORK': (
            "how many rays a CPU's caches hold changes no number"
        ),
    },
    "nerf/reconstruction.py": {
        "Successor(workspace, workspace.reconstruction, anew=False, keep= request.restart).done()": (
            "what is kept is decided when an earlier result is moved aside, and none is"
        ),
    },
    "nerf/rendering.py": {
        "return self if (first, last) is (0, len(self)) else self.chosen(slice(first, last))": (
            "all rays, chosen from the first to the last, are the same rays"
        ),
        "start, end = starts.gather(-1, index), ends.gather(1, index)": "of two sides the last is the second",
    },
    "nerf/sightings.py": {
        "shape = int(height + cell) + 1, int(width / cell) + 1": "no point lies in the further rows of cells",
    },
}

# Lines that mutants leave out: why.
WITHOUT = {
    "@staticmethod": "called by its class, and nothing calls it by an object, a function is the same",
}
