"""The commands and the code of docs/*.md are run, as a reader of the page would.

A page runs from top to bottom in an empty folder that looks like this repository: its scripts and `data/` are there,
and besides

    runs/digits-resnet_cifar_v1_20/   a network trained by TRAINING, below
    photos/<class>/<number>.png       the first twelve of the handwritten digits as image files, as data.md makes them
    downloads/, records/cifar10/      for weights.md, see docs_files.py

The first word behind the three backticks decides:

    python   runs; all such blocks of a page share their names
    sh       runs line by line (a backslash continues a line); each command has to end with status 0
    console  lines behind "$ " run like sh, the others are output
    text     is not run: other systems' commands, output, and what needs something that a test cannot have

A block without a word is not run either. Words that follow and begin with -- are added to each python command of the
block, so that a page can show a full training and its test runs two steps: "sh --max_number_of_steps=2". `extra=NAME`
runs the block only where the module NAME can be imported, and `slow` only among the slow tests.
"""

import importlib.util
import io
import os
import pathlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest
import tensorflow as tf

from data import catalog

ROOT = pathlib.Path(__file__).parents[1]
# Not run here: data.md has a test beside its code.
OTHERS = ("data",)
# Run among the default tests, without their slow blocks; the slow tests run every page whole.
QUICK = ("input", "slim", "tensorflow2")
PAGES = [page for page in sorted((ROOT / "docs").glob("*.md")) if page.stem not in OTHERS]
TRAINING = "python train_image_classifier.py --model_name=resnet_cifar_v1_20 --num_epochs=1 --learning_rate=0.1"
PREPARED = "runs/digits-resnet_cifar_v1_20"


class Block(NamedTuple):
    """A fenced block: its kind, the other words of its first line, its text, the line it begins at."""

    kind: str
    words: list
    text: str
    line: int


def blocks_of(text):
    """The fenced blocks of a page."""
    found = []
    for match in re.finditer(r"^```(\S*)[ \t]*(.*?)\n(.*?)^```$", text, re.M | re.S):
        line = text[: match.start()].count("\n") + 1
        found.append(Block(match[1], match[2].split(), match[3], line))
    return found


def commands_of(block):
    """The commands of a block, with what the page adds for tests."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.kind == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    added = [word for word in block.words if word.startswith("--")]
    commands = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    return [" ".join([line, *added]) if line.startswith("python ") else line for line in commands]


def run_command(command, folder):
    """Runs a command in a folder; a plain call of a script in this process, which has TensorFlow loaded already."""
    words = shlex.split(command)
    if words[0] == "python" and words[1].endswith(".py") and not set("|<>;&*$") & set(command):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ending:
            patch.chdir(folder)
            patch.setattr(sys, "argv", words[1:])
            runpy.run_path(str(ROOT / words[1]), run_name="__main__")
        assert ending.value.code in (0, None), command
        return
    given, _, script = command.partition(" | ")
    if script.startswith("python ") and not set("|<>;&*$") & set(script):
        data = subprocess.run(["bash", "-c", given], cwd=folder, check=True, capture_output=True).stdout
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
            run_command(script, folder)
        return
    environment = os.environ | {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder that pages start from; not to be changed."""
    folder = tmp_path_factory.mktemp("prepared")
    run_command(TRAINING, folder)
    digits = catalog.open_dataset("digits")
    stream = tf.data.TFRecordDataset(digits.files("train")).take(12)
    for number, record in enumerate(stream.as_numpy_iterator()):
        feature = tf.train.Example.FromString(record).features.feature
        name = digits.class_names[feature["image/class/label"].int64_list.value[0]]
        path = folder / "photos" / name / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(feature["image/encoded"].bytes_list.value[0])
    return folder


@pytest.fixture
def workplace(prepared, tmp_path):
    """A copy of it, with links to what is in the repository, and a `python` that is this one."""
    folder = tmp_path / "repository"
    shutil.copytree(prepared, folder)
    for path in [*ROOT.glob("*.py"), ROOT / "data", ROOT / "benchmarks"]:
        (folder / path.name).symlink_to(path)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (folder / "bin" / "python").chmod(0o755)
    return folder


def importable(block):
    return all(importlib.util.find_spec(word[6:]) for word in block.words if word.startswith("extra="))


def run_page(page, folder, monkeypatch, slow):
    """Runs the blocks of a page; returns the names that its Python blocks left."""
    monkeypatch.chdir(folder)
    names = {"__name__": "__main__"}
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if not importable(block) or ("slow" in block.words and not slow):
            continue
        if block.kind == "python":
            # Empty lines in front, so that a traceback names the line of the page.
            exec(compile("\n" * block.line + block.text, page, "exec"), names)
        elif block.kind in ("sh", "console"):
            for command in commands_of(block):
                run_command(command, folder)
    return names


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem in QUICK], ids=lambda page: page.stem)
def test_a_page_runs(page, workplace, monkeypatch):
    run_page(page, workplace, monkeypatch, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_with_its_slow_blocks(page, workplace, monkeypatch):
    if page.stem == "weights":
        pytest.importorskip("torch", reason="PyTorch is the optional [torch] extra")
        import docs_files

        docs_files.make_foreign_files(workplace)
    run_page(page, workplace, monkeypatch, slow=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_says_what_it_is(page):
    text = page.read_text(encoding="utf-8")
    kinds = {block.kind for block in blocks_of(text)}
    assert kinds <= {"", "python", "sh", "console", "text", "json"}
    assert text.count("```") == 2 * len(blocks_of(text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_to_files_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", prose):
        assert (page.parent / target).exists(), target


def test_commands_are_found_and_shortened():
    text = (
        "```sh --steps=2\npython a.py \\\n  --b=1\n# a remark\nls -l\n```\n\n```console\n$ python c.py\nprinted\n```\n"
    )
    shell, console = blocks_of(text)
    assert commands_of(shell) == ["python a.py    --b=1 --steps=2", "ls -l"]
    assert (commands_of(console), console.line) == (["python c.py"], 8)
