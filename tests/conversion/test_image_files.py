"""Odd image files: what TensorFlow decodes from the record against what the file holds."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data.conversion import image_files
from data.conversion.image_files import encode_for_records
from data.conversion.plan import BadFileError

HEIGHT, WIDTH = 24, 40


def picture():
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([rows * 10, columns * 6, (rows + columns) * 3], axis=-1).astype(np.uint8)


def file_of(image, image_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def decoded(encoded):
    return tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2, "quality": 50}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_bytes_are_kept(mode, options):
    data = file_of(Image.fromarray(picture()).convert(mode), "JPEG", **options)
    assert encode_for_records(data) == (data, "jpg", HEIGHT, WIDTH)


def test_plain_png_is_kept():
    data = file_of(Image.fromarray(picture()), "PNG")
    assert encode_for_records(data) == (data, "png", HEIGHT, WIDTH)


@pytest.mark.parametrize("image_format", ["BMP", "TIFF", "PNG"])
def test_rgb_files_keep_their_pixels(image_format):
    encoded = encode_for_records(file_of(Image.fromarray(picture()), image_format))
    assert encoded[1:] == ("png", HEIGHT, WIDTH)
    np.testing.assert_array_equal(decoded(encoded.encoded), picture())


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_16_bits_keep_the_upper_8(image_format):
    grey = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 68
    encoded = encode_for_records(file_of(Image.fromarray(grey), image_format))
    np.testing.assert_array_equal(decoded(encoded.encoded), np.repeat((grey // 256)[..., np.newaxis], 3, axis=-1))


def test_16_bit_rgb_png_is_as_tensorflow_reads_it():
    pixels = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint16).reshape(HEIGHT, WIDTH, 3) * 22
    encoded = encode_for_records(tf.io.encode_png(pixels).numpy())
    np.testing.assert_array_equal(decoded(encoded.encoded), pixels // 256)


@pytest.mark.parametrize(
    ("mode", "image_format"),
    [("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("P", "GIF"), ("LA", "PNG"), ("RGBA", "PNG"), ("RGBA", "WEBP")],
)
def test_other_modes_become_rgb_files(mode, image_format):
    image = Image.fromarray(picture()).convert(mode)
    encoded = encode_for_records(file_of(image, image_format, **({"lossless": True} if image_format == "WEBP" else {})))
    with Image.open(io.BytesIO(encoded.encoded)) as written:
        assert (written.format, written.mode) == ("PNG", "RGB")
    np.testing.assert_array_equal(decoded(encoded.encoded), np.asarray(image.convert("RGB")))


def test_alpha_is_dropped_as_tensorflow_does():
    pixels = np.dstack([picture(), np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)])
    data = file_of(Image.fromarray(pixels), "PNG")
    np.testing.assert_array_equal(decoded(encode_for_records(data).encoded), decoded(data))


def test_cmyk_jpeg_becomes_rgb():
    data = file_of(Image.fromarray(picture()).convert("CMYK"), "JPEG", quality=95)
    encoded = encode_for_records(data)
    assert encoded.image_format == "png"
    assert np.abs(decoded(encoded.encoded).astype(int) - picture()).mean() < 5
    as_jpeg = encode_for_records(data, other_format="jpeg")
    assert as_jpeg.image_format == "jpg" and as_jpeg.encoded[:2] == b"\xff\xd8"
    assert np.abs(decoded(as_jpeg.encoded).astype(int) - picture()).mean() < 5


def test_animations_give_their_first_picture():
    first = Image.fromarray(picture()).convert("P")
    data = file_of(first, "GIF", save_all=True, append_images=[first.rotate(180)])
    np.testing.assert_array_equal(decoded(encode_for_records(data).encoded), np.asarray(first.convert("RGB")))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_files_cut_short(image_format, part):
    noise = Image.fromarray(np.random.RandomState(0).randint(0, 256, [HEIGHT, WIDTH, 3]).astype(np.uint8))
    data = file_of(noise, image_format)
    with pytest.raises(BadFileError):
        encode_for_records(data[: int(part * len(data))])


def test_what_is_kept_of_damaged_jpegs_is_what_tensorflow_decodes():
    random = np.random.RandomState(0)
    data = file_of(Image.fromarray(picture()), "JPEG")
    for _ in range(60):
        damaged = bytearray(data)
        damaged[random.randint(len(data))] = random.randint(256)
        try:
            encoded = encode_for_records(bytes(damaged))
        except BadFileError:
            continue
        assert decoded(encoded.encoded).shape == (encoded.height, encoded.width, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello", "no image that can be read: 5 bytes that begin with b'hello'"),
        (file_of(Image.fromarray(np.zeros([2, 2], np.float32)), "TIFF"), "32-bit numbers of no known range"),
    ],
)
def test_reasons(data, reason):
    with pytest.raises(BadFileError, match=reason):
        encode_for_records(data)


def test_too_many_pixels(monkeypatch):
    monkeypatch.setattr(image_files, "MOST_PIXELS", 100)
    with pytest.raises(BadFileError, match="40x24 is more than 100 pixels"):
        encode_for_records(file_of(Image.fromarray(picture()), "PNG"))
