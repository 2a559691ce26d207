"""A checkpoint and some image files that the tests of inference share."""

import pathlib
import shutil

import numpy as np
import pytest
from inference_toys import NAMES, write_checkpoint
from PIL import Image

from nets import nets_factory, resnet_cifar


# Of a module's scope: a session's would show the row to the tests of other folders.
@pytest.fixture(scope="module", autouse=True)
def tiny_network():
    """The row resnet_cifar_v1_8, for these tests only."""
    with pytest.MonkeyPatch.context() as patch:
        row = nets_factory.Network(resnet_cifar.resnet_cifar_v1(8), "cifar")
        patch.setitem(nets_factory.NETWORKS, "resnet_cifar_v1_8", row)
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder with a checkpoint of 8 layers and seven classes, with weights as they start."""
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, nets_factory.create_model("resnet_cifar_v1_8", len(NAMES)), NAMES)
    return folder


@pytest.fixture(scope="session")
def _photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos") / "photos"
    (folder / "deep" / "er").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b.jpg", "deep/c.png", "deep/er/d.PNG", ".hidden.png"]):
        pixels = np.random.default_rng(number).integers(0, 256, [20 + number, 24, 3], np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def photos(_photos, tmp_path):
    """A folder of one's own with four images, a hidden one and a text."""
    return pathlib.Path(shutil.copytree(_photos, tmp_path / "photos"))
