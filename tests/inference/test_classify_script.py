"""classify_images.py as a user runs it."""

import csv
import io
import json
import os
import pathlib
import subprocess
import sys

import pytest
from inference_toys import NAMES, write_checkpoint

from nets import nets_factory

ROOT = pathlib.Path(__file__).parents[2]


def classify(*arguments, **options):
    command = [sys.executable, str(ROOT / "classify_images.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, **options)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of the smallest network of the table: a process of its own knows no smaller one."""
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, nets_factory.create_model("resnet_cifar_v1_20", len(NAMES)), NAMES)
    return folder


@pytest.fixture(scope="module")
def with_bad_image(checkpoint, tmp_path_factory, _photos):
    bad = tmp_path_factory.mktemp("bad") / "bad.png"
    bad.write_text("junk")
    return checkpoint, _photos / "a.png", bad


def test_json_stays_whole_beside_a_bad_image(with_bad_image):
    checkpoint, good, bad = with_bad_image
    run = classify(f"--checkpoint_path={checkpoint}", "--format=json", "--top_k=2", bad, good)
    (result,) = json.loads(run.stdout)
    assert (run.returncode, result["image"], len(result["predictions"])) == (1, str(good), 2)
    assert set(result["predictions"][0]) == {"class_id", "name", "probability"}
    first, second = run.stderr.splitlines()
    assert first.startswith(f"warning: {bad}: no image that can be read")
    assert second == "error: 1 of 2 images could not be read"


def test_names_that_are_no_text_come_out(checkpoint, _photos, tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(path, "wb") as file:
        file.write((_photos / "a.png").read_bytes())
    run = classify(f"--checkpoint_path={checkpoint}", "--format=json", f"--explain={tmp_path}/seen", tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    (result,) = json.loads(run.stdout)
    assert os.fsencode(result["image"]) == path
    assert os.listdir(os.fsencode(tmp_path / "seen")) == [b"caf\xe9.png"]


def test_csv_from_paths_on_stdin(checkpoint, _photos):
    run = classify(f"--checkpoint_path={checkpoint}", "--format=csv", "-", input="a.png\nb.jpg\n", cwd=_photos)
    assert (run.returncode, run.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(run.stdout)))
    assert [(row["image"], row["rank"]) for row in rows[4:6]] == [("a.png", "5"), ("b.jpg", "1")]
    assert list(rows[0]) == ["image", "rank", "class_id", "name", "probability"]
