"""Variable names, shapes and parameter counts of every network.

Three sources are held against each other: the golden lists in golden/, the networks themselves, and `from_the_papers`,
which derives the lists from the papers' tables and Slim's naming. The totals are those published elsewhere.
"""

import pytest
import tensorflow as tf
import tf_slim as slim
import tf_slim.nets.resnet_v1 as reference_v1
import tf_slim.nets.resnet_v2 as reference_v2
from make_golden import GOLDEN, asked_for, count, num_classes_of, read, variables_of
from reference_batch_norm import plain_batch_norm

from nets.nets_factory import NETWORKS

UNITS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}

# Trainable parameters at 1000 classes (CIFAR: 10), moving statistics, model variables.
# v1 and v2 50 to 200: research/slim. v1 18 and 34: torchvision's resnet18 and resnet34 (its resnet50 to 152 agree with
# v1 too). v2 18 and 34: the official TensorFlow models' 11,691,816 and 21,799,976, less the 64 * 64 weights of the
# projection in their first unit, with the biases that Slim gives to convolutions without a norm (2,880 and 4,736 by
# hand: root 64, second convolutions 1,920 and 3,776, projections 896). CIFAR: the sums of the paper's layers.
PUBLISHED = {
    "resnet_v1_18": (11_689_512, 9_600, None),
    "resnet_v1_34": (21_797_672, 17_024, None),
    "resnet_v1_50": (25_557_032, 53_120, 267),
    "resnet_v1_101": (44_549_160, 105_344, None),
    "resnet_v1_152": (60_192_808, 151_424, None),
    "resnet_v1_200": (64_673_832, 176_000, None),
    "resnet_v1_5_50": (25_557_032, 53_120, 267),
    "resnet_v1_5_101": (44_549_160, 105_344, None),
    "resnet_v1_5_152": (60_192_808, 151_424, None),
    "resnet_v1_5_200": (64_673_832, 176_000, None),
    "resnet_v2_18": (11_691_816 - 4_096 + 2_880, 7_808, None),
    "resnet_v2_34": (21_799_976 - 4_096 + 4_736, 15_232, None),
    "resnet_v2_50": (25_568_360, 45_440, 272),
    "resnet_v2_101": (44_577_896, 97_664, None),
    "resnet_v2_152": (60_236_904, 143_744, None),
    "resnet_v2_200": (64_726_120, 168_320, None),
    "resnet_cifar_v1_20": (269_722, 1_376, None),
    "resnet_cifar_v1_32": (464_154, 2_272, None),
    "resnet_cifar_v1_44": (658_586, 3_168, None),
    "resnet_cifar_v1_56": (853_018, 4_064, None),
    "resnet_cifar_v1_110": (1_727_962, 8_096, None),
    "resnet_cifar_v2_20": (269_722, 1_376, None),
    "resnet_cifar_v2_32": (464_154, 2_272, None),
    "resnet_cifar_v2_44": (658_586, 3_168, None),
    "resnet_cifar_v2_56": (853_018, 4_064, None),
    "resnet_cifar_v2_110": (1_727_962, 8_096, None),
}


def by_depth(names):
    """The names as parameters; building more than 50 layers takes seconds, so those are slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] if int(name.rsplit("_", 1)[1]) > 50 else []) for name in names]


# The papers' tables.


def norm(scope, channels):
    roles = {"gamma": True, "beta": True, "moving_mean": False, "moving_variance": False}
    return {f"{scope}/{name}": ((channels,), trainable) for name, trainable in roles.items()}


def conv(scope, size, channels, filters, normed, biased):
    """A convolution: with a norm and no bias, or with a bias where `biased`."""
    variables = {f"{scope}/weights": ((size, size, channels, filters), True)}
    if normed:
        return variables | norm(f"{scope}/BatchNorm", filters)
    return variables | ({f"{scope}/biases": ((filters,), True)} if biased else {})


def from_the_papers(name, projections="where_shapes_differ", shortcut="projection"):
    """Name -> (shape, trainable) of a network's variables, from its name."""
    cifar, v2, depth = "_cifar_" in name, "_v2_" in name, int(name.rsplit("_", 1)[1])
    if cifar:
        units, channels, widths, root_size, shortcut = [(depth - 2) // 6] * 3, 16, (16, 32, 64), 3, shortcut
    else:
        units, channels, widths, root_size = UNITS[depth], 64, (64, 128, 256, 512), 7
    bottleneck = depth >= 50 and not cifar
    kind = f"{'bottleneck' if bottleneck else 'basic'}_{'v2' if v2 else 'v1'}"
    biased = not cifar  # where no norm follows

    variables = conv("conv1", root_size, 3, channels, not v2, biased)
    for block, (num_units, width) in enumerate(zip(units, widths, strict=True), 1):
        depth_out = 4 * width if bottleneck else width
        for unit in range(1, num_units + 1):
            scope = f"block{block}/unit_{unit}/{kind}"
            if v2:
                variables |= norm(f"{scope}/preact", channels)
            always = projections == "every_first_unit" and unit == 1
            if (channels != depth_out or always) and shortcut == "projection":
                variables |= conv(f"{scope}/shortcut", 1, channels, depth_out, not v2, biased)
            if bottleneck:
                variables |= conv(f"{scope}/conv1", 1, channels, width, True, biased)
                variables |= conv(f"{scope}/conv2", 3, width, width, True, biased)
                variables |= conv(f"{scope}/conv3", 1, width, depth_out, not v2, biased)
            else:
                variables |= conv(f"{scope}/conv1", 3, channels, width, True, biased)
                variables |= conv(f"{scope}/conv2", 3, width, width, not v2, biased)
            channels = depth_out
    if v2:
        variables |= norm("postnorm", channels)
    return variables | conv("logits", 1, channels, num_classes_of(name), normed=False, biased=True)


# Golden lists.


def test_every_network_has_a_golden_list_and_published_counts():
    assert set(NETWORKS) == {path.stem for path in GOLDEN.glob("*.json")} == set(PUBLISHED)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_golden_list_is_that_of_the_papers(name):
    shortcut = "identity_pad" if "_cifar_" in name else "projection"
    variables, golden = read(name)
    assert variables == from_the_papers(name, shortcut=shortcut)
    assert golden["network"] == name


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_golden_counts_are_the_published_ones(name):
    parameters, statistics, num_variables = PUBLISHED[name]
    variables, golden = read(name)
    assert (count(variables, True), count(variables, False)) == (parameters, statistics)
    assert (golden["trainable_parameters"], golden["moving_statistics"]) == (parameters, statistics)
    if num_variables:
        assert len(variables) == num_variables


@pytest.mark.parametrize("name", by_depth(NETWORKS))
def test_network_has_the_variables_of_its_golden_list(name):
    variables, golden = read(name)
    assert variables_of(name, golden["num_classes"]) == variables


# Layouts of the other systems.


@pytest.mark.parametrize(
    "name, parameters",
    [
        # Counts of the official TensorFlow models, whose first units always project.
        ("resnet_v1_18", 11_693_736),
        ("resnet_v1_5_50", 25_557_032),
        ("resnet_v2_18", 11_691_816),
        ("resnet_v2_50", 25_549_352),
        ("resnet_cifar_v1_20", 272_762),
        ("resnet_cifar_v2_20", 272_538),
        pytest.param("resnet_v1_34", 21_801_896, marks=pytest.mark.slow),
        pytest.param("resnet_v2_34", 21_799_976, marks=pytest.mark.slow),
        pytest.param("resnet_cifar_v1_110", 1_731_002, marks=pytest.mark.slow),
        pytest.param("resnet_cifar_v2_110", 1_730_778, marks=pytest.mark.slow),
    ],
)
def test_official_models_fit_the_layout_of_theirs(name, parameters):
    arguments = {"projections": "every_first_unit"} | ({"shortcut": "projection"} if "_cifar_" in name else {})
    variables = variables_of(name, **arguments)
    assert variables == from_the_papers(name, projections="every_first_unit")
    # They have no biases but that of the logits.
    biases = {key: value for key, value in variables.items() if key.endswith("biases") and key != "logits/biases"}
    assert count(variables, True) - count(biases, True) == parameters


@pytest.mark.parametrize(
    "name, parameters",
    [
        # Two projections, 16 to 32 and 32 to 64; v1 has a norm (gamma, beta) on each.
        ("resnet_cifar_v1_20", 269_722 + (16 * 32 + 64) + (32 * 64 + 128)),
        ("resnet_cifar_v2_20", 269_722 + 16 * 32 + 32 * 64),
    ],
)
def test_cifar_projections_where_shapes_differ(name, parameters):
    variables = variables_of(name, shortcut="projection")
    assert variables == from_the_papers(name, shortcut="projection")
    assert count(variables, True) == parameters


@pytest.mark.parametrize("arguments", [{"shortcut": "avg_pool_pad"}, {"shortcut_connections": False}], ids=str)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_cifar_shortcuts_without_parameters(version, arguments):
    name = f"resnet_cifar_{version}_20"
    assert variables_of(name, **arguments) == read(name)[0]


@pytest.mark.parametrize("stride_placement", ["last_unit", "first_unit"])
@pytest.mark.parametrize("name", ["resnet_v1_18", "resnet_v2_18"])
def test_the_place_of_the_stride_does_not_show_in_the_variables(name, stride_placement):
    assert variables_of(name, stride_placement=stride_placement) == read(name)[0]


def test_classes_show_in_the_logits_only(name="resnet_v2_18"):
    golden = read(name)[0]
    more = dict(golden, **{"logits/weights": ((1, 1, 512, 1001), True), "logits/biases": ((1001,), True)})
    assert variables_of(name, 1001) == more


# tf-slim's own networks.


@pytest.mark.parametrize("name", by_depth([f"resnet_{v}_{d}" for v in ("v1", "v2") for d in (50, 101, 152, 200)]))
def test_golden_list_is_that_of_tf_slim(name, monkeypatch):
    plain_batch_norm(monkeypatch)
    module = reference_v1 if "_v1_" in name else reference_v2

    def build():
        with slim.arg_scope(module.resnet_arg_scope()):
            getattr(module, name)(tf.zeros([1, 64, 64, 3]), 1000, is_training=False)

    assert asked_for(build, name) == read(name)[0]
