"""What every script does before its own work."""

import dataclasses
import gc
import os
import pathlib
import signal
import subprocess
import sys
import weakref

import pytest

import command_line

ROOT = pathlib.Path(__file__).parents[1]


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


@dataclasses.dataclass(frozen=True)
class Switches:
    fine_tune: bool = False
    sync: bool = True
    averages: bool | None = None
    images: int = 0


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--fine_tune=True", "--sync=False"], Switches(fine_tune=True, sync=False)),
        (["--fine-tune=true", "--sync=0"], Switches(fine_tune=True, sync=False)),
        (["--fine_tune=False", "--sync=1"], Switches()),
        (["--fine_tune", "--no_sync"], Switches(fine_tune=True, sync=False)),
        (["--averages=False", "--images=1"], Switches(averages=False, images=1)),
    ],
)
def test_switches_as_slim_and_absl_write_them(arguments, expected):
    found = []
    with pytest.raises(SystemExit) as ended:
        command_line.run(found.append, Switches, args=arguments)
    assert (ended.value.code, found) == (0, [expected])


def test_a_package_that_is_missing_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tyro", None)
    with pytest.raises(SystemExit) as ended:
        command_line.run(print, Switches, args=[])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: tyro is missing from ")


SCRIPT = """
import os, sys
import command_line
tf = command_line.import_tensorflow()
print("keras" in sys.modules, "matplotlib" in sys.modules, os.environ.get("TF_USE_LEGACY_KERAS"))
print(tf.keras.__version__.split(".")[0], tf.keras.optimizers.SGD.__module__.split(".")[0])
"""


@pytest.mark.parametrize("told", [None, "0"])
def test_keras_is_imported_where_it_is_used(told):
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    environment |= {} if told is None else {"TF_USE_LEGACY_KERAS": told}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=True)
    first, second = done.stdout.splitlines()
    # Whoever has said which Keras to take keeps that choice.
    assert first == ("False False None" if told is None else "True True 0")
    assert second == "3 keras"


def interrupted_natively(config):
    """What TensorFlow's native code makes of Ctrl-C where it imports a module: an error that does not say so."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise AttributeError("'list' object has no attribute '_type_spec'") from None


def interrupted_in_a_converter(config):
    """What a library's code that meets Ctrl-C is told as, where every error of it is one of the conversion."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise command_line.UserError("network.onnx could not be written: ") from None


def fails(config):
    raise AttributeError("of its own")


@dataclasses.dataclass(frozen=True)
class NoFlags:
    """Nothing to say."""


@pytest.mark.parametrize("interrupted", [interrupted_natively, interrupted_in_a_converter])
def test_ctrl_c_that_became_another_error_is_an_interruption(capsys, interrupted):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as ending:
        command_line.run(interrupted, NoFlags, [])
    assert ending.value.code == 130
    assert capsys.readouterr().err == "error: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is handler
    with pytest.raises(AttributeError, match="of its own"):
        command_line.run(fails, NoFlags, [])


@dataclasses.dataclass(frozen=True)
class OneFolder:
    """A folder, and a name."""

    train_dir: pathlib.Path = pathlib.Path("runs")
    """Folder."""
    name: str = ""
    """Name."""


def test_a_path_of_the_home_folder(monkeypatch):
    """Shells leave ~ as it is after an equals sign."""
    monkeypatch.setenv("HOME", "/home/me")
    found = []
    for arguments in (["--train_dir=~/runs/x"], ["--train_dir=runs/~x", "--name=a~"]):
        with pytest.raises(SystemExit):
            command_line.run(found.append, OneFolder, arguments)
    assert found == [OneFolder(pathlib.Path("/home/me/runs/x")), OneFolder(pathlib.Path("runs/~x"), "a~")]


def test_a_file_name_that_does_not_decode_is_printed():
    """Where the terminal's encoding is strict, as that of most is."""
    program = """
import dataclasses, command_line
@dataclasses.dataclass
class NoFlags: "No flag."
command_line.run(lambda config: print("caf\\udce9"), NoFlags, [])
"""
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, b"caf\\udce9\n"), done.stderr
