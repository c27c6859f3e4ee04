"""Materials of the procedural scenes."""

import colorsys
import math
import random

import bpy

# Kind -> (hue, saturation and value from lowest to highest, textures); linear RGB's HSV.
NATURAL = {
    "stone": ((0.05, 0.65), (0.03, 0.2), (0.1, 0.5), ("brick", "voronoi", "noise", "noise")),
    "brick": ((0.0, 0.06), (0.5, 0.8), (0.15, 0.45), ("wall",)),
    "plaster": ((0.02, 0.16), (0.05, 0.6), (0.35, 0.8), ("noise",)),
    "wood": ((0.04, 0.1), (0.4, 0.8), (0.06, 0.4), ("wave", "wave", "noise")),
    "tiles": ((0.0, 0.07), (0.3, 0.9), (0.1, 0.45), ("brick", "wave", "noise")),
    "cloth": ((0.0, 1.0), (0.2, 0.95), (0.08, 0.8), ("checker", "wave", "noise", "plain", "plain", "plain")),
    "pot": ((0.0, 1.0), (0.05, 0.8), (0.15, 0.85), ("plain", "plain", "noise", "wave")),
    "fruit": ((0.0, 1.0), (0.6, 0.98), (0.15, 0.85), ("plain", "plain", "noise", "wave")),
    "bread": ((0.06, 0.1), (0.5, 0.8), (0.3, 0.6), ("noise",)),
    "skin": ((0.03, 0.08), (0.35, 0.65), (0.15, 0.7), ("plain",)),
}


def natural_material(kind: str, rng: random.Random) -> bpy.types.Material:
    """A material of a kind that is seen outdoors, in its usual colours.

    Args:
        kind: One of NATURAL.
        rng: Where the random numbers come from.
    """
    hues, saturations, values, textures = NATURAL[kind]
    hue, spread = rng.uniform(*hues), min(0.03, hues[1] - hues[0])
    colours = [
        colorsys.hsv_to_rgb((hue + rng.uniform(-spread, spread)) % 1.0, rng.uniform(*saturations), rng.uniform(*values))
        for _ in range(2)
    ]
    texture = rng.choice(textures)
    if texture == "plain":
        return plain_material(kind, colours[0], roughness=rng.uniform(0.4, 1.0))
    if kind != "cloth":  # a second tone, no second colour
        amount = rng.uniform(0.1, 0.5)
        colours[1] = tuple(a + amount * (b - a) for a, b in zip(*colours))
    if texture == "checker" and rng.random() < 0.7:
        colours[1] = (0.75, 0.75, 0.72)
    return textured_material(kind, rng, colours, kinds=(texture,))


def random_colour(rng: random.Random, saturation=(0.05, 0.9), value=(0.08, 0.85)) -> tuple[float, float, float]:
    """A random colour, in linear RGB.

    Args:
        rng: Where the random numbers come from.
        saturation: (Lowest, highest), within [0, 1].
        value: (Lowest, highest), within [0, 1].
    """
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))


def foliage_colour(rng: random.Random) -> tuple[float, float, float]:
    """A green between olive and spruce, linear RGB."""
    return colorsys.hsv_to_rgb(rng.uniform(0.2, 0.4), rng.uniform(0.5, 0.9), rng.uniform(0.1, 0.5))


def plain_material(name: str, colour, roughness: float = 0.7, metallic: float = 0.0) -> bpy.types.Material:
    """A Principled material of one colour.

    Args:
        name: The material's.
        colour: Linear RGB.
        roughness: From 0 to 1.
        metallic: From 0 to 1.
    """
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    shader = _principled(material)
    shader.inputs["Base Color"].default_value = (*colour, 1.0)
    shader.inputs["Roughness"].default_value = roughness
    shader.inputs["Metallic"].default_value = metallic
    return material


def textured_material(
    name: str, rng: random.Random, colours, photographs=(), scale=None, kinds=()
) -> bpy.types.Material:
    """A Principled material whose base colour is a random texture between two colours.

    Args:
        name: The material's.
        rng: Where the random numbers come from.
        colours: Two, linear RGB.
        photographs: Image files that may be the texture in place of a procedural one.
        scale: What the object's coordinates are multiplied by, for a photograph 0.12 of it; None: random, from 1 to 7.
        kinds: Textures to choose from: "noise", "voronoi", "checker", "brick", "wave", or "wall", bricks in upright
            rows; without any: all but the last.
    """
    material = plain_material(name, colours[0], roughness=rng.uniform(0.35, 0.95))
    nodes, links = material.node_tree.nodes, material.node_tree.links
    shader = _principled(material)
    scale = scale if scale is not None else rng.uniform(1.0, 7.0)
    coordinates = nodes.new("ShaderNodeTexCoord")
    mapping = nodes.new("ShaderNodeMapping")
    mapping.inputs["Scale"].default_value = (scale, scale, scale)
    mapping.inputs["Rotation"].default_value = tuple(rng.uniform(0, 3.14) for _ in range(3))
    links.new(coordinates.outputs["Object"], mapping.inputs["Vector"])
    usual = ["noise", "noise", "voronoi", "checker", "brick", "wave"] + (["photograph"] * 3 if photographs else [])
    kind = rng.choice(kinds or usual)
    if kind == "photograph":
        texture = nodes.new("ShaderNodeTexImage")
        texture.image = bpy.data.images.load(rng.choice(list(photographs)), check_existing=True)
        texture.projection = "BOX"
        texture.extension = "MIRROR"
        mapping.inputs["Scale"].default_value = (scale * 0.12,) * 3
        mapping.inputs["Rotation"].default_value = (0.0, 0.0, rng.uniform(0, 3.14))
        links.new(mapping.outputs["Vector"], texture.inputs["Vector"])
        links.new(texture.outputs["Color"], shader.inputs["Base Color"])
        return material
    if kind in ("checker", "brick", "wall"):
        texture = nodes.new("ShaderNodeTexChecker" if kind == "checker" else "ShaderNodeTexBrick")
        texture.inputs["Color1"].default_value = (*colours[0], 1.0)
        texture.inputs["Color2"].default_value = (*colours[1], 1.0)
        if kind == "checker":
            mapping.inputs["Rotation"].default_value = (0.0, 0.0, 0.0)
        if kind == "wall":
            mapping.inputs["Rotation"].default_value = (math.pi / 2, 0.0, 0.0)
            mapping.inputs["Scale"].default_value = (scale * 0.7, scale * 0.7, scale * 0.7)
        links.new(mapping.outputs["Vector"], texture.inputs["Vector"])
        links.new(texture.outputs["Color"], shader.inputs["Base Color"])
        return material
    texture = nodes.new(
        {"noise": "ShaderNodeTexNoise", "voronoi": "ShaderNodeTexVoronoi", "wave": "ShaderNodeTexWave"}[kind]
    )
    links.new(mapping.outputs["Vector"], texture.inputs["Vector"])
    ramp = nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].color = (*colours[0], 1.0)
    ramp.color_ramp.elements[1].color = (*colours[1], 1.0)
    ramp.color_ramp.elements[0].position = rng.uniform(0.2, 0.5)
    ramp.color_ramp.elements[1].position = rng.uniform(0.55, 0.8)
    links.new(texture.outputs[0], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], shader.inputs["Base Color"])
    return material


def _principled(material: bpy.types.Material) -> bpy.types.ShaderNode:
    return next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
