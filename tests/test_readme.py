"""The README's table of networks says what the networks are."""

import json
import pathlib
import re

import pytest

from nets import nets_factory

ROOT = pathlib.Path(__file__).parents[1]
ROWS = {
    name: (int(pixels), int(classes), int(parameters.replace(",", "")), multiply_adds, unit)
    for name, pixels, classes, parameters, multiply_adds, unit in re.findall(
        r"^\| `(\w+)` \| (\d+) \| (\d+) \| ([\d,]+) \| ([\d.]+) ([GM]) \|$", (ROOT / "README.md").read_text(), re.M
    )
}


def test_each_network_has_a_row_with_its_golden_count():
    assert list(ROWS) == list(nets_factory.NETWORKS)
    for name, (pixels, classes, parameters, _, _) in ROWS.items():
        golden = json.loads((ROOT / "tests/nets/golden" / f"{name}.json").read_text())
        assert (classes, parameters) == (golden["num_classes"], golden["trainable_parameters"]), name
        assert pixels == nets_factory.NETWORKS[name].default_image_size, name


def quick(name):
    return name.endswith(("_18", "_20", "_50"))


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if quick(name) else pytest.mark.slow) for name in ROWS])
def test_multiply_adds_of_a_row(name):
    pixels, classes, _, multiply_adds, unit = ROWS[name]
    counted = nets_factory.create_model(name, classes).multiply_adds(pixels)
    digits = len(multiply_adds.partition(".")[2])
    assert f"{counted / {'G': 1e9, 'M': 1e6}[unit]:.{digits}f}" == multiply_adds
