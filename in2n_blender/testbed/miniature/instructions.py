"""What the miniature is trained on. Its weights carry a copy, which is what `models.catalogue` reads."""

from ...models.model import Instruction

INSTRUCTIONS = (
    Instruction(
        "snow",
        (
            "make it look like it snowed",
            "make it snow",
            "cover it with snow",
            "as if it had snowed",
            "add snow",
            "turn it into winter",
        ),
        rendered=True,
    ),
    Instruction(
        "sunset",
        (
            "make it sunset",
            "turn it to sunset",
            "as if at sunset",
            "make it look like sunset",
            "light it with sunset light",
            "give it evening light",
        ),
        rendered=True,
    ),
    Instruction(
        "night",
        (
            "make it night",
            "turn it to night",
            "as if at night",
            "make it look like night",
            "what would it look like at night",
        ),
    ),
    Instruction(
        "gold", ("make it gold", "turn it into gold", "as if made of gold", "make it golden", "cast it in gold")
    ),
    Instruction(
        "autumn",
        ("make it autumn", "turn it to autumn", "as if in autumn", "give it autumn colors", "make it look like autumn"),
    ),
    Instruction(
        "pencil sketch",
        (
            "make it a pencil sketch",
            "turn it into a pencil sketch",
            "as a pencil drawing",
            "draw it with a pencil",
            "make it look like a pencil drawing",
        ),
    ),
    Instruction(
        "black and white",
        (
            "make it black and white",
            "turn it black and white",
            "as a black and white photo",
            "remove the color",
            "make it grayscale",
        ),
    ),
    Instruction("red tint", ("tint it red", "give it a red tint", "add a red tint", "make it red", "color it red")),
    Instruction(
        "blue tint", ("tint it blue", "give it a blue tint", "add a blue tint", "make it blue", "color it blue")
    ),
    Instruction(
        "old photograph",
        (
            "make it an old photograph",
            "turn it into an old photo",
            "as an old photograph",
            "make it look like an old photo",
            "make it look vintage",
        ),
    ),
)
