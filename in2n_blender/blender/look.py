"""How captured points and meshes look in Blender: the colours they carry, as they are."""

from __future__ import annotations

import bpy

from . import compat

COLOR_ATTRIBUTE = "Col"  # what Blender's PLY import calls vertex colours


def vertex_color_material():
    """The material that shows vertex colours as they are.

    It is emission, because the light of the capture is in them already.
    """
    material = next((m for m in bpy.data.materials if m.get("in2n_vertex_colors") and m.library is None), None)
    if material is not None:
        return material
    material = bpy.data.materials.new("IN2N Colors")
    material["in2n_vertex_colors"] = True
    tree = compat.material_nodes(material)
    tree.nodes.clear()
    color = tree.nodes.new("ShaderNodeVertexColor")
    color.layer_name = COLOR_ATTRIBUTE
    _shine(tree, color)
    return material


def texture_material(image):
    """A material that shows a texture as it is.

    Args:
        image: Of sRGB colours; the mesh's only UV map places it.

    Returns:
        A material of its own, emission as `vertex_color_material`.
    """
    material = bpy.data.materials.new(image.name)
    material["in2n_texture"] = True
    tree = compat.material_nodes(material)
    tree.nodes.clear()
    texture = tree.nodes.new("ShaderNodeTexImage")
    texture.image = image
    _shine(tree, texture)
    tree.nodes.active = texture  # which Solid shading shows
    return material


def _shine(tree, color) -> None:
    emission = tree.nodes.new("ShaderNodeEmission")
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    color.location, emission.location, output.location = (-500, 0), (-200, 0), (0, 0)
    tree.links.new(color.outputs["Color"], emission.inputs["Color"])
    tree.links.new(emission.outputs["Emission"], output.inputs["Surface"])


def is_ours(material) -> bool:
    """Whether a material is one that a mesh is brought in with; an empty slot is none: the artist took it out.

    Args:
        material: A mesh's, or None.
    """
    return material is not None and bool(material.get("in2n_vertex_colors") or material.get("in2n_texture"))


def is_texture(material) -> bool:
    """Whether a material is one that `texture_material` made.

    Args:
        material: A mesh's, or None.
    """
    return material is not None and bool(material.get("in2n_texture"))


def forget_texture(material) -> None:
    """Remove a material that `texture_material` made, and its picture, where nothing uses them any more.

    Args:
        material: The material.
    """
    if material.users:
        return
    images = [node.image for node in material.node_tree.nodes if node.type == "TEX_IMAGE" and node.image is not None]
    bpy.data.materials.remove(material)
    bpy.data.batch_remove([image for image in images if image.users == 0])


def show_as_points(mesh_object, radius: float) -> None:
    """Draw a mesh's vertices as small coloured solids, by a Geometry Nodes modifier that can be removed.

    They are a mesh, not a point cloud: only meshes show their colours in Solid shading.

    Args:
        mesh_object: The object, which has a colour attribute.
        radius: Of the solids, in the object's units.
    """
    modifier = mesh_object.modifiers.new("Points", "NODES")
    modifier.node_group = _points_group(radius)


def _points_group(radius: float):
    group = bpy.data.node_groups.new("IN2N points", "GeometryNodeTree")
    group.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    group.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    kinds = ("InstanceOnPoints", "JoinGeometry", "RealizeInstances", "DeleteGeometry", "SetMaterial")
    nodes = [
        group.nodes.new(kind)
        for kind in ("NodeGroupInput", *(f"GeometryNode{kind}" for kind in kinds), "NodeGroupOutput")
    ]
    for index, node in enumerate(nodes):
        node.location = (200 * index, 0)
    entry, instances, join, _realize, delete, material, _exit = nodes
    solid = group.nodes.new("GeometryNodeMeshUVSphere")
    solid.location = (0, -200)
    for name, value in (("Segments", 4), ("Rings", 2), ("Radius", radius)):  # an octahedron
        solid.inputs[name].default_value = value
    material.inputs["Material"].default_value = vertex_color_material()
    group.links.new(solid.outputs["Mesh"], instances.inputs["Instance"])
    for first, second in zip(nodes, nodes[1:]):
        group.links.new(first.outputs[0], second.inputs[0])
    # The mesh itself comes with them, before them: it is what knows which of its attributes is its colour. Its vertices
    # go again, or they would be drawn as black dots over the solids.
    group.links.new(entry.outputs[0], join.inputs[0])
    faces, none = group.nodes.new("GeometryNodeInputMeshVertexNeighbors"), group.nodes.new("FunctionNodeCompare")
    faces.location, none.location = (400, -200), (600, -200)
    none.data_type, none.operation = "INT", "EQUAL"
    group.links.new(faces.outputs["Face Count"], next(i for i in none.inputs if i.enabled))
    group.links.new(none.outputs[0], delete.inputs["Selection"])
    return group
