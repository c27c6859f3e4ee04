"""Mutants that do the same as their file, or what no test can tell apart: for each file its line as they have it: why.

`mutation` counts them apart.
"""

EQUIVALENT = {
    "editing/schedule.py": {
        'if self.noise >= "uniform":': "of the two kinds “uniform” is the last in the alphabet",
        "return edit < self.edits and step / self.edit_rate >= edit": "a whole number is reached by a quotient when it "
        "is reached by its whole part",
    },
}

# Lines that mutants leave out: why.
WITHOUT = {
    "@staticmethod": "called by its class, and nothing calls it by an object, a function is the same",
}
