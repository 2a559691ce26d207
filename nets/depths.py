"""How deep and how wide the ImageNet networks are.

Free of TensorFlow, so that a program that needs only these numbers does not load it.

Source: He et al., arXiv:1512.03385, table 1; 200 layers: arXiv:1603.05027.
"""

UNITS_PER_BLOCK = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
BASE_DEPTHS = (64, 128, 256, 512)
