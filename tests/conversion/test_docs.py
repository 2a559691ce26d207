"""The commands of docs/data.md work as they stand."""

import json
import re
import shlex
from pathlib import Path

import pytest
import tyro

import download_and_convert_data
from data import catalog
from training.config import TrainConfig

TEXT = (Path(download_and_convert_data.__file__).parent / "docs" / "data.md").read_text()
COMMANDS = [shlex.split(line)[1:] for line in TEXT.splitlines() if line.startswith("python ")]
CONFIGS = {
    "download_and_convert_data.py": download_and_convert_data.ConvertConfig,
    "train_image_classifier.py": TrainConfig,
}


def parse(command):
    return tyro.cli(CONFIGS[command[0]], args=command[1:], use_underscores=True)


def test_commands_in_their_order(tmp_path, monkeypatch, files_of):
    pytest.importorskip("apache_beam", reason="needs the slim-resnets[beam] extra")
    monkeypatch.chdir(tmp_path)
    before, after = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    names = {}
    exec(compile(before.replace('"train", lambda', '"test", lambda'), "data.md", "exec"), names)
    configs = [parse(command) for command in COMMANDS]
    assert [type(config) for config in configs].count(TrainConfig) == 1 and len(configs) == 7
    for config in configs:
        if not isinstance(config, TrainConfig):
            download_and_convert_data.main(config)
    assert catalog.open_dataset(directory="records/photos").num_classes == 10
    assert json.loads(Path("photos.json").read_text())["duplicates_across"] == []
    parts, beam = files_of(Path("records/parts")), files_of(Path("records/beam"))
    del parts["dataset.json"], beam["dataset.json"]  # Holds the folder's name.
    assert parts == beam and len(parts) == 10
    described = catalog.open_dataset(directory="records/photos")
    exec(compile(after, "data.md", "exec"), names)
    again = catalog.open_dataset(directory="records/photos")
    assert (again.splits, again.class_names) == (described.splits, described.class_names)
    assert again.files("train") == described.files("train")


def test_the_description_of_own_records_is_one(tmp_path):
    (example,) = re.findall(r"```json\n(.*?)```", TEXT, re.S)
    (tmp_path / "dataset.json").write_text(example)
    dataset = catalog.open_dataset(directory=tmp_path)
    assert dataset.num_classes == 5 and dataset.num_records("train") == 3320


def test_every_converter_has_its_row():
    from data.conversion.converters import CONVERTERS

    rows = TEXT.partition("## What can be converted")[2].partition("What is fetched")[0]
    first_cells = "".join(line.split("|")[1] for line in rows.splitlines() if line.startswith("| `"))
    assert re.findall(r"`(\w+)`", first_cells.replace("`--dataset_name`", "")) == list(CONVERTERS)
