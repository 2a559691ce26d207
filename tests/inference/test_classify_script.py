"""classify_images.py as a user runs it."""

import csv
import io
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def classify(*arguments, **options):
    command = [sys.executable, str(ROOT / "classify_images.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, **options)


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


def test_csv_from_paths_on_stdin(checkpoint, _photos):
    run = classify(f"--checkpoint_path={checkpoint}", "--format=csv", "-", input="a.png\nb.jpg\n", cwd=_photos)
    assert (run.returncode, run.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(run.stdout)))
    assert [(row["image"], row["rank"]) for row in rows[4:6]] == [("a.png", "5"), ("b.jpg", "1")]
    assert list(rows[0]) == ["image", "rank", "class_id", "name", "probability"]


def test_a_bad_flag_is_one_line(checkpoint, tmp_path):
    run = classify(f"--checkpoint_path={checkpoint}", tmp_path)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(f"error: folder {tmp_path} holds no image: expected files that end in")
    assert run.stderr.count("\n") == 1
