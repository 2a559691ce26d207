"""Flags to configurations."""

import pytest

from benchmarks import grid, results
from benchmarks.time_forward_backward import TimingConfig
from command_line import UserError
from nets import nets_factory
from training import devices


def test_each_with_each():
    config = TimingConfig(model="resnet_v2_50,resnet_cifar_v1_20", batch_size="1, 4", precision="float32,bfloat16")
    found = [(one.model, one.image_size, one.batch_size, one.precision) for one in grid.expand(config)]
    assert found == [
        (model, size, batch, precision)
        for model, size in (("resnet_v2_50", 224), ("resnet_cifar_v1_20", 32))
        for batch in (1, 4)
        for precision in ("float32", "bfloat16")
    ]


def test_today_two_passes_of_one_network():
    (only,) = grid.expand(TimingConfig())
    assert only == grid.Configuration("resnet_v2_152", "tensorflow", "float32", 32, 224, 1000)
    assert only.passes == ("forward", "forward_backward")


def test_wildcards_and_doubles():
    found = [one.model for one in grid.expand(TimingConfig(model="resnet_v2_50,resnet_v2_*"))]
    v2 = [name for name in nets_factory.NETWORKS if name.startswith("resnet_v2_")]
    assert sorted(found) == sorted(v2) and found[0] == "resnet_v2_50"


def test_auto_is_what_the_device_choice_makes_it(monkeypatch):
    monkeypatch.setattr(devices, "resolve_precision", {"auto": "bfloat16", "bfloat16": "bfloat16"}.get)
    assert [one.precision for one in grid.expand(TimingConfig(precision="auto,bfloat16"))] == ["bfloat16"]


def test_passes_of_engines():
    found = grid.expand(TimingConfig(passes="all", engine="tensorflow,xla,onnxruntime"))
    assert [(one.engine, one.passes, one.folded) for one in found] == [
        ("tensorflow", ("forward", "forward_backward", "train_step"), False),
        ("xla", ("forward",), False),
        ("onnxruntime", ("forward",), True),
    ]
    (folded,) = grid.expand(TimingConfig(passes="train_step,forward", folded=True))
    assert (folded.passes, folded.folded) == (("forward",), True)


@pytest.mark.parametrize("flags", [{"engine": ""}, {"precision": ","}, {"passes": " "}, {"batch_size": "1,"}])
def test_empty_lists(flags):
    with pytest.raises(UserError):
        grid.expand(TimingConfig(**flags))


def test_rows_of_a_data_set_have_its_name_and_its_classes():
    """What fails is named as what runs, or a comparison of two files would not find the one beside the other."""
    (configuration,) = grid.expand(TimingConfig(model="resnet_cifar_v1_20", dataset_name="digits"))
    failure = results.Failure(configuration, "forward", "out of memory: x").to_json()
    assert (failure["dataset"], failure["num_classes"]) == ("digits", 10)
    (configuration,) = grid.expand(TimingConfig(model="resnet_cifar_v1_20", num_classes=7))
    failure = results.Failure(configuration, "forward", "out of memory: x").to_json()
    assert (failure["dataset"], failure["num_classes"]) == ("synthetic", 7)
