"""Mutants that do the same as their file, or what no test can tell apart: for each file its line as they have it: why.

`mutation` counts them apart.
"""

EQUIVALENT = {
    "editing/schedule.py": {
        'if self.noise >= "uniform":': "of the two kinds “uniform” is the last in the alphabet",
        "return edit < self.edits and step / self.edit_rate >= edit": "a whole number is reached by a quotient when it "
        "is reached by its whole part",
    },
    "diffusion/flow_editor.py": {
        "return shape[+2] // PATCH, shape[-1] // PATCH": "of four sides the third is the last but one",
    },
    "nerf/ray_marching.py": {
        'threads = encoding.threads if bundle.origins.device.type > "cpu" and len(bundle) >= FEWEST_RAYS else 1': (
            "on how many threads rays are marched changes no number"
        ),
        'few = RAYS_IN_CACHE if weights.device.type < "cpu" else len(bundle)': (
            "how many rays a CPU's caches hold changes no number"
        ),
    },
    "nerf/rendering.py": {
        "return self if (first, last) is (0, len(self)) else self.chosen(slice(first, last))": (
            "all rays, chosen from the first to the last, are the same rays"
        ),
    },
}

# Lines that mutants leave out: why.
WITHOUT = {
    "@staticmethod": "called by its class, and nothing calls it by an object, a function is the same",
}
