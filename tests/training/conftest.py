"""Fixtures of the tests of training."""

import pytest
import training_toys

from nets import nets_factory
from training import loop


# Of a module's scope: a session's would outlast this folder, and show the rows to the tests of other folders.
@pytest.fixture(scope="module", autouse=True)
def tiny_networks():
    """The rows resnet_cifar_v1_8 and resnet_cifar_v2_8, for these tests only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nets_factory, "NETWORKS", dict(nets_factory.NETWORKS))
        training_toys.add_tiny_networks(nets_factory.NETWORKS)
        yield


@pytest.fixture(scope="session")
def toy_dir(tmp_path_factory):
    """The folder of the tiny data set; not to be changed."""
    return training_toys.make_dataset(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def finished(toy_dir, tmp_path_factory):
    """(config, result) of a run from start to end; its folder is not to be changed."""
    config = training_toys.toy_config(toy_dir, tmp_path_factory.mktemp("finished") / "run")
    return config, loop.train(config)


@pytest.fixture(scope="module", autouse=True)
def without_reports(request):
    """Runs write no report, which takes longer than their steps; a module that says `REPORTS = True` has them."""
    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "REPORTS", False):
            patch.setattr(loop, "_write_report", lambda folder: None)
        yield
