"""Sky and sun of a procedural scene, and the edits that Blender renders: snow on upward faces, other light.

They act on the scene, not on the picture, so the true edit of every view is a render of one and the same scene.
"""

import math
from dataclasses import dataclass, replace

import bpy

SNOW_GROUP = "Snow Cover"
SNOW_SLOPE = (0.3, 0.75)  # a face's normal.z: below the first no snow lies on it, above the second all is white
SNOW_COLOUR = (0.76, 0.79, 0.84)
SUNSET_ELEVATION = math.radians(16.0)


@dataclass(frozen=True)
class Lighting:
    """One sun and a sky whose colour goes from the horizon to the zenith; colours are linear RGB.

    Attributes:
        sun_azimuth: In radians.
        sun_elevation: Above the horizon, in radians.
        sun_strength: The sun's irradiance in W/m^2, as Blender takes it.
        sun_colour: The sun's.
        sun_angle: Its angular diameter, in radians.
        horizon: The sky's colour there.
        zenith: The sky's colour there.
        sky_strength: A factor of the sky's colours.
        clouds: From 0 to 1, how much soft clouds of the horizon's brightness cover the sky.
    """

    sun_azimuth: float
    sun_elevation: float
    sun_strength: float = 3.0
    sun_colour: tuple[float, float, float] = (1.0, 0.96, 0.9)
    sun_angle: float = math.radians(3.0)
    horizon: tuple[float, float, float] = (0.75, 0.82, 0.9)
    zenith: tuple[float, float, float] = (0.25, 0.45, 0.8)
    sky_strength: float = 0.8
    clouds: float = 0.0


def sunset(lighting: Lighting) -> Lighting:
    """The same place at sunset: the sun keeps its azimuth, sinks and turns orange; the sky warms at the horizon.

    Args:
        lighting: The daylight.
    """
    return replace(
        lighting,
        sun_elevation=min(SUNSET_ELEVATION, lighting.sun_elevation),
        sun_strength=4.0,
        sun_colour=(1.0, 0.46, 0.16),
        sun_angle=math.radians(8.0),
        horizon=(1.0, 0.48, 0.16),
        zenith=(0.36, 0.20, 0.38),
        sky_strength=0.8,
    )


def white_level(lighting: Lighting) -> float:
    """How bright a white surface is that lies flat in the open: its linear radiance, where 1 is a picture's white.

    Args:
        lighting: Sun and sky; the sky counts as even, halfway between its two colours.
    """
    sun = lighting.sun_strength * math.sin(lighting.sun_elevation) * sum(lighting.sun_colour) / 3 / math.pi
    sky = lighting.sky_strength * (sum(lighting.horizon) + sum(lighting.zenith)) / 6
    return sun + sky


def night(lighting: Lighting) -> Lighting:
    """The same place by moonlight, from where the sun was.

    Args:
        lighting: The daylight.
    """
    # Clouds take half of their brightness from the sun's colour, so that it is the colour that is dim.
    return replace(
        lighting,
        sun_strength=4.0,
        sun_colour=(0.10, 0.14, 0.24),
        horizon=(0.05, 0.08, 0.17),
        zenith=(0.015, 0.025, 0.07),
        sky_strength=0.8,
    )


def apply_lighting(scene: bpy.types.Scene, lighting: Lighting) -> None:
    """Light the scene: its world, and its sun, which is made where it is missing.

    Args:
        scene: What is lit.
        lighting: Sun and sky.
    """
    _apply_sun(scene, lighting)
    _apply_sky(scene, lighting)


def _apply_sun(scene: bpy.types.Scene, lighting: Lighting) -> None:
    # By its kind, because Blender calls another scene's "Sun.001".
    sun = next((thing for thing in scene.objects if thing.type == "LIGHT"), None)
    if sun is None:
        sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
        scene.collection.objects.link(sun)
    sun.data.energy = lighting.sun_strength
    sun.data.color = lighting.sun_colour
    sun.data.angle = lighting.sun_angle
    sun.rotation_mode = "XYZ"
    sun.rotation_euler = (math.pi / 2 - lighting.sun_elevation, 0.0, lighting.sun_azimuth + math.pi / 2)


def _apply_sky(scene: bpy.types.Scene, lighting: Lighting) -> None:
    world = scene.world or bpy.data.worlds.new("Sky")
    scene.world = world
    world.use_nodes = True
    world.cycles.sampling_method = "NONE"  # a smooth sky needs no importance map, which costs more than a small render
    nodes, links = world.node_tree.nodes, world.node_tree.links
    if "Sky Ramp" not in nodes:
        nodes.clear()
        ramp = nodes.new("ShaderNodeValToRGB")
        ramp.name = "Sky Ramp"
        ramp.color_ramp.elements[0].position = 0.0
        ramp.color_ramp.elements[1].position = 0.55
        coordinates = nodes.new("ShaderNodeTexCoord")
        axes = nodes.new("ShaderNodeSeparateXYZ")
        background = nodes.new("ShaderNodeBackground")
        background.name = "Background"
        sky = _add_clouds(world.node_tree, coordinates.outputs["Generated"], ramp.outputs["Color"])
        output = nodes.new("ShaderNodeOutputWorld")
        links.new(coordinates.outputs["Generated"], axes.inputs["Vector"])
        links.new(axes.outputs["Z"], ramp.inputs["Fac"])
        links.new(sky, background.inputs["Color"])
        links.new(background.outputs["Background"], output.inputs["Surface"])
    ramp = nodes["Sky Ramp"].color_ramp
    ramp.elements[0].color = (*lighting.horizon, 1.0)
    ramp.elements[1].color = (*lighting.zenith, 1.0)
    bright = tuple((horizon + sun) / 2 for horizon, sun in zip(lighting.horizon, lighting.sun_colour))
    nodes["Clouds"].inputs[7].default_value = (*bright, 1.0)
    nodes["Cloud Cover"].inputs["To Max"].default_value = lighting.clouds
    nodes["Background"].inputs["Strength"].default_value = lighting.sky_strength


def _add_clouds(tree: bpy.types.NodeTree, direction, sky):
    """Soft noise over the `sky` colour; returns the mixed colour's socket."""
    noise, cover = tree.nodes.new("ShaderNodeTexNoise"), tree.nodes.new("ShaderNodeMapRange")
    noise.inputs["Scale"].default_value = 2.6
    cover.name = "Cloud Cover"
    cover.interpolation_type = "SMOOTHSTEP"
    cover.inputs["From Min"].default_value, cover.inputs["From Max"].default_value = 0.42, 0.72
    clouds = tree.nodes.new("ShaderNodeMix")
    clouds.name = "Clouds"
    clouds.data_type = "RGBA"
    tree.links.new(direction, noise.inputs["Vector"])
    tree.links.new(noise.outputs[0], cover.inputs["Value"])
    tree.links.new(cover.outputs["Result"], clouds.inputs[0])
    tree.links.new(sky, clouds.inputs[6])
    return clouds.outputs[2]


def add_snow_cover(scene: bpy.types.Scene) -> None:
    """Give every material of the scene's meshes a snow layer on upward faces, its amount at 0 until `set_snow`.

    Objects without a material get a grey one, so that snow lies on them too.
    """
    group = bpy.data.node_groups.get(SNOW_GROUP) or _snow_group()
    for scene_object in scene.objects:
        if scene_object.type != "MESH":
            continue
        if not scene_object.data.materials:
            scene_object.data.materials.append(_grey_material())
        for slot in scene_object.material_slots:
            if slot.material is not None:
                _insert_snow(slot.material, group)


def set_snow(amount: float) -> None:
    """Let snow lie on all covered materials.

    Args:
        amount: From 0, none, to 1, white wherever a face looks up.
    """
    bpy.data.node_groups[SNOW_GROUP].nodes["Amount"].outputs[0].default_value = amount


def _grey_material() -> bpy.types.Material:
    material = bpy.data.materials.get("Grey") or bpy.data.materials.new("Grey")
    material.use_nodes = True
    return material


def _insert_snow(material: bpy.types.Material, group: bpy.types.NodeTree) -> None:
    nodes, links = material.node_tree.nodes, material.node_tree.links
    if any(node.type == "GROUP" and node.node_tree == group for node in nodes):
        return
    output = next(node for node in nodes if node.type == "OUTPUT_MATERIAL" and node.is_active_output)
    if not output.inputs["Surface"].is_linked:
        return
    surface = output.inputs["Surface"].links[0].from_socket
    cover = nodes.new("ShaderNodeGroup")
    cover.node_tree = group
    links.new(surface, cover.inputs["Surface"])
    links.new(cover.outputs["Surface"], output.inputs["Surface"])


def _snow_group() -> bpy.types.NodeTree:
    """Surface -> mix(surface, snow, amount * smoothstep(*SNOW_SLOPE, normal.z))."""
    group = bpy.data.node_groups.new(SNOW_GROUP, "ShaderNodeTree")
    group.interface.new_socket("Surface", in_out="INPUT", socket_type="NodeSocketShader")
    group.interface.new_socket("Surface", in_out="OUTPUT", socket_type="NodeSocketShader")
    nodes, links = group.nodes, group.links
    group_in, group_out = nodes.new("NodeGroupInput"), nodes.new("NodeGroupOutput")
    amount = nodes.new("ShaderNodeValue")
    amount.name = "Amount"
    amount.outputs[0].default_value = 0.0
    geometry, axes = nodes.new("ShaderNodeNewGeometry"), nodes.new("ShaderNodeSeparateXYZ")
    slope = nodes.new("ShaderNodeMapRange")
    slope.interpolation_type = "SMOOTHSTEP"
    slope.inputs["From Min"].default_value, slope.inputs["From Max"].default_value = SNOW_SLOPE
    cover = nodes.new("ShaderNodeMath")
    cover.operation = "MULTIPLY"
    snow = nodes.new("ShaderNodeBsdfDiffuse")
    snow.inputs["Color"].default_value = (*SNOW_COLOUR, 1.0)
    mix = nodes.new("ShaderNodeMixShader")
    links.new(geometry.outputs["Normal"], axes.inputs["Vector"])
    links.new(axes.outputs["Z"], slope.inputs["Value"])
    links.new(slope.outputs["Result"], cover.inputs[0])
    links.new(amount.outputs[0], cover.inputs[1])
    links.new(cover.outputs[0], mix.inputs["Fac"])
    links.new(group_in.outputs["Surface"], mix.inputs[1])
    links.new(snow.outputs["BSDF"], mix.inputs[2])
    links.new(mix.outputs["Shader"], group_out.inputs["Surface"])
    return group
