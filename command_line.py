"""Shared by every script: flags from a dataclass, a quiet TensorFlow, and one-line errors.

A script defines a frozen dataclass whose fields are its flags and a `main` that takes it:

    if __name__ == "__main__":
        command_line.run(main, EvalConfig)

Exit status: 0, or what `main` returns; 1 for an error the user can fix; 2 for a bad command line; 130 for Ctrl-C.
"""

import contextlib
import ctypes
import dataclasses
import gc
import logging
import os
import signal
import sys
import tempfile
import warnings

_INSTALL = "`make demo` or `pip install -e .` installs it, and `. .venv/bin/activate` selects what make installed"


class UserError(ValueError):
    """An error that the user can fix.

    Its message is one line that says what was wrong, where, what was expected and how to fix it.

    Attributes:
      status: The exit status of a script that ends with this error.
    """

    status = 1


def run(main, config_class, args=None, preset=None):
    """Parses the flags of `config_class`, calls `main(config)` and exits.

    Args:
      main: A function of the config that returns the exit status (None for 0).
      config_class: A dataclass; each field is a flag, its docstring the help.
      args: Flags, `sys.argv[1:]` when None.
      preset: A function from the config to one whose values replace the flags' defaults, or to None to keep them.
    """
    with _interrupts_noted() as interrupts:
        try:
            # Imported here, so that Ctrl-C is handled meanwhile: it takes a good part of a second.
            import tyro

            # File names need not be valid in any encoding.
            with contextlib.suppress(AttributeError):  # Not a stream of text, in a test.
                sys.stdout.reconfigure(errors="backslashreplace")
            args = sys.argv[1:] if args is None else args
            args = [_as_switch(_at_home(argument), config_class) for argument in args]
            config = tyro.cli(config_class, args=args, use_underscores=True)
            if preset and (default := preset(config)):
                config = tyro.cli(config_class, args=args, default=default, use_underscores=True)
            status = _call(main, config)
            sys.stdout.flush()
        except (Exception, KeyboardInterrupt) as error:
            if interrupts or isinstance(error, KeyboardInterrupt):
                sys.exit(_report("interrupted", status=130))
            if isinstance(error, BrokenPipeError):
                # The reader of our output (`| head`) has gone. This keeps Python from reporting that again at exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                sys.exit(1)
            if isinstance(error, ModuleNotFoundError):
                sys.exit(_report(f"{error.name} is missing from {sys.executable}; {_INSTALL}"))
            if isinstance(error, UserError | OSError):
                sys.exit(_report(error, getattr(error, "status", 1)))
            raise
    sys.exit(status or 0)


def check_at_least(config, **least):
    """Raises a UserError that names the first flag whose value is below its least, or NaN; None is no value."""
    for name, value in least.items():
        given = getattr(config, name)
        if given is not None and not given >= value:
            raise UserError(f"--{name} is {given}, expected at least {value}")


def first_line(error):
    """The first line of an error's message, without the name of the op that TensorFlow puts around it."""
    text = str(getattr(error, "message", None) or error).strip().partition("\n")[0]
    return text.split("}}")[-1].split(" [Op:")[0].strip()


def _at_home(argument):
    """--flag=~/path with the home folder in place of ~, which shells leave as it is after an =."""
    flag, equals, value = argument.partition("=")
    is_of_home = flag.startswith("--") and value.startswith("~")
    return f"{flag}{equals}{os.path.expanduser(value)}" if is_of_home else argument


def _as_switch(argument, config_class):
    """--flag=True as --flag, and --flag=False as --no_flag: Slim's way to write a switch. Others stay as they are."""
    flag, _, value = argument.partition("=")
    name = flag.removeprefix("--").replace("-", "_")
    switches = {field.name for field in dataclasses.fields(config_class) if field.type is bool}
    prefix = {"true": "--", "1": "--", "false": "--no_", "0": "--no_"}.get(value.lower())
    return f"{prefix}{name}" if prefix and flag.startswith("--") and name in switches else argument


@contextlib.contextmanager
def naming_what_cannot_be_written(path):
    """Turns an OSError in its context into a UserError that names the file, which the OSError's text may not do."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} could not be written: {error}; make room, or name another place") from error


@contextlib.contextmanager
def _interrupts_noted():
    """Gives a list that stays empty until Ctrl-C: native code and converters turn Ctrl-C into other errors."""
    interrupts = []

    def note(number, frame):
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_usual:
        signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        if is_usual:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _call(main, config):
    tf = import_tensorflow()
    try:
        return main(config)
    except tf.errors.ResourceExhaustedError as error:
        raise UserError(
            f"no room left, on disk or in memory: {first_line(error)}; make room, or lower --batch_size"
        ) from error


def import_tensorflow():
    """Imports TensorFlow as every script does: without start-up notes, with an allocator for training, and faster.

    Python's garbage collector scans all objects again and again as their number grows. TensorFlow's import makes half a
    million objects and hardly any garbage: with the collector off it took 2.7 instead of 3.1 s of CPU time. With these
    objects frozen afterwards, the first trace of ResNet-50 took a tenth less. Another 0.6 s go into Keras 3 (and
    Matplotlib, which Keras imports). It is left out: only tests and conversions use it, and they import it themselves.

    Returns:
      The module `tensorflow`.

    Raises:
      ImportError: If it cannot be imported; what native code wrote to stderr is then shown.
    """
    keep_freed_memory()
    collects = gc.isenabled()
    gc.disable()
    try:
        with stderr_kept_for_errors(), _keras_left_out():
            import tensorflow as tf
        gc.freeze()
    finally:
        if collects:
            gc.enable()
    _silence_legacy_layers()
    return tf


@contextlib.contextmanager
def _keras_left_out():
    """Keeps TensorFlow from importing Keras 3 eagerly, by naming another Keras; `tf.keras` is loaded when used."""
    name = "TF_USE_LEGACY_KERAS"
    told = name in os.environ
    os.environ.setdefault(name, "1")
    try:
        yield
    finally:
        if not told:
            del os.environ[name]


def _report(error, status=1):
    print(f"error: {error}", file=sys.stderr)
    return status


@contextlib.contextmanager
def stderr_kept_for_errors():
    """Holds back what native code writes to stderr; shows it only when the body fails.

    The stock wheel writes start-up notes to file descriptor 2 before its own log level is read, so redirecting the
    descriptor is the only way to keep a script's output parseable.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # By default the stock wheel uses oneDNN's kernels only on CPUs with AVX512-VNNI or newer. On an AVX2 CPU they made
    # a training step of ResNet-50 v2 five times as fast. TensorFlow reads this setting when it is imported.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:  # Not Ctrl-C, which the held text does not explain.
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


def keep_freed_memory():
    """Tells glibc's allocator to keep the memory that a step frees for the next step.

    By default it returns large blocks to the system, which maps and zeroes them again at each step. On 2 cores, 60
    steps of ResNet-50 v2 on the digits then spent 17 s of 73 s of CPU time in the kernel; with this, 6 s of 60 s.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of <malloc.h>.
    with contextlib.suppress(AttributeError, OSError, TypeError):  # Another C library: nothing to set.
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, -1)
        mallopt(mmap_max, 0)


def _silence_legacy_layers():
    """Hides tf-slim's warnings of TensorFlow's own deprecations, which no user of a script can act on."""
    warnings.filterwarnings("ignore", category=UserWarning, module="tensorflow.*")
    warnings.filterwarnings("ignore", category=UserWarning, module="tf_slim.*")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
