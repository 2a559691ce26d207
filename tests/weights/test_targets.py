"""Which of our networks other libraries can express."""

import pytest

from command_line import UserError
from nets import nets_factory
from weights import places
from weights.formats import FORMATS


def check(target, model_name, image_size=224, **changes):
    layout = nets_factory.NETWORKS[model_name].function.layout
    settings = {"model_name": model_name, "num_classes": 10, "batch_norm_epsilon": 1e-5, **layout} | changes
    FORMATS[target].check_target(places.structure_of(model_name), settings, image_size)


@pytest.mark.parametrize(
    "target, model_name, changes",
    [
        ("keras", "resnet_v1_50", {"root_pool_padding": "symmetric"}),
        ("keras", "resnet_v2_101", {"root_pool_padding": "symmetric", "batch_norm_epsilon": 1e-3}),
        # 225 pixels leave 113 in front of the pool: SAME then pads one on each side as well.
        ("keras", "resnet_v1_50", {"image_size": 225}),
        ("torchvision", "resnet_v1_18", {"root_pool_padding": "symmetric"}),
        ("torchvision", "resnet_v1_5_50", {"root_pool_padding": "symmetric"}),
        ("torchvision", "resnet_v1_50", {"root_pool_padding": "symmetric", "stride_placement": "first_unit"}),
        # The first unit of each block projects in any bottleneck network.
        ("torchvision", "resnet_v1_5_50", {"root_pool_padding": "symmetric", "projections": "every_first_unit"}),
        ("slim", "resnet_v2_200", {}),
        ("slim", "resnet_v1_101", {"root_pool_padding": "symmetric", "image_size": 225}),
    ],
)
def test_what_can_be_written(target, model_name, changes):
    check(target, model_name, **changes)


@pytest.mark.parametrize(
    "target, model_name, changes, reason",
    [
        ("keras", "resnet_v1_5_50", {"root_pool_padding": "symmetric"}, "strides in the 3x3 of a block's first unit"),
        ("keras", "resnet_v1_50", {}, "pads its root pool below and to the right only.* at 224 pixels"),
        # In v2 no ReLU stands before the pool, where a padded zero beats a negative value.
        ("keras", "resnet_v2_50", {"image_size": 225}, "pads its root pool"),
        ("keras", "resnet_v1_18", {}, "Keras Applications has no network like resnet_v1_18"),
        ("keras", "resnet_v1_200", {}, "no network like"),
        ("torchvision", "resnet_v1_50", {"root_pool_padding": "symmetric"}, "as v1.*torchvision in the 3x3"),
        ("torchvision", "resnet_v2_50", {}, "torchvision has no network like resnet_v2_50"),
        ("torchvision", "resnet_cifar_v1_20", {}, "no network like"),
        ("torchvision", "resnet_v1_18", {"projections": "every_first_unit"}, "convolution in the shortcut of block 1"),
        ("torchvision", "resnet_v1_18", {"stride_placement": "last_unit"}, "last unit, torchvision in a"),
        ("slim", "resnet_v1_50", {"root_pool_padding": "symmetric"}, "pads its root pool on all four sides"),
        ("slim", "resnet_v1_5_50", {}, "Slim has no network like"),
        ("torchvision", "resnet_v1_18", {"input_channels": 4}, "takes images of 4 channels, torchvision of 3"),
        ("slim", "resnet_v1_50", {"output_stride": 16}, "Slim has no resnet_v1_50 with output_stride=16"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_says_why(target, model_name, changes, reason):
    with pytest.raises(UserError, match=reason):
        check(target, model_name, **changes)


def test_what_a_network_says_of_itself_can_be_written():
    """All of its settings, not only those that tests think of."""
    settings = nets_factory.create_model("resnet_v1_18", 10, root_pool_padding="symmetric").settings
    FORMATS["torchvision"].check_target(places.structure_of("resnet_v1_18"), settings, 224)


@pytest.mark.parametrize("name", ["resnet_v1_18", "resnet_v2_18", "resnet_cifar_v1_20", "resnet_cifar_v2_20"])
@pytest.mark.parametrize("projections", ["where_shapes_differ", "every_first_unit"])
def test_places_hold_just_the_variables_of_a_network(name, projections):
    structure = places.structure_of(name)
    shortcut = {"shortcut": "projection"} if structure.cifar else {}
    model = nets_factory.create_model(name, 10, projections=projections, **shortcut)
    listed = [
        places.variable_name(structure, place, quantity)
        for place in places.list_places(structure, projections)
        for quantity in places.quantities(structure, place)
    ]
    assert sorted(listed) == sorted(model.variables_by_name)
