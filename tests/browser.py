"""A page as chromium shows it, for tests; where there is no chromium, the test that asks is skipped."""

import pathlib
import shutil
import subprocess
import tempfile

import pytest

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def dump_dom(path):
    """The HTML of a local page after the browser has read it."""
    return _run(path, "--dump-dom").stdout


def screenshot(path, target, width=1200, height=1600):
    """Writes what a window of so many pixels shows of a local page as PNG."""
    _run(path, f"--screenshot={target}", f"--window-size={width},{height}")


def _run(path, *flags):
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("needs chromium to draw the page; make browser installs it")
    with tempfile.TemporaryDirectory(prefix="browser-") as folder:
        command = [program, *_FLAGS, f"--user-data-dir={folder}", *flags, pathlib.Path(path).resolve().as_uri()]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
