"""Class activation maps: against the closed form of networks with a linear head, and as pictures."""

import numpy as np
import pytest
import tensorflow as tf
from inference_toys import run
from PIL import Image

from command_line import UserError
from inference import network
from inference.grad_cam import GradCam, _picture_paths, as_picture
from nets import nets_factory


def test_maps_of_a_v1_network_are_zhous_class_activation_maps():
    # Zhou et al., arXiv:1512.04150: behind a pooled linear head, sum_k w[k, class] * A[k], here over 8 x 8 places.
    model = nets_factory.create_model("resnet_cifar_v1_8", 7)
    images = tf.constant(np.random.default_rng(0).normal(size=[3, 32, 32, 3]).astype(np.float32))
    class_ids = [4, 0, 6]
    maps = GradCam(model)(images, class_ids)
    activations = model.features(images, ["block3"])["block3"].numpy()
    weights = model.variables_by_name["resnet_cifar_v1_8/logits/weights"].numpy()[0, 0]
    expected = np.einsum("nhwk,kn->nhw", activations, weights[:, class_ids]) / 64
    assert maps.shape == (3, 8, 8)
    np.testing.assert_allclose(maps, np.maximum(expected, 0), rtol=1e-3, atol=1e-5)
    assert maps.max() > 0.01


@pytest.mark.parametrize("name", ["vgg", "inception", "torchvision", "digits", "cifar"])
def test_a_picture_is_what_was_preprocessed(name):
    preprocess = network._preprocess({"name": name}, 32, 3)
    pixels = np.random.default_rng(0).integers(0, 256, [32, 32, 3], np.uint8)
    pixels[0, 0], pixels[0, 1] = 0, 255
    picture = as_picture(preprocess(pixels).numpy(), preprocess)
    assert picture.min() >= 0 and 0.9 <= picture.max() <= 1
    if name in ("digits", "cifar"):  # The others crop.
        np.testing.assert_allclose(picture * 255, pixels, atol=0.01)


def test_pictures_get_names_of_their_own(checkpoint, photos, tmp_path):
    (photos / "deep" / "a.png").write_bytes((photos / "a.png").read_bytes())
    run(checkpoint, photos / "a.png", photos / "deep" / "a.png", photos / "b.jpg", explain=tmp_path / "seen")
    assert sorted(path.name for path in (tmp_path / "seen").iterdir()) == ["a.png", "b.png", "deep-a.png"]
    with Image.open(tmp_path / "seen" / "a.png") as picture:
        assert picture.size[0] > 600
        picture.load()


def test_pictures_that_exist_stay_unless_told(checkpoint, photos, tmp_path):
    folder = tmp_path / "seen"
    folder.mkdir()
    (folder / "a.png").write_text("mine")
    with pytest.raises(UserError, match="seen/a.png exists already: give another folder, or --overwrite"):
        run(checkpoint, photos / "a.png", explain=folder)
    assert (folder / "a.png").read_text() == "mine"
    run(checkpoint, photos / "a.png", explain=folder, overwrite=True)
    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_stay_in_their_folder_and_apart(tmp_path):
    names = ["/cat.jpg", "/cat.png", "a/cat.png", "b/a/cat.png", "-"]
    paths = _picture_paths(tmp_path, names)
    assert [paths[name].name for name in names] == ["cat.png", "cat-2.png", "a-cat.png", "cat-3.png", "stdin.png"]
    assert {path.parent for path in paths.values()} == {tmp_path}
