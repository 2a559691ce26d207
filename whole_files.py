"""Files that are written whole or not at all: under another name first, then renamed."""

import contextlib
import json
import os
import pathlib
import shutil

from command_line import UserError, naming_what_cannot_be_written


@contextlib.contextmanager
def written_whole(path):
    """A context that gives the path to write to; the file gets its own name when the body ends without an error.

    Folders are made as needed. A link stays a link, and the file that it points to is replaced.

    Args:
      path: The file.

    Raises:
      UserError: If it cannot be written; an earlier file of that name stays, and nothing is left of the attempt.
    """
    with naming_what_cannot_be_written(path):
        part = part_of(path)
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            put_in_place(part, path)
        finally:
            drop(part, path)


def write(path, content):
    """Writes a file whole or not at all; errors as `written_whole`.

    Args:
      path: The file.
      content: Text, written as UTF-8, or bytes.
    """
    with written_whole(path) as part:
        # Names of files need not be valid in any encoding.
        part.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace"))


def write_json(path, value):
    """Writes a value as JSON; errors as `written_whole`."""
    # JSON's own escapes give back names of files as Python holds them.
    write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path):
    """The value in a JSON file; None if there is no such file, or it is damaged."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    return None


def part_of(path):
    """The path to write to until `put_in_place`: the path itself where renaming would replace a pipe or a device.

    Raises:
      UserError: If it is /dev/stdout or the like, and that is a file: what stands there already would be lost.
    """
    path = pathlib.Path(path)
    if path.exists() and not path.is_file():
        return path
    target = _target(path)
    if path.is_relative_to("/dev") and not target.is_relative_to("/dev"):
        raise UserError(f"{path} is {target}, which other output goes to: give another file, or pipe the output")
    # A name may have 255 bytes.
    name = os.fsdecode(os.fsencode(target.name)[:200])
    return target.with_name(f".{name}.{os.getpid()}.part")


def put_in_place(part, path):
    """Renames what was written to `part_of(path)`; a file that it replaces passes its permissions on."""
    if part != pathlib.Path(path):
        target = _target(path)
        if target.exists():
            shutil.copymode(target, part)
        to_disk(part)
        part.replace(target)


def drop(part, path):
    """Removes what is left of `part_of(path)`, if anything is."""
    if part != pathlib.Path(path):
        part.unlink(missing_ok=True)


def _target(path):
    """What a link points to; a link to itself is itself."""
    return pathlib.Path(os.path.realpath(path))


def to_disk(path):
    """Waits until a file or folder is on disk: after a power loss a renamed file could otherwise be empty."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
