"""Layouts of networks as data: units of a block, blocks of a network, and the function made from a table row.

A layout decides where a block strides and where shortcuts project, and thereby which weights fit a network.
"""

from nets import depths, resnet_utils

STRIDE_PLACEMENTS = ("last_unit", "first_unit")
PROJECTIONS = ("where_shapes_differ", "every_first_unit")
LAYOUT_KEYWORDS = ("stride_placement", "projections", "root_pool_padding", "shortcut", "shortcut_connections")


def make_block(scope, unit_fn, unit, num_units, stride, stride_placement, projections):
    """Lists the units of one block.

    Args:
      scope: Variable scope of the block.
      unit_fn: The unit function.
      unit: Keywords that all units share, including the depths.
      num_units: How many units; at least 1.
      stride: Stride of the block, carried by one unit; the others have stride 1.
      stride_placement: "last_unit" as in research/slim, or "first_unit" as in the paper's basic nets, torchvision and
        the official TensorFlow models.
      projections: "where_shapes_differ" as in the paper, or "every_first_unit" as in the official TensorFlow models,
        where a block's first unit projects even if depth and size do not change.

    Returns:
      A Block.

    Raises:
      UserError: If a placement is unknown.
    """
    resnet_utils.check_choice("stride_placement", stride_placement, STRIDE_PLACEMENTS)
    resnet_utils.check_choice("projections", projections, PROJECTIONS)
    units = [dict(unit, stride=1) for _ in range(num_units)]
    units[-1 if stride_placement == "last_unit" else 0]["stride"] = stride
    if projections == "every_first_unit":
        units[0]["project"] = True
    return resnet_utils.Block(scope, unit_fn, units)


def make_basic_block(scope, unit_fn, depth, num_units, stride, stride_placement, projections):
    """`make_block` for basic units, `depth` channels wide.

    Their second 3x3 comes after the stride, so each unit is also given the stride it would have undilated.
    """
    block = make_block(scope, unit_fn, {"depth": depth}, num_units, stride, stride_placement, projections)
    return block._replace(args=[dict(unit, nominal_stride=unit["stride"]) for unit in block.args])


def stack_of_blocks(block_fn, base_depths, units_per_block, stride_placement, projections):
    """Lists the blocks of a whole network, with a stride of 2 between blocks.

    Args:
      block_fn: `resnet_v1_block` or a similar function.
      base_depths: Base depth of each block.
      units_per_block: Number of units of each block.
      stride_placement: As in `make_block`; it decides whether the unit before or after a block boundary strides.
      projections: As in `make_block`.

    Returns:
      Blocks with the scopes block1, block2 and so on.
    """
    between = [2] * (len(units_per_block) - 1)
    strides = between + [1] if stride_placement == "last_unit" else [1] + between
    layout = {"stride_placement": stride_placement, "projections": projections}
    rows = zip(base_depths, units_per_block, strides, strict=True)
    return [block_fn(f"block{index}", *row, **layout) for index, row in enumerate(rows, 1)]


def describe_variant(network, name, builder, default_image_size=224):
    """Names and documents the network function of one table row.

    Args:
      network: The function.
      name: Its name.
      builder: Where its arguments are described.
      default_image_size: Height and width it was designed for.

    Returns:
      `network`, with the attributes default_image_size and layout: the keywords that decide which weights fit it, with
      their defaults.
    """
    network.__name__ = network.__qualname__ = name
    keywords = network.__kwdefaults__ or {}
    network.layout = {keyword: keywords[keyword] for keyword in LAYOUT_KEYWORDS if keyword in keywords}
    network.__doc__ = f"{name}: see `{builder}` for arguments and results, `layouts.make_block` for the layout."
    network.default_image_size = default_image_size
    return network


def scaled_base_depths(depth_multiplier, min_base_depth):
    """The base depths of the four ImageNet blocks, times `depth_multiplier` and at least `min_base_depth`."""
    return [max(int(depth * depth_multiplier), min_base_depth) for depth in depths.BASE_DEPTHS]
