"""The script as a user runs it."""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys

from exporting.config import ExportConfig

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments, **environment):
    command = [sys.executable, "export_model.py", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=240, check=False
    )


def test_help_lists_every_flag():
    done = run("--help", COLUMNS="200")
    assert done.returncode == 0
    flags = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", done.stdout))
    assert {f"--{field.name}" for field in dataclasses.fields(ExportConfig)} <= flags


def test_output_errors_and_figures(cifar_v1, tmp_path):
    output, figures = tmp_path / "new" / "model", tmp_path / "figures.json"
    flags = [f"--checkpoint_path={cifar_v1}", "--format=saved_model", f"--output={output}", "--num_images=5"]
    done = run(*flags, f"--json={figures}")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"resnet_cifar_v1_20 from {cifar_v1}/model.ckpt-1 as saved_model, float32, norms folded"
    assert "out  probabilities float32 [batch, 10]" in lines
    assert (
        "compared in tensorflow 2." in done.stdout
        and "on 5 images of split test of toy, batches of 1, 3" in done.stdout
    )
    assert re.search(
        r"^top-1 0\.\d{4} in the checkpoint, 0\.\d{4} in the export: \+0\.0000$", done.stdout, re.MULTILINE
    )
    result = json.loads(figures.read_text(encoding="utf-8"))
    assert result["output"] == str(output) and result["comparison"]["outputs"]["logits"]["relative"] < 1e-5
    assert result["bytes"] == sum(path.stat().st_size for path in output.rglob("*") if path.is_file())

    again = run(*flags)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == f"error: {output} exists: name another --output, or replace it with --overwrite\n"
    assert sorted(path.name for path in output.parent.iterdir()) == ["model"]
