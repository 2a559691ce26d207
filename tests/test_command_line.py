"""What every script does before its own work."""

import gc
import sys
import weakref

import pytest

import command_line


class Loop:
    def __init__(self):
        self.itself = self


@pytest.fixture
def collector():
    """The collector of garbage as it was, afterwards."""
    yield
    gc.enable()
    gc.unfreeze()


@pytest.mark.parametrize("collects", [True, False])
def test_the_collector_is_as_before_the_import_and_skips_what_was_imported(collector, collects):
    if not collects:
        gc.disable()
    assert command_line.import_tensorflow() is sys.modules["tensorflow"]
    assert gc.isenabled() is collects
    # TensorFlow alone makes half a million objects.
    assert gc.get_freeze_count() > 100_000
    later = weakref.ref(Loop())
    gc.collect()
    assert later() is None


def test_an_import_that_fails_leaves_the_collector_on(collector, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match="tensorflow"):
        command_line.import_tensorflow()
    assert gc.isenabled()
