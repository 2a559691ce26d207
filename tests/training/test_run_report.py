"""The page that a run leaves, as it is on disk and as a browser shows it."""

import dataclasses
import html.parser
import os
import re
import shutil
import signal

import browser
import numpy as np
import pytest
import training_toys
from PIL import Image

import command_line
from command_line import UserError
from reports import run_report
from training import loop
from training.evaluate_checkpoint import EvalConfig, evaluate_checkpoint

REPORTS = True
FIGURES = {"loss.png", "accuracy.png", "learning_rate.png", "time.png", "confusion_matrix.png", "mistakes.png"}
WIDTH, HEIGHT = 1100, 4000
# What a browser tells when the page runs this: whether each picture was drawn, and what is wider than the window.
PROBE = """<script>
document.body.dataset.pictures = [...document.images].filter(image => image.naturalWidth > 0).length;
document.body.dataset.overflow = document.documentElement.scrollWidth - innerWidth;
document.body.dataset.headings = [...document.querySelectorAll("h2")].map(heading => heading.innerText).join("|");
document.body.dataset.flags = document.querySelector("#config details").open;
</script>"""


class Page(html.parser.HTMLParser):
    """The words of a page, its pictures and its tables."""

    def __init__(self, text):
        super().__init__()
        self.words, self.sources, self.rows = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.sources.append(dict(attributes)["src"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        self.words.append(data)
        if self.rows and self.rows[-1] and self.lasttag in ("td", "th"):
            self.rows[-1][-1] += data.strip()


@pytest.fixture(scope="module")
def run(toy_dir, tmp_path_factory):
    """(config, result) of a finished run with mistakes; its folder is not to be changed."""
    config = training_toys.toy_config(toy_dir, tmp_path_factory.mktemp("report") / "run", learning_rate=1e-4)
    result = loop.train(config)
    assert 0 < result.evaluation["top_1"] < 1  # There is something to show.
    return config, result


@pytest.fixture(scope="module")
def page(run):
    return Page((run[0].train_dir / run_report.FILE).read_text(encoding="utf-8"))


def test_a_page_stands_alone(run):
    text = (run[0].train_dir / run_report.FILE).read_text(encoding="utf-8")
    assert "<script" not in text and "http" not in re.sub(r"data:image/png;base64,[^\"]*", "", text)
    sources = Page(text).sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    # Five figures, and a picture for each mistake.
    assert len(sources) == 5 + round(training_toys.TEST_COUNT * (1 - run[1].evaluation["top_1"]))
    assert not list(run[0].train_dir.rglob("*.part"))


def test_figures_are_pictures_of_their_own(run):
    folder = run[0].train_dir / "figures"
    assert {path.name for path in folder.iterdir()} == FIGURES
    for path in folder.iterdir():
        with Image.open(path) as image:
            assert min(image.size) > 200
            assert len(np.unique(np.asarray(image.convert("L")))) > 10, path.name


def test_a_page_says_what_the_run_measured(run, page):
    config, result = run
    words = " ".join(page.words)
    assert f"{training_toys.TINY} on toy" in words and "Finished: 11 steps (2.0 epochs)" in words
    evaluation = result.evaluation
    for name in ("top_1", "top_5", "cross_entropy"):
        assert f"{evaluation[name]:.4f}" in words
    for row in evaluation["per_class"]:
        assert [str(row["class_id"]), row["name"], str(row["count"]), f"{row['top_1']:.4f}"] in [
            cells[:4] for cells in page.rows
        ]
    assert ["--learning_rate", "0.0001"] in page.rows and ["--optimizer", "momentum"] in page.rows
    assert any(row[0] == "cpu" and "model" in row[1] for row in page.rows if len(row) == 2)
    phases = {row[0]: row for row in page.rows if len(row) == 5}
    shares = [float(phases[name][3].removesuffix(" %")) for name in ("start", "input", "step", "checkpoint")]
    assert all(share > 0 for share in shares) and sum(shares) < 100


def test_a_run_that_diverged_leaves_one_too(toy_dir, tmp_path):
    config = training_toys.toy_config(
        toy_dir, tmp_path, learning_rate=1e20, learning_rate_decay_type="constant", log_every_n_steps=100
    )
    with pytest.raises(UserError, match="the loss is"):
        loop.train(config)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Not at its end: about step 1 of 11" in " ".join(page.words)


def test_an_evaluator_writes_a_page_of_its_own(run, tmp_path):
    config, result = run
    evaluation = dataclasses.replace(EvalConfig(config.train_dir), batch_size=4, report=tmp_path / "alone.html")
    evaluate_checkpoint(evaluation)
    assert [path.name for path in tmp_path.iterdir()] == ["alone.html"]
    evaluate_checkpoint(dataclasses.replace(evaluation, report=tmp_path / "folder"))
    folder = tmp_path / "folder"
    assert {path.name for path in (folder / "figures").iterdir()} == {"confusion_matrix.png", "mistakes.png"}
    pages = [path.read_text(encoding="utf-8") for path in (tmp_path / "alone.html", folder / "report.html")]
    assert pages[0] == pages[1]
    words = " ".join(Page(pages[0]).words)
    assert f"{training_toys.TINY} on toy" in words and "13 images scored once" in words
    assert f"{result.evaluation['top_1']:.4f}" in words


def test_an_interrupted_run_has_a_page_too(toy_dir, tmp_path, monkeypatch):
    """After two steps: no log line but the last, no evaluation."""
    config = training_toys.toy_config(toy_dir, tmp_path / "run")

    def shown(progress, done):
        if done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop.Progress, "step", shown)
    assert loop.train(config).step == 2
    words = " ".join(Page((config.train_dir / run_report.FILE).read_text(encoding="utf-8")).words)
    assert "Not at its end: about step 2 of 11" in words and "has not been scored yet" in words


def test_a_run_that_was_shortened_is_finished():
    """run.json is of the process that trained last, and says how long the run was to be then."""
    noted, numbers = {"step": 4, "finished": True}, {"total_steps": 100, "steps_per_epoch": 2.0}
    flags = {"stop_at_top_1": None}
    assert run_report._state([], noted, numbers, flags) == "Finished: 4 steps (2.0 epochs)"
    flags = {"stop_at_top_1": 0.9}
    assert run_report._state([], noted, numbers, flags).endswith("where --stop_at_top_1=0.9 was reached")


def test_a_report_that_fails_is_one_line_of_warning(run, tmp_path, capsys):
    """And the run ends as if nothing had been."""
    config = dataclasses.replace(run[0], train_dir=tmp_path / "run")
    shutil.copytree(run[0].train_dir, config.train_dir)
    shutil.rmtree(config.train_dir / "figures")
    (config.train_dir / "figures").write_text("in the way", encoding="utf-8")
    before = (config.train_dir / run_report.FILE).read_bytes()
    assert loop.train(config).evaluation == run[1].evaluation
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1 and err[0].startswith(f"warning: no report of the run in {config.train_dir}: ")
    assert (config.train_dir / run_report.FILE).read_bytes() == before


def test_a_browser_shows_it(run, page, tmp_path):
    probed = tmp_path / "probed.html"
    text = (run[0].train_dir / run_report.FILE).read_text(encoding="utf-8")
    probed.write_text(text.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    dom = browser.dump_dom(probed)
    told = dict(re.findall(r'data-(\w+)="(.*?)"', dom[dom.index("<body") : dom.index(">", dom.index("<body"))]))
    assert int(told["pictures"]) == len(page.sources)
    assert int(told["overflow"]) <= 0
    assert told["headings"] == "Curves|Time|Evaluation|Confusion matrix|Classes|Worst mistakes|Flags|Environment"
    assert told["flags"] == "false"  # Folded, yet there without a script.
    assert re.search(r"<h1>resnet_cifar_v1_8 on toy</h1>", dom)

    browser.screenshot(run[0].train_dir / run_report.FILE, tmp_path / "shot.png", WIDTH, HEIGHT)
    with Image.open(tmp_path / "shot.png") as image:
        assert image.size == (WIDTH, HEIGHT)
        pixels = np.asarray(image.convert("RGB")).astype(int)
    # The blue of the curves and bars, and the orange of the evaluations, are on the screen.
    for color in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        assert (abs(pixels - color).max(axis=-1) < 8).sum() > 500, color
    # The page's text lies on white sections.
    assert (pixels.min(axis=-1) > 250).mean() > 0.3


@pytest.mark.parametrize("arguments, status", [(["nowhere"], 1), ([], 2)])
def test_the_command_answers_a_wrong_folder_in_a_line(tmp_path, monkeypatch, capsys, arguments, status):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ending:
        command_line.run(run_report.main, run_report.RunReportConfig, arguments)
    assert ending.value.code == status
    if status == 1:
        assert capsys.readouterr().err.startswith("error: nowhere is no folder of a run: expected one with run.json")
