"""The format of a record: Slim's keys, and how an example is serialised and parsed."""

import tensorflow as tf

IMAGE_KEY = "image/encoded"
FORMAT_KEY = "image/format"
LABEL_KEY = "image/class/label"
HEIGHT_KEY = "image/height"
WIDTH_KEY = "image/width"
FILENAME_KEY = "image/filename"
BOX_KEYS = tuple(f"image/object/bbox/{side}" for side in ("ymin", "xmin", "ymax", "xmax"))

_FEATURES = {
    IMAGE_KEY: tf.io.FixedLenFeature([], tf.string),
    LABEL_KEY: tf.io.FixedLenFeature([], tf.int64),
}
_BOX_FEATURES = {key: tf.io.RaggedFeature(tf.float32) for key in BOX_KEYS}


def parse(records, with_boxes=False):
    """Parses serialised examples, one or a batch of them; ignores the image format and size that they state.

    Args:
      records: A string tensor, [] or [batch].
      with_boxes: Whether to read bounding boxes.
    Returns:
      encoded (string) and label (int64, as stored), each of the shape of `records`; and boxes, float32 [..., boxes, 4]
      (top, left, bottom, right in 0..1), ragged for a batch, None without `with_boxes`.
    """
    example = tf.io.parse_example(records, _FEATURES | (_BOX_FEATURES if with_boxes else {}))
    boxes = tf.stack([example[key] for key in BOX_KEYS], axis=-1) if with_boxes else None
    return example[IMAGE_KEY], example[LABEL_KEY], boxes


def serialize(features):
    """Serialises an example.

    Args:
      features: A dict of key -> bytes, int or float, or a list of one of these.
    """
    example = tf.train.Example(features=tf.train.Features(feature={key: _feature(features[key]) for key in features}))
    # Plain serialisation does not fix the order of map keys, but equal input should give equal files.
    return example.SerializeToString(deterministic=True)


def _feature(value):
    values = value if isinstance(value, list) else [value]
    if not values:
        return tf.train.Feature()  # Without a kind, it reads as an empty list of any kind.
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
