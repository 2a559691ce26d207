"""A picture of a data set: one row for each class, with some of its images."""

import io
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from whole_files import written_whole

_CELL = 72
_GAP = 4
_TEXT_WIDTH = 200
_TEXT_SIZE = 14
_MOST_CLASSES = 100


def write_contact_sheet(path, class_names, class_counts, examples):
    """Writes a PNG; with more than 100 classes, it shows only every n-th of them.

    Args:
      class_names: Name of each class.
      class_counts: Number of images of each class, shown beside its name.
      examples: {label: [encoded image]}.
    """
    step = -(-len(class_names) // _MOST_CLASSES)
    labels = [label for label in range(0, len(class_names), step) if label in examples]
    columns = max(len(images) for images in examples.values())
    size = (_TEXT_WIDTH + columns * (_CELL + _GAP) + _GAP, len(labels) * (_CELL + _GAP) + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    # Pillow's own font has few letters beyond ASCII; this one comes with matplotlib on every machine.
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", _TEXT_SIZE)
    for row, label in enumerate(labels):
        top = _GAP + row * (_CELL + _GAP)
        name = _shortened(f"{label}  {class_names[label]}", font)
        draw.multiline_text((_GAP, top + 16), f"{name}\n{class_counts[label]} images", "black", font)
        for column, encoded in enumerate(examples[label]):
            _paste(sheet, encoded, _TEXT_WIDTH + column * (_CELL + _GAP), top)
    with written_whole(path) as part:
        sheet.save(part, "png")


def _paste(sheet, encoded, left, top):
    with Image.open(io.BytesIO(encoded)) as image:
        image = image.convert("RGB")
    scale = _CELL / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    # Keeps the pixels of small images visible.
    thumbnail = image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
    sheet.paste(thumbnail, (left + (_CELL - size[0]) // 2, top + (_CELL - size[1]) // 2))


def _shortened(text, font):
    room = _TEXT_WIDTH - 2 * _GAP
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text + "..."
