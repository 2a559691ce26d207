"""Mixes pairs of training images: mixup and cutmix.

Zhang et al., mixup, arXiv:1710.09412; Yun et al., CutMix, arXiv:1905.04899. Both mix a batch with the same batch in
reverse order, with one weight for the whole batch, as timm does by default.
"""

import dataclasses

import tensorflow as tf

from data.preprocessing.images import split_seed


@dataclasses.dataclass(frozen=True)
class Mixing:
    """Which kinds of mixing to apply; both are off by default. If both are on, a batch gets either, half the time each.

    Attributes:
      mixup_alpha: Both parameters of the Beta distribution of mixup's weight; 0 for no mixup.
      cutmix_alpha: The same for the part of the area in cutmix.
    """

    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0

    @property
    def is_on(self):
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0

    def mix(self, images, labels, num_classes, seed):
        """Mixes a batch.

        Args:
          images: float32 [batch, height, width, channels].
          labels: int32 [batch].
          num_classes: Classes of the network.
          seed: An int [2] tensor, which alone determines the random choices.
        Returns:
          images, of the same shape, and float32 [batch, num_classes], the part of each class.
        """
        choice, mixup_seed, cutmix_seed = split_seed(seed, 3)
        mixed = [
            lambda: _mixup(images, self.mixup_alpha, mixup_seed),
            lambda: _cutmix(images, self.cutmix_alpha, cutmix_seed),
        ]
        if self.mixup_alpha > 0 and self.cutmix_alpha > 0:
            images, own_part = tf.cond(tf.random.stateless_uniform([], choice) < 0.5, *mixed)
        else:
            images, own_part = mixed[0 if self.mixup_alpha > 0 else 1]()
        targets = tf.one_hot(labels, num_classes)
        return images, own_part * targets + (1.0 - own_part) * tf.reverse(targets, [0])


def _mixup(images, alpha, seed):
    own_part = _beta(alpha, seed)
    return own_part * images + (1.0 - own_part) * tf.reverse(images, [0]), own_part


def _cutmix(images, alpha, seed):
    """Pastes a rectangle of the other image; its middle is anywhere, and what lies outside the image is cut off."""
    beta_seed, middle_seed = split_seed(seed, 2)
    height, width = images.shape[1], images.shape[2]
    side = tf.sqrt(1.0 - _beta(alpha, beta_seed))
    middle = tf.random.stateless_uniform([2], middle_seed)
    spans = []
    for index, whole in enumerate((height, width)):
        cut = tf.cast(side * whole, tf.int32)
        start = tf.cast(middle[index] * whole, tf.int32) - cut // 2
        spans.append((tf.maximum(start, 0), tf.minimum(start + cut, whole)))
    (top, bottom), (left, right) = spans
    rows, columns = tf.range(height)[:, None], tf.range(width)[None, :]
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    own_part = 1.0 - tf.reduce_mean(tf.cast(inside, tf.float32))
    return tf.where(inside[None, :, :, None], tf.reverse(images, [0]), images), own_part


def _beta(alpha, seed):
    """A draw of Beta(alpha, alpha), as a ratio of Gamma draws."""
    draws = tf.random.stateless_gamma([2], seed, alpha)
    return tf.math.divide_no_nan(draws[0], tf.reduce_sum(draws))
