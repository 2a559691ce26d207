"""Odd image files: what TensorFlow decodes from the record against what the file holds."""

import io
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

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


def test_of_two_pictures_in_a_jpeg_the_bytes_are_kept_and_the_first_is_decoded():
    first = Image.fromarray(picture())
    data = file_of(first, "MPO", save_all=True, append_images=[first.rotate(180)])
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
        expected = np.asarray(image)
    assert encode_for_records(data, upright=True) == (data, "jpg", HEIGHT, WIDTH)
    # The two decoders round colours differently.
    assert np.abs(decoded(data).astype(int) - expected).max() < 12


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright_as_pillow_turns_them(image_format, orientation):
    image = Image.fromarray(picture())
    exif = image.getexif()
    exif[0x0112] = orientation
    data = file_of(image, image_format, exif=exif)
    with Image.open(io.BytesIO(data)) as saved:
        expected = np.asarray(ImageOps.exif_transpose(saved))
    encoded = encode_for_records(data, upright=True)
    found = decoded(encoded.encoded)
    assert (encoded.height, encoded.width, 3) == found.shape == expected.shape
    # A JPEG stays one.
    assert encoded.image_format == ("jpg" if image_format == "JPEG" else "png")
    assert np.abs(found.astype(int) - expected).max() <= (12 if image_format == "JPEG" else 0)
    with Image.open(io.BytesIO(encoded.encoded)) as written:
        assert written.getexif().get(0x0112, 1) == 1
    if image_format != "TIFF":
        # Published sets stay as their publisher made them.
        assert encode_for_records(data).encoded == data


def test_broken_exif_data_spoil_no_picture():
    data = file_of(Image.fromarray(picture()), "JPEG", exif=b"Exif\0\0II*\0broken")
    with warnings.catch_warnings(action="error"):
        assert encode_for_records(data, upright=True) == (data, "jpg", HEIGHT, WIDTH)


def test_transparent_colours_of_a_palette_are_dropped_without_a_word():
    data = file_of(Image.fromarray(picture()).convert("P"), "PNG", transparency=bytes([0, 128] * 100))
    with warnings.catch_warnings(action="error"):
        np.testing.assert_array_equal(decoded(encode_for_records(data).encoded), decoded(data))


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


def noise(mode):
    """Pixels that no compression shortens much, so that damage meets them."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, [HEIGHT, WIDTH, 3], np.uint8)).convert(mode)


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize(("image_format", "options"), [("PNG", {}), ("TIFF", {"compression": "tiff_lzw"})])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_damaged_pixels_are_refused(image_format, options, mode, upright):
    data = bytearray(file_of(noise(mode), image_format, **options))
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    with pytest.raises(BadFileError):
        encode_for_records(bytes(data), upright=upright)


@pytest.mark.parametrize("upright", [False, True])
def test_what_pillow_alone_reads_is_encoded_anew(upright):
    """A PNG without its last chunk, and a JPEG without its end marker and with something behind it."""
    png = file_of(noise("RGB"), "PNG")[:-12]
    encoded = encode_for_records(png, upright=upright)
    np.testing.assert_array_equal(decoded(encoded.encoded), np.asarray(noise("RGB")))
    jpeg = file_of(noise("RGB"), "JPEG")
    assert jpeg.endswith(b"\xff\xd9")
    encoded = encode_for_records(jpeg[:-2] + bytes(64), upright=upright)
    assert encoded.image_format == "png" and encoded.encoded != jpeg
    assert np.abs(decoded(encoded.encoded).astype(int) - decoded(jpeg)).max() < 12


def test_the_end_of_a_thumbnail_is_not_that_of_the_picture():
    jpeg = file_of(noise("RGB"), "JPEG")
    thumbnail = b"\xff\xe1" + (2 + 6).to_bytes(2, "big") + b"Exif\xff\xd9"
    kept = jpeg[:2] + thumbnail + jpeg[2:]
    assert encode_for_records(kept).encoded == kept
    assert encode_for_records(kept[:-2] + bytes(64)).encoded != kept[:-2] + bytes(64)
