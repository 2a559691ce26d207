"""Fixtures of the tests of foreign weights."""

import gc
import logging

import pytest
import tensorflow as tf  # noqa: F401 - so that it is among what is frozen

# A graph is many small objects: without this much time goes into looking through TensorFlow's modules for garbage.
gc.freeze()


@pytest.fixture(autouse=True)
def _no_advice_on_tracing():
    """Each test makes networks of its own, which TensorFlow takes for one function traced again and again."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)
