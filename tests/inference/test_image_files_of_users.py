"""Which images a command line means, and that their pixels are what Pillow shows people."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from command_line import UserError
from data.conversion.plan import BadFileError
from inference.image_files import ImageItem, list_images, read_pixels


def names(items):
    return [item.name for item in items]


def test_files_folders_and_patterns_in_the_order_given(photos):
    folder = str(photos)
    in_folder = [f"{folder}/{name}" for name in ("a.png", "b.jpg", "deep/c.png", "deep/er/d.PNG")]
    assert names(list_images([folder])) == in_folder
    assert names(list_images([f"{folder}/notes.txt", f"{folder}/*.jpg"])) == [f"{folder}/notes.txt", in_folder[1]]
    assert names(list_images([f"{folder}/**/*.png"])) == [in_folder[0], in_folder[2]]
    assert names(list_images([f"{folder}/missing.png"])) == [f"{folder}/missing.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(photos):
    odd = photos / "a[1].png"
    odd.write_bytes((photos / "a.png").read_bytes())
    assert names(list_images([odd])) == [str(odd)]


def test_standard_input_is_an_image_or_paths(photos):
    data = (photos / "b.jpg").read_bytes()
    (image,) = list_images(["-"], io.BytesIO(data))
    assert (image.name, image.data) == ("-", data)
    text = f"{photos}/a.png\n\n{photos}/*.jpg\n".encode()
    assert names(list_images(["-"], io.BytesIO(text))) == [f"{photos}/a.png", f"{photos}/b.jpg"]


def test_nothing_found_is_an_error(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no image: expected files that end in .jpg"):
        list_images([tmp_path / "empty"])
    with pytest.raises(UserError, match=r"no file matches .*\*.gif"):
        list_images([f"{photos}/*.gif"])
    with pytest.raises(UserError, match="nothing on standard input"):
        list_images(["-"], io.BytesIO(b" \n"))


@pytest.mark.parametrize("extension", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_pillow_turns_them(orientation, extension, tmp_path):
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{extension}"
    image.save(path, exif=exif)
    with Image.open(path) as saved:
        expected = np.asarray(ImageOps.exif_transpose(saved))
    np.testing.assert_array_equal(read_pixels(ImageItem(str(path))), expected)
    if extension == "png":  # Pillow turns TIFFs by itself.
        # As in a record, which networks are trained on.
        np.testing.assert_array_equal(read_pixels(ImageItem(str(path), upright=False)), pixels)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(mode, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, [5, 7, 3], np.uint8)).convert(mode)
    path = tmp_path / "image.tif"
    image.save(path)
    np.testing.assert_array_equal(read_pixels(ImageItem(str(path))), np.asarray(image.convert("RGB")))


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    deep = np.array([[0, 255, 256, 65535]], np.uint16)
    path = tmp_path / "deep.png"
    Image.fromarray(deep).save(path)
    assert read_pixels(ImageItem(str(path)))[0, :, 0].tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("data, reason", [(b"", "the file is empty"), (b"junk", "no image that can be read: 4 bytes")])
def test_what_is_no_image_says_so(data, reason):
    with pytest.raises(BadFileError, match=reason):
        read_pixels(ImageItem("x", data))


def test_a_truncated_or_missing_file_says_so(photos):
    data = (photos / "b.jpg").read_bytes()
    with pytest.raises(BadFileError, match="does not decode .*(?i:truncated)"):
        read_pixels(ImageItem("x", data[: len(data) // 2]))
    with pytest.raises(BadFileError, match="it cannot be read .No such file"):
        read_pixels(ImageItem(str(photos / "missing.png")))


def test_grey_networks_get_one_channel(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, [5, 7], np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(
        read_pixels(ImageItem(str(tmp_path / "grey.png")), channels=1), grey[:, :, np.newaxis]
    )
