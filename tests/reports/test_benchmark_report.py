"""The page of benchmarks: what it says, what it draws, and what it refuses."""

import dataclasses
import html
import json
import pathlib
import re

import browser
import pytest
from PIL import Image

import command_line
from benchmarks import grid, peer_rounds, results, rounds
from benchmarks import report as script
from command_line import UserError
from reports import benchmark_files, benchmark_report

RESULTS = pathlib.Path(__file__).parents[2] / "benchmarks" / "results"
ENVIRONMENT = {
    "started": "2026-11-24T17:00:00+00:00",
    "command": "python benchmarks/time_forward_backward.py --model '<b>*'",
    "cpu": {"model": "A & B processor", "usable_cores": 2, "flags": ["avx2"]},
    "versions": {"tensorflow": "2.21.0"},
    "others_share": 0.5,
}


def make_result(model="resnet_v2_50", batch_size=16, image_size=224, work=4, round_steps=(2, 2)):
    """Steps whose median is 10 ms for each G multiply-add of an image and its part of 224 x 224."""
    seconds = 0.01 * work * batch_size * (image_size / 224) ** 2
    setup = results.Setup(
        model,
        "tensorflow",
        "float32",
        batch_size,
        image_size,
        10,
        parameters=10**7,
        multiply_adds=int(work * 10**9 * (image_size / 224) ** 2),
        activation_values=10**7,
        weight_values=10**7,
    )
    times = (seconds, 1.01 * seconds, 0.99 * seconds, seconds)
    return results.Result(setup, "forward", 1, times, 2.0, 0.5, 2**30, 0.0, (), round_steps)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of step times with depths, batches, sizes, a warning and a failure, and one of peers."""
    folder = tmp_path_factory.mktemp("files")
    measured = [make_result(f"resnet_v2_{depth}", work=work) for depth, work in ((50, 4), (101, 8), (152, 12))]
    measured += [make_result(batch_size=batch) for batch in (32, 64)]
    measured += [make_result(image_size=size) for size in (160, 320)]
    measured[1] = dataclasses.replace(measured[1], warnings=("the deviation is 12% of the median",))
    too_large = grid.Configuration("resnet_v2_200", "tensorflow", "float32", 4096, 224, 10)
    measured.append(results.Failure(too_large, "forward", "out of memory: OOM when allocating"))
    peaks = [{"precision": "float32", "gigaflops_per_second": 300.0, "gigabytes_per_second": 10.0}]
    results.write_json(folder / "steps.json", ENVIRONMENT, measured, peaks=peaks)
    rates = {"slim_resnets": [20.0, 22.0, 24.0], "keras": [10.0, 10.0, 16.0]}
    ratio = rounds.compare("slim_resnets over keras", *rates.values())
    agreements = {"keras": peer_rounds.Agreement(1e-6, 1.0)}
    setup = {"model": "resnet_v2_50", "batch_size": 16}
    peers = peer_rounds.Measured("forward", setup, rates, (ratio,), agreements, {"torch": "not installed"}, 0.0)
    results.write_json(folder / "peers.json", ENVIRONMENT, [peers])
    return folder / "steps.json", folder / "peers.json"


@pytest.fixture(scope="module")
def page(files, tmp_path_factory):
    return benchmark_report.write(files, tmp_path_factory.mktemp("report") / "out")


def text_of(markup):
    return html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", markup, flags=re.S))


def test_the_page_and_the_figures_are_files(page):
    names = sorted(path.name for path in page.parent.iterdir())
    figures = ["batch", "depth", "resolution", "roofline-1", "spread", "steps"]
    figures += [f"turns-{number}" for number in range(1, 3)]
    assert names == sorted(["report.html", *(f"{name}.png" for name in figures)])
    for name in names[:-1]:
        if name.endswith(".png"):
            with Image.open(page.parent / name) as image:
                assert image.size[0] > 900
                assert len(image.convert("L").getcolors(256)) > 20  # Something is drawn.


def test_the_page_stands_alone_and_without_scripts(page):
    markup = page.read_text()
    assert "<script" not in markup and "http" not in re.sub(r"base64,[^\"]*", "", markup)
    assert markup.count('src="data:image/png;base64,') == markup.count("<img") == 8


def test_a_browser_shows_what_was_measured(page, tmp_path):
    text = " ".join(text_of(browser.dump_dom(page)).split())
    # Of the bounds: time is 10 ms a G exactly, whatever the batch and the size.
    assert "R2 1.0000 of 3 depths; slope 200.0 GFLOP/s, at 0 +0.000 s holds" in text
    assert text.count("holds") >= 3 and "does not hold" not in text
    assert "the deviation is 12% of the median" in text
    assert "resnet_v2_200, Forward, batch 4096, 224 px: out of memory: OOM when allocating" in text
    assert "other processes took 50% of the cores' time before the first step" in text
    # The median of 2, 2.2 and 1.5.
    assert "slim_resnets over keras 2.000 75 % 1.500 to 2.200 3" in text
    assert "without torch: not installed" in text
    assert "python benchmarks/time_forward_backward.py --model '<b>*'" in text
    assert "A & B processor" in text
    browser.screenshot(page, tmp_path / "page.png", 1200, 2400)
    with Image.open(tmp_path / "page.png") as image:
        assert image.size == (1200, 2400)
        pixels = image.convert("RGB")
        # Figures are there: the blue of their lines, in more than a few places.
        assert sum(count for count, color in pixels.getcolors(2**24) if color == (0, 114, 178)) > 200


def test_rows_in_rounds_are_compared(files):
    steps, _ = benchmark_files.read(files)
    (turns,) = steps.turns
    assert [(ratio.label, ratio.per_round) for ratio in turns.ratios] == [
        ("resnet_v2_101 over resnet_v2_50", pytest.approx((2.0, 2.0))),
        ("resnet_v2_152 over resnet_v2_50", pytest.approx((3.0, 3.0))),
    ]


def test_files_that_are_committed_of_several_scripts(tmp_path):
    names = ("2026-11-27-resnet_v2_152.json", "2026-11-27-input-pipeline.json")
    figures = ("roofline-1", "spread", "steps", "turns-1", "turns-2")
    page = benchmark_report.write([RESULTS / name for name in names], tmp_path / "all.html")
    names = {"all.html"} | {f"all-{figure}.png" for figure in figures}
    assert page == tmp_path / "all.html" and {path.name for path in tmp_path.iterdir()} == names
    assert "slim_resnets over simplejpeg" in page.read_text()


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[]",
        "{}",
        '{"environment": {}, "results": [{"step_seconds": [1]}]}',
        '{"model_name": "resnet_v2_50"}',
    ],
)
def test_a_file_of_another_kind_is_one_line(tmp_path, capsys, content):
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(SystemExit) as ending:
        command_line.run(script.main, script.ReportConfig, [str(path), "--output", str(tmp_path / "out")])
    err = capsys.readouterr().err
    assert ending.value.code == 1 and err.count("\n") == 1
    assert err.startswith(f"error: {path} is no file that a script of benchmarks/ wrote with --json")
    assert not (tmp_path / "out").exists()


def test_files_with_nothing_in_them(tmp_path):
    (tmp_path / "empty.json").write_text(json.dumps({"environment": {}, "results": []}))
    with pytest.raises(UserError, match="nothing was measured"):
        benchmark_files.read([tmp_path / "empty.json"])
    with pytest.raises(UserError, match="cannot be read"):
        benchmark_files.read([tmp_path / "missing.json"])


def test_a_grid_of_which_all_ran_out_of_memory(tmp_path):
    failure = results.Failure(grid.Configuration("a_50", "xla", "float32", 8, 32, 10), "forward", "out of memory: x")
    results.write_json(tmp_path / "failed.json", {}, [failure])
    page = benchmark_report.write([tmp_path / "failed.json"], tmp_path / "out")
    assert "out of memory" in page.read_text()
    assert [path.name for path in page.parent.iterdir()] == ["report.html"]
