"""The schematic: which units are drawn as one, and that every map has its size beside it."""

import pathlib
import re
import subprocess
import sys

import pytest
from PIL import Image

from reports import network_drawing, network_table

ROOT = pathlib.Path(__file__).parents[2]


def units(description, block):
    return [row for row in description["rows"] if row["name"].startswith(f"{block}/")]


def titles(rows):
    return [group.title for group in network_drawing.groups_of(rows)]


def test_units_that_are_alike_are_drawn_once():
    description = network_table.describe("resnet_v1_50")
    assert titles(units(description, "block1")) == ["unit 1", "unit 2", "unit 3"]
    assert titles(units(description, "block3")) == ["unit 1", "units 2 to 5   × 4", "unit 6"]
    assert titles(units(description, "block4")) == ["unit 1", "units 2 to 3   × 2"]
    cifar = network_table.describe("resnet_cifar_v1_20")
    assert titles(units(cifar, "block1")) == ["units 1 to 3   × 3"]


@pytest.fixture(scope="module")
def description():
    return network_table.describe("resnet_cifar_v2_20")


def test_every_unit_and_shortcut_has_its_size(description, tmp_path):
    network_drawing.draw(description, tmp_path / "net.svg")
    # Matplotlib draws letters as shapes, with the text beside them as a comment.
    texts = re.findall("<!-- (.*?) -->", (tmp_path / "net.svg").read_text(encoding="utf-8"), re.S)
    for block, size, groups in (("block1", "32×32×16", 1), ("block2", "16×16×32", 2), ("block3", "8×8×64", 2)):
        assert block in texts
        # Each group of units: once below its sum, once at its shortcut.
        assert sum(size in text for text in texts) >= 2 * groups, size
    assert any(text.startswith("resnet_cifar_v2_20: 32 × 32 pixels, 10 classes, 269,722 param") for text in texts)


def test_equal_networks_give_equal_files(description, tmp_path):
    for name in ("a.svg", "b.svg"):
        network_drawing.draw(description, tmp_path / name)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.svg", "b.svg"]
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_png_is_large_enough_to_read(description, tmp_path):
    network_drawing.draw(description, tmp_path / "net.png")
    with Image.open(tmp_path / "net.png") as image:
        assert image.size[0] > 1500


def describe(*arguments):
    command = [sys.executable, str(ROOT / "describe_network.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_the_script_prints_a_table_and_writes_both_files(tmp_path):
    flags = ["--model_name=resnet_cifar_v1_20", f"--output={tmp_path}/net.svg", f"--json={tmp_path}/net.json"]
    run = describe(*flags)
    assert (run.returncode, run.stderr) == (0, "")
    assert re.search(r"total +269,722 +40,551,040", run.stdout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.json", "net.svg"]
    again = describe(*flags)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == f"error: {tmp_path}/net.svg exists already: give another --output, or --overwrite\n"


def test_an_unknown_form_is_refused(tmp_path):
    run = describe(f"--output={tmp_path}/net.doc")
    assert run.stderr == f"error: --output is {tmp_path}/net.doc, expected a name that ends in .svg, .png, .pdf\n"
