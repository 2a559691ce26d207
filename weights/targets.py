"""Whether another library's network can compute what a network of ours does."""

from command_line import UserError

# Settings that change no result once the weights are there.
_HARMLESS = {"model_name", "num_classes", "weight_decay", "batch_norm_decay", "zero_gamma", "data_format"}
_HARMLESS |= {"store_non_strided_activations", "scope"}
_WEIGHED = {"batch_norm_epsilon", "stride_placement", "projections", "root_pool_padding", "input_channels"}


def check(structure, settings, image_size, library, has, stride_placement, root_pool_padding):
    """Compares a network's layout with the one that a library has.

    The epsilons of the norms may differ: the difference goes into the moving variances.

    Args:
      structure: A places.Structure.
      settings: The network's settings, as model.json records them.
      image_size: Height and width of the images, in pixels.
      library: The library's name, for the message.
      has: Whether the library has a network of this version and depth.
      stride_placement: Where the library's blocks stride, as in `layouts.make_block`; "last_unit" for the paper's v1,
        which is the same function.
      root_pool_padding: How the library pads the root pool.

    Raises:
      UserError: If the functions differ; the message says how.
    """
    name = structure.model_name
    if not has:
        raise UserError(f"{library} has no network like {name}")
    for setting in sorted(set(settings) - _HARMLESS - _WEIGHED):
        raise UserError(f"{library} has no {name} with {setting}={settings[setting]!r}")
    # Checkpoint descriptions from before this setting existed do not have it.
    if settings.get("input_channels", 3) != 3:
        raise UserError(f"this {name} takes images of {settings['input_channels']} channels, {library} of 3")
    if settings["projections"] == "every_first_unit" and not structure.bottleneck:
        raise UserError(f"this {name} has a convolution in the shortcut of block 1, {library} has none there")
    if settings["stride_placement"] != stride_placement:
        placed = {"first_unit": "the 3x3 of a block's first unit (v1.5)", "last_unit": "the layer before it, as v1"}
        if structure.version == 2 or not structure.bottleneck:
            placed = {"first_unit": "a block's first unit", "last_unit": "a block's last unit"}
        ours, theirs = placed[settings["stride_placement"]], placed[stride_placement]
        raise UserError(
            f"this {name} strides in {ours}, {library} in {theirs}: with the same weights that is another function"
        )
    if settings["root_pool_padding"] != root_pool_padding and not _pads_alike(structure, image_size):
        sides = {"same": "below and to the right only", "symmetric": "on all four sides"}
        raise UserError(
            f"this {name} pads its root pool {sides[settings['root_pool_padding']]}, {library} "
            f"{sides[root_pool_padding]}: at {image_size} pixels that is another function"
        )


def _pads_alike(structure, image_size):
    """Whether both paddings of the root pool give the same result: one pixel on each side of an odd size.

    SAME padding never wins a maximum; symmetric padding is zeros. Both agree after the ReLU of v1, but not in v2.
    """
    return structure.version == 1 and (image_size + 1) // 2 % 2 == 1
