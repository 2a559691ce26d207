"""The description of a network: its sums are the model's own, its rows the paper's."""

import io

import pytest
import rich.console

from command_line import UserError
from nets import nets_factory
from reports import network_table

QUICK = ["resnet_v2_18", "resnet_cifar_v1_20"]


def rows_of(description):
    return {row["name"]: row for row in description["rows"]}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in nets_factory.NETWORKS]
)
def test_sums_are_those_of_the_model(name):
    description = network_table.describe(name)
    model = nets_factory.create_model(name, description["num_classes"])
    parameters = sum(variable.shape.num_elements() for variable in model.trainable_variables)
    assert description["parameters"] == parameters
    assert description["multiply_adds"] == model.multiply_adds(description["image_size"])


def test_50_layers_are_the_papers_table():
    # Table 1 of arXiv:1512.03385, with Slim's stride in the last unit of a block.
    description = network_table.describe("resnet_v1_50")
    rows = rows_of(description)
    assert (description["image_size"], description["num_classes"]) == (224, 1000)
    assert [rows[name]["output"] for name in ("conv1", "pool1")] == [[112, 112, 64], [56, 56, 64]]
    counts = [sum(name.startswith(f"block{number}/") for name in rows) for number in (1, 2, 3, 4)]
    assert counts == [3, 4, 6, 3]
    assert [rows[f"block{number}/unit_1"]["output"] for number in (1, 2, 3, 4)] == [
        [56, 56, 256],
        [28, 28, 512],
        [14, 14, 1024],
        [7, 7, 2048],
    ]
    unit = rows["block3/unit_2"]
    assert [(layer["kernel"], layer["channels"], layer["stride"]) for layer in unit["layers"]] == [
        (1, 256, 1),
        (3, 256, 1),
        (1, 1024, 1),
    ]
    # 1024 x 256 + 9 x 256 x 256 + 256 x 1024 weights, and two numbers for each channel of a norm.
    assert unit["parameters"] == 1024 * 256 * 2 + 9 * 256 * 256 + 2 * (256 + 256 + 1024)
    assert unit["multiply_adds"] == 14 * 14 * (1024 * 256 * 2 + 9 * 256 * 256)
    assert (unit["shortcut"], rows["block3/unit_1"]["shortcut"]) == ("identity", "projection")
    assert (rows["block3/unit_6"]["stride"], rows["block3/unit_6"]["output_stride"]) == (2, 32)
    assert rows["block4/unit_3"]["receptive_field"] == 483
    assert rows["global_pool"]["receptive_field"] is None


def test_20_layers_by_hand():
    rows = rows_of(network_table.describe("resnet_cifar_v1_20"))
    assert list(rows)[:2] == ["conv1", "block1/unit_1"]
    assert rows["block2/unit_1"]["shortcut"] == "identity_pad"
    assert rows["block2/unit_1"]["input"] == [32, 32, 16]
    assert rows["block2/unit_1"]["output"] == [16, 16, 32]
    assert rows["block2/unit_1"]["multiply_adds"] == 16 * 16 * 9 * (16 * 32 + 32 * 32)
    assert rows["logits"]["parameters"] == 64 * 10 + 10


def test_image_size_and_classes_are_heeded():
    description = network_table.describe("resnet_v2_18", image_size=65, num_classes=7)
    rows = rows_of(description)
    assert rows["block4/unit_2"]["output"] == [3, 3, 512]
    assert rows["logits"]["output"] == [1, 1, 7]
    assert rows["postnorm"]["parameters"] == 2 * 512


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("resnet_v3_50",), "unknown network 'resnet_v3_50'; known: resnet_v1_18"),
        (("resnet_v1_18", 0), "--image_size is 0, expected at least 1"),
        (("resnet_v1_18", None, -1), "--num_classes is -1, expected at least 1"),
    ],
)
def test_bad_flags_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        network_table.describe(*arguments)


def test_the_table_shows_every_row_and_the_sums():
    description = network_table.describe("resnet_cifar_v1_20")
    text = io.StringIO()
    network_table.print_table(description, rich.console.Console(file=text, width=140))
    lines = text.getvalue().splitlines()
    for row in description["rows"]:
        assert any(line.split()[:1] == [row["name"]] for line in lines), row["name"]
    (total,) = [line for line in lines if line.split()[:1] == ["total"]]
    assert total.split() == ["total", "269,722", "40,551,040"]
    (unit,) = [line for line in lines if "block2/unit_1" in line]
    assert "3x3 32 /2, 3x3 32" in unit and "identity_pad" in unit and "16x16x32" in unit


def test_a_narrow_terminal_gets_whole_rows():
    text = io.StringIO()
    network_table.print_table(network_table.describe("resnet_v2_18"), rich.console.Console(file=text, width=80))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in text.getvalue()
    assert any(line.split() == ["total", "11.7", "M", "1.81", "G"] for line in lines)
