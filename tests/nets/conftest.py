"""Fixtures of the networks' tests."""

import gc

import pytest
import tensorflow as tf
from families import FAMILIES

from nets import nets_factory, resnet_cifar

TINY = {
    "resnet_cifar_v1_8": resnet_cifar.resnet_cifar_v1(8),
    "resnet_cifar_v2_8": resnet_cifar.resnet_cifar_v2(8),
}

# A graph is many small objects: without this a fifth of the time goes into looking through TensorFlow's modules for
# garbage, again and again.
gc.freeze()


@pytest.fixture(params=sorted(FAMILIES))
def family(request):
    """Each family of residual networks in turn: v1 and v2."""
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def tiny_networks():
    """The names of two networks of 8 layers, which are in the table while the module's tests run."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, function in TINY.items():
            monkeypatch.setitem(nets_factory.NETWORKS, name, nets_factory.Network(function, "cifar"))
        yield sorted(TINY)


@pytest.fixture
def graph():
    """A v1 graph, the default one while the test runs."""
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.fixture(params=sorted(TINY))
def tiny(request, tiny_networks):
    """The name of each network of 8 layers in turn."""
    return request.param
