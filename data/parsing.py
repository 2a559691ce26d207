"""What a record holds: Slim's keys, and how a serialised example is put together and taken apart."""

import tensorflow as tf

IMAGE_KEY = "image/encoded"
FORMAT_KEY = "image/format"
LABEL_KEY = "image/class/label"
HEIGHT_KEY = "image/height"
WIDTH_KEY = "image/width"
BOX_KEYS = tuple(f"image/object/bbox/{side}" for side in ("ymin", "xmin", "ymax", "xmax"))

_FEATURES = {
    IMAGE_KEY: tf.io.FixedLenFeature([], tf.string),
    LABEL_KEY: tf.io.FixedLenFeature([], tf.int64),
}
_BOX_FEATURES = {key: tf.io.RaggedFeature(tf.float32) for key in BOX_KEYS}


def parse(records, with_boxes=False):
    """Takes serialised examples apart, one or a batch of them; the format and the size they state are not looked at.

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
    """Puts a serialised example together.

    Args:
      features: A dict of key -> bytes, int or float, or a list of one of these.
    """
    example = tf.train.Example(features=tf.train.Features(feature={key: _feature(features[key]) for key in features}))
    # Plain serialisation leaves the order of map keys open, and equal input should give equal files.
    return example.SerializeToString(deterministic=True)


def _feature(value):
    values = value if isinstance(value, list) else [value]
    if not values:
        return tf.train.Feature()  # Of no kind: it reads as an empty list of any.
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
