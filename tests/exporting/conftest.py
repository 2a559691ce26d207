"""Fixtures of the tests of exporting."""

import exporting_toys
import pytest

from nets import nets_factory, resnet_cifar


@pytest.fixture(scope="session")
def toy_dir(tmp_path_factory):
    """The folder of a small data set; not to be changed."""
    return exporting_toys.make_dataset(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def cifar_v1(tmp_path_factory, toy_dir):
    """A checkpoint of resnet_cifar_v1_20 at 32 pixels, said to be trained on the small data set."""
    folder = tmp_path_factory.mktemp("cifar_v1")
    return exporting_toys.make_checkpoint(folder, "resnet_cifar_v1_20", 32, "cifar", toy_dir)


@pytest.fixture(scope="session")
def v2(tmp_path_factory):
    """A checkpoint of a thin resnet_v2_18 at 64 pixels that names no data set."""
    folder = tmp_path_factory.mktemp("v2")
    thin = {"depth_multiplier": 1 / 8, "root_pool_padding": "symmetric"}
    return exporting_toys.make_checkpoint(folder, "resnet_v2_18", 64, "vgg", **thin)


@pytest.fixture(scope="module")
def tiny_network():
    """The row resnet_cifar_v2_8, while the module's tests run."""
    with pytest.MonkeyPatch.context() as patch:
        row = nets_factory.Network(resnet_cifar.resnet_cifar_v2(8), "cifar")
        patch.setitem(nets_factory.NETWORKS, "resnet_cifar_v2_8", row)
        yield "resnet_cifar_v2_8"


@pytest.fixture(scope="module")
def tiny_v2(tiny_network, tmp_path_factory, toy_dir):
    """A checkpoint of resnet_cifar_v2_8 at 32 pixels."""
    return exporting_toys.make_checkpoint(tmp_path_factory.mktemp("tiny_v2"), tiny_network, 32, "cifar", toy_dir)
