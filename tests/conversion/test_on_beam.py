"""Beam's DirectRunner writes what the local run writes, byte for byte, and fails as it fails."""

import dataclasses
import pickle
import sys

import pytest
import tensorflow as tf

from command_line import UserError
from data.conversion import cifar, converters, on_beam, shards
from data.conversion.plan import BadFileError, Item, Shard

beam = pytest.importorskip("apache_beam", reason="needs the slim-resnets[beam] extra")

# By its own name: the DirectRunner first tries to download another, and takes this one where it cannot.
BEAM = "--runner=FnApiRunner"


@pytest.fixture
def source(make_images):
    return make_images({"a": 20, "b": 15})


def write_a_cifar_copy(folder):
    """Files in CIFAR-10's form, of a few images each."""
    folder.mkdir()
    for split, files in cifar.CIFAR10.files.items():
        for number, name in enumerate(files):
            images = [bytes([label]) + bytes([label, number, len(split)]) * 1024 for label in range(10)]
            (folder / name).write_bytes(b"".join(images))
    (folder / cifar.CIFAR10.names_file).write_text("\n".join(f"class{label}" for label in range(10)))
    return folder


def test_an_image_folder_is_the_same_on_beam(source, run, files_of, tmp_path, monkeypatch):
    run(source=source, num_shards=5, dataset_dir=tmp_path / "here" / "out")
    monkeypatch.chdir(tmp_path)
    # A path that means something in this folder only.
    result, said = run(source="source", num_shards=5, beam_options=BEAM)
    assert result["num_written"] == 6 and "wrote 6 of 6 shards, 35 images" in said[0]
    here, there = files_of(tmp_path / "here" / "out"), files_of(tmp_path / "out")
    assert sorted(here) == ["dataset.json", "labels.txt"] + sorted(n for n in here if n.endswith(".tfrecord"))
    # The text of --source is in dataset.json.
    there["dataset.json"] = there["dataset.json"].replace(b'"source": "source"', f'"source": "{source}"'.encode())
    assert here == there
    assert not (tmp_path / "out" / "unfinished").exists()


def test_cifar_is_the_same_on_beam(run, files_of, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "check", lambda *_: None)
    copy = write_a_cifar_copy(tmp_path / "copy")
    run("cifar10", source=copy, num_shards=3, dataset_dir=tmp_path / "here")
    result, _ = run("cifar10", source=copy, num_shards=3, beam_options=BEAM)
    assert result["splits"] == {"train": 50, "test": 10}
    assert files_of(tmp_path / "here") == files_of(tmp_path / "out")


def test_more_features_reach_the_records(source, run, files_of, tmp_path, monkeypatch):
    plain = converters.CONVERTERS["image_folder"]

    def plan_with_features(request):
        return dataclasses.replace(plain.plan(request), extra_features=lambda item: {"image/name": item.name.encode()})

    monkeypatch.setitem(converters.CONVERTERS, "image_folder", converters.Converter(plan_with_features, True))
    run(source=source, dataset_dir=tmp_path / "here" / "out")
    # A function that does not pickle: it must not leave this process.
    run(source=source, beam_options=BEAM)
    assert files_of(tmp_path / "here" / "out") == files_of(tmp_path / "out")
    record = next(iter(tf.data.TFRecordDataset(str(tmp_path / "out" / "train-00000-of-00001.tfrecord"))))
    features = tf.train.Example.FromString(record.numpy()).features.feature
    assert features["image/name"].bytes_list.value[0].endswith(b".png")


def test_bad_files_are_named_or_left_out(source, run, files_of, tmp_path):
    for name in ("a/000.png", "b/003.png"):
        (source / name).write_bytes(b"no image")
    with pytest.raises(UserError, match=r"^2 of 35 files cannot be converted, the first [ab]/00[03].png: no image th"):
        run(source=source, num_shards=5, beam_options=BEAM)
    assert len((tmp_path / "out" / "bad_files.csv").read_text().splitlines()) == 3
    run(source=source, num_shards=5, on_error="skip", dataset_dir=tmp_path / "here" / "out")
    result, _ = run(source=source, num_shards=5, on_error="skip", beam_options=BEAM)
    # The shards without a bad file were kept.
    assert result["splits"] == {"train": 29, "validation": 4} and result["num_kept"] >= 4
    assert files_of(tmp_path / "here" / "out") == files_of(tmp_path / "out")


def test_an_interrupted_conversion_goes_on(source, run, files_of, tmp_path, monkeypatch):
    run(source=source, num_shards=5, dataset_dir=tmp_path / "here" / "out")
    write, written = shards.write_shard, []

    def write_three(directory, shard, *rest):
        if len(written) == 3:
            raise UserError(f"cannot write {shard.name} (No space left on device): make room")
        written.append(shard.name)
        return write(directory, shard, *rest)

    monkeypatch.setattr(shards, "write_shard", write_three)
    with pytest.raises(UserError, match=r"^cannot write \S+ .No space left on device.: make room$"):
        run(source=source, num_shards=5, beam_options=BEAM)
    assert len(list((tmp_path / "out").glob("*.tfrecord"))) == 3
    assert not list((tmp_path / "out" / "unfinished").glob("orders-*"))
    monkeypatch.undo()
    result, _ = run(source=source, num_shards=5, beam_options=BEAM)
    assert (result["num_kept"], result["num_written"]) == (3, 3)
    assert files_of(tmp_path / "here" / "out") == files_of(tmp_path / "out")


def test_shards_that_another_run_lost_are_made_again(source, run, files_of, tmp_path):
    run(source=source, num_shards=5, beam_options=BEAM)
    before = files_of(tmp_path / "out")
    (tmp_path / "out" / "train-00002-of-00005.tfrecord").write_bytes(b"short")
    result, _ = run(source=source, num_shards=5, beam_options=BEAM)
    assert result["num_written"] == 1 and files_of(tmp_path / "out") == before


def test_part_of_the_shards(source, run, files_of, tmp_path):
    result, _ = run(source=source, num_shards=5, shard_range=":4", beam_options=BEAM)
    assert result["num_missing"] == 2
    run(source=source, num_shards=5)
    run(source=source, num_shards=5, dataset_dir=tmp_path / "here" / "out")
    assert files_of(tmp_path / "here" / "out") == files_of(tmp_path / "out")


def test_workers_that_write_elsewhere(source, run, tmp_path, monkeypatch):
    """As of machines whose folder of that name is another."""
    monkeypatch.setattr(shards, "write_shard", lambda *_: None)
    with pytest.raises(UserError, match="pipeline has ended, but 2 of 2 shards are not in .* do not share that folder"):
        run(source=source, beam_options=BEAM)


def test_a_worker_without_the_folder(tmp_path):
    with pytest.raises(UserError, match="worker .* cannot read .*/order .No such file.*under the same paths"):
        on_beam.write_ordered_shard(str(tmp_path / "order"))


def green(_):
    raise BadFileError("it is green")


def test_a_receipt_of_a_worker_has_the_reasons(source, tmp_path):
    (tmp_path / "unfinished").mkdir()
    shard, item = Shard("s.tfrecord", "train", 0, 1), Item("a/000.png", 0, str(source), -1, -1)
    order = on_beam.Order(str(tmp_path), shard, "print", green, [(item, None)])
    (tmp_path / "order").write_bytes(pickle.dumps(order))
    on_beam.write_ordered_shard(str(tmp_path / "order"))
    receipt = shards.read_receipt(tmp_path, shard)
    assert receipt["records"] == 0 and receipt["bad_files"] == [["a/000.png", "it is green"]]


REMOTE = """Error received from SDK harness for instruction 3: Traceback (most recent call last):
  File "on_beam.py", line 1, in write_ordered_shard
command_line.UserError: cannot write /x (No space left on device): make room

During handling of the above exception, another exception occurred:
command_line.UserError: cannot write /x (No space left on device): make room [while running 'write shard-ptransform']
"""


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        (RuntimeError(REMOTE), "cannot write /x (No space left on device): make room"),
        (UserError("a [while running 'write shard']"), "a"),
        (ValueError("Missing:\nproject.\nregion."), "Beam could not write the shards: Missing: project. region."),
        (RuntimeError("Traceback (most recent):\n  x\nKeyError: 3\n"), "Beam could not write the shards: KeyError: 3"),
        (RuntimeError(), "Beam could not write the shards: RuntimeError"),
        (
            RuntimeError("Traceback:\nModuleNotFoundError: No module named 'data.conversion'"),
            "Beam's workers cannot import this program: pip install '.[beam]' where they run",
        ),
    ],
)
def test_errors_of_runners_are_one_line(source, run, monkeypatch, raised, line):
    def fail(*_, **__):
        raise raised

    monkeypatch.setattr(beam, "Pipeline", fail)
    with pytest.raises(UserError) as error:
        run(source=source, beam_options=BEAM)
    assert str(error.value) == line


def test_an_interrupt_is_one(source, run, monkeypatch):
    """The DirectRunner makes an error of it where it hits a worker."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "write_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(source=source, beam_options=BEAM)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            "--runner=Nonsense",
            "beam_options '--runner=Nonsense': Unexpected pipeline runner: Nonsense. Valid values ar",
        ),
        ("--direct_num_workers=x", "argument --direct_num_workers: invalid int value: 'x'"),
        ('--runner="', "No closing quotation"),
        ("--runner=no.such.Runner", "No module named 'no'"),
    ],
)
def test_bad_options(source, run, tmp_path, options, problem, capfd):
    with pytest.raises(UserError, match=problem):
        run(source=source, beam_options=options)
    assert not (tmp_path / "out").exists() and capfd.readouterr() == ("", "")


def test_beam_that_is_not_installed(source, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"needs Apache Beam: pip install -e '\.\[beam\]'$"):
        run(source=source, beam_options=BEAM)
