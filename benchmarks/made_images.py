"""Images for benchmarks without a download: they have the statistics of photographs, and depend only on a seed.

How long a JPEG takes to decode depends on its pixels and on its bytes, and noise or plain colour are far from what
cameras make. Photographs have amplitudes that fall as 1 / frequency (D. J. Field, 1987,
https://doi.org/10.1364/JOSAA.4.002379), channels that nearly agree, and edges.
"""

import io
import json

import numpy as np
from PIL import Image, ImageDraw

# Common sizes in ImageNet, (width, height); its mean is about 480x405.
PHOTOGRAPH_SIZES = ((500, 375), (500, 375), (500, 333), (375, 500), (500, 400), (400, 300))
# It gives a photograph of 500x375 about 110 KB, the average of ImageNet.
_JPEG_QUALITY = 91
_GREY_LEVELS = 50.0
_COLOUR_LEVELS = 12.0
_SHAPES = 12


def make_photographs(count, seed, sizes=PHOTOGRAPH_SIZES):
    """Yields the bytes of `count` JPEGs that cycle through `sizes`, each (width, height)."""
    for number in range(count):
        random = np.random.default_rng([seed, number])
        width, height = sizes[number % len(sizes)]
        buffer = io.BytesIO()
        _draw(random, width, height).save(buffer, "JPEG", quality=_JPEG_QUALITY)
        yield buffer.getvalue()


def make_thumbnails(count, seed, side):
    """Yields the bytes of `count` square PNGs, as CIFAR's records hold them."""
    for number in range(count):
        random = np.random.default_rng([seed, number])
        buffer = io.BytesIO()
        _draw(random, side, side).save(buffer, "PNG")
        yield buffer.getvalue()


def write_dataset(directory, name, images, image_format, class_names, image_shape=None):
    """Writes records of one split, train, and their dataset.json; returns the data set.

    Args:
      images: Their bytes; labels cycle through the classes.
    """
    from data import catalog, records

    def examples():
        for number, encoded in enumerate(images):
            with Image.open(io.BytesIO(encoded)) as image:
                width, height = image.size
            yield encoded, image_format, number % len(class_names), height, width

    directory.mkdir(parents=True)
    count = records.write_examples(directory / "train.tfrecord", examples())
    description = {
        "name": name,
        "splits": {"train": count},
        "class_names": class_names,
        "file_pattern": "{split}.tfrecord",
        **({"image_shape": image_shape} if image_shape else {}),
    }
    (directory / catalog.DESCRIPTION_FILE).write_text(json.dumps(description))
    return catalog.open_dataset(directory=directory)


def _draw(random, width, height):
    grey = _pink_noise(random, height, width)[..., np.newaxis] * _GREY_LEVELS
    colour = np.stack([_pink_noise(random, height, width) for _ in range(3)], axis=-1) * _COLOUR_LEVELS
    image = Image.fromarray(np.clip(128 + grey + colour, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(_SHAPES):
        left, top = random.integers(0, [width, height])
        across, down = random.integers(1, [width // 4 + 2, height // 4 + 2])
        outline = tuple(random.integers(0, 256, 3).tolist())
        box = [int(left), int(top), int(left + across), int(top + down)]
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)(box, outline=outline, width=2)
    return image


def _pink_noise(random, height, width):
    """Noise [height, width] with mean 0 and standard deviation 1 whose amplitudes fall as 1 / frequency."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(random.standard_normal([height, width])) / frequency, s=[height, width])
    return noise / noise.std()
