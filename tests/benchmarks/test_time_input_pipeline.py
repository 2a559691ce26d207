"""The script on few small images. No test here asserts a time."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import command_line
from benchmarks import input_contestants, input_measures, made_images, rounds
from benchmarks import time_input_pipeline as script
from benchmarks.crops import Crop
from benchmarks.time_input_pipeline import InputConfig

TINY = (
    "--num_images 6 --num_thumbnails 8 --rounds 2 --seconds 0 --burn_in_seconds 0 --batch_size 2 --image_size 32 "
    "--model resnet_cifar_v1_20 --precision float32 --cores 1"
)


@pytest.fixture
def run(monkeypatch, capfd):
    """A function of flags to (exit status, stdout, stderr) of the script in this process, on small photographs."""
    monkeypatch.setattr(made_images.make_photographs, "__defaults__", ([(60, 45), (45, 60)],))
    monkeypatch.setattr(input_measures, "_CIFAR_BATCH", 4)

    def run_script(flags):
        with pytest.raises(SystemExit) as exit_info:
            command_line.run(script.main, InputConfig, flags.split())
        return exit_info.value.code, *capfd.readouterr()

    return run_script


def test_every_measure(run, tmp_path):
    affinity = os.sched_getaffinity(0)
    code, out, err = run(f"{TINY} --peers simplejpeg,tf_data --json {tmp_path / 'input.json'}")
    assert (code, err) == (0, "")
    assert os.sched_getaffinity(0) == affinity
    document = json.loads((tmp_path / "input.json").read_text())
    jpeg, cifar, step = document["results"]
    assert [result["measure"] for result in document["results"]] == ["jpeg", "cifar", "step"]
    assert list(jpeg["images_per_second"]) == ["slim_resnets", "simplejpeg", "tf_data"]
    assert jpeg["cores"] == 1 and jpeg["setup"]["images"] == 6
    assert jpeg["setup"]["preprocessing"] == "resnet of training"
    assert list(cifar["images_per_second"]) == ["records", "resnet_cifar_v1_20"]
    assert list(step["images_per_second"]) == ["records", "ready"]
    for result in document["results"]:
        assert all(len(rates) == 2 and min(rates) > 0 for rates in result["images_per_second"].values())
    records, ready = step["images_per_second"].values()
    # A step takes as much longer as its rate is less.
    assert step["ratios"][0]["per_round"] == pytest.approx(np.divide(ready, records))
    rates, peer = jpeg["images_per_second"]["slim_resnets"], jpeg["images_per_second"]["simplejpeg"]
    assert jpeg["ratios"][0]["label"] == "slim_resnets over simplejpeg"
    assert jpeg["ratios"][0]["per_round"] == pytest.approx(np.divide(rates, peer))
    assert document["environment"]["versions"].keys() >= {"tensorflow", "numpy"}
    lines = out.splitlines()
    assert sum(line.startswith("# simplejpeg: ") for line in lines) == 2
    (printed,) = [line for line in lines if line.startswith("step: time of a step on records over one on a ready")]
    assert f"{step['ratios'][0]['median']:.3f} (50 % " in printed


def test_records_of_a_folder_and_evaluation(run, tmp_path):
    images = made_images.make_photographs(5, 0, [(50, 40)])
    made_images.write_dataset(tmp_path / "set", "mine", images, "jpg", ["a", "b"])
    flags = f"--measure jpeg --peers simplejpeg --dataset_dir {tmp_path / 'set'} --evaluation --preprocessing vgg"
    code, out, err = run(f"{TINY.replace('--num_images 6', '--num_images 4')} {flags}")
    assert (code, err) == (0, "")
    (setup,) = [line for line in out.splitlines() if line.startswith("# jpeg: ")]
    assert f"preprocessing vgg of evaluation, image_size 32, images 4, from {tmp_path / 'set'}, mean_bytes" in setup


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ("--measure jpeg,speed", "--measure has 'speed'; known are jpeg, cifar, step"),
        ("--peers dali", "--peers has 'dali'; known are simplejpeg, torch, tf_data"),
        ("--rounds 0", "--rounds is 0; it must be at least 1"),
        ("--seconds -1", "--seconds is -1.0; it must be at least 0"),
        ("--cores 4096", "--cores is 4096; this process may use"),
        ("--split train", "--split is of the records in --dataset_dir, which is not given"),
        ("--model resnet_v9_50 --measure step", "unknown network 'resnet_v9_50'"),
        ("--dataset_dir /none", "data directory /none does not exist"),
        ("--json /none/x.json", "its folder /none does not exist"),
    ],
)
def test_wrong_flags_are_one_line(run, flags, problem):
    code, out, err = run(flags)
    assert code == 1 and out == "" and err.startswith("error: ") and problem in err and err.count("\n") == 1


def test_records_that_are_no_jpegs(run, tmp_path):
    made_images.write_dataset(tmp_path / "set", "mine", made_images.make_thumbnails(2, 0, 8), "png", ["a", "b"])
    code, _, err = run(f"{TINY} --measure jpeg --dataset_dir {tmp_path / 'set'}")
    assert code == 1 and err == f"error: {tmp_path / 'set'} holds images that are not JPEGs, which jpeg is about\n"


def test_a_peer_that_is_not_installed(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    code, _, err = run(f"{TINY} --measure jpeg --peers simplejpeg")
    assert code == 1 and "error: simplejpeg is not installed: pip install simplejpeg, or leave it out of --pe" in err


def test_torch_data_set_holds_crops_of_its_files(tmp_path):
    torch = pytest.importorskip("torch", reason="needs the slim-resnets[torch] extra")
    (encoded,) = made_images.make_photographs(1, 0, [(50, 40)])
    (tmp_path / "a.jpg").write_bytes(encoded)
    crop = Crop("torchvision", is_training=False, side=24)
    files = input_contestants.ImageFiles([str(tmp_path / "a.jpg")] * 3, crop)
    pixels, label = files[1]
    assert pixels.shape == (3, 24, 24) and pixels.dtype == torch.float32 and label == 1 and len(files) == 3
    expected = crop.apply(Image.open(io.BytesIO(encoded)), None)
    np.testing.assert_array_equal(pixels.permute(1, 2, 0), expected)


@pytest.mark.slow
def test_all_peers_as_a_user_runs_it(tmp_path):
    """Worker processes import the script again: they must neither run it nor import TensorFlow."""
    pytest.importorskip("torch", reason="needs the slim-resnets[torch] extra")
    flags = f"{TINY} --measure jpeg --json {tmp_path / 'input.json'}".split()
    done = subprocess.run([sys.executable, Path(script.__file__), *flags], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (jpeg,) = json.loads((tmp_path / "input.json").read_text())["results"]
    assert list(jpeg["images_per_second"]) == ["slim_resnets", "simplejpeg", "torch", "tf_data"]


def test_rates_a_core():
    ratio = rounds.compare("a over b", [4.0, 8.0], [2.0, 2.0])
    measured = input_measures.Measured("jpeg", {"pixels": 8}, 2, {"a": [4.0, 8.0], "b": [2.0, 2.0]}, (ratio,))
    assert measured.per_core() == {"a": [2.0, 4.0], "b": [1.0, 1.0]}
    assert measured.to_json()["median_images_per_second_per_core"] == {"a": 3.0, "b": 1.0}
    assert list(script.describe(measured))[:3] == [
        "# jpeg: pixels 8; 2 cores",
        "jpeg: a: median 3.00 images/s/core, min 2.00, max 4.00, n 2",
        "jpeg: b: median 1.00 images/s/core, min 1.00, max 1.00, n 2",
    ]
