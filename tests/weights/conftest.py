"""Fixtures of the tests of foreign weights."""

import logging

import pytest


@pytest.fixture(autouse=True)
def _no_advice_on_tracing():
    """Each test makes networks of its own, which TensorFlow takes for one function traced again and again."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)
