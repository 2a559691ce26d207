"""Where an export goes: it appears under its name only when it is complete and checked."""

import contextlib
import pathlib
import tempfile

from command_line import UserError
from nets import checkpoints


class Destination:
    """A file, a pair of files or a folder to write."""

    def __init__(self, path, suffixes, overwrite):
        """Checks the name, before anything is computed.

        Args:
          path: The file or folder.
          suffixes: Of the files, that of `path` first; () for a folder.
          overwrite: Whether an existing export may be replaced.

        Raises:
          UserError: If the name has the wrong ending, or something exists that may not be replaced.
        """
        self._path = pathlib.Path(path)
        if not suffixes:
            # A link to a folder stays a link, and what it points to is replaced.
            self._path = self._path.resolve() if self._path.is_symlink() else self._path
            checkpoints.check_readable_name(self._path)
        if suffixes and self._path.suffix != suffixes[0]:
            raise UserError(f"--output is {path}, expected a file name that ends in {suffixes[0]}")
        self._paths = [self._path.with_suffix(suffix) for suffix in suffixes] or [self._path]
        for path in self._paths:
            if path.is_symlink() or path.exists():
                if not overwrite:
                    raise UserError(f"{path} exists: name another --output, or replace it with --overwrite")
                if not (_is_saved_model(path) if not suffixes else path.is_file()):
                    raise UserError(
                        f"{path} exists and is no such export, so it is not replaced: name another --output"
                    )

    @contextlib.contextmanager
    def writing(self):
        """Gives a temporary path to write to; what was written gets its final name only if the body succeeds.

        Raises:
          UserError: If the folder cannot be made or written to.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".exporting-", dir=self._path.parent) as folder:
                part = pathlib.Path(folder) / self._path.name
                yield part
                # The file that users open comes last: without it, the others do not look like an export.
                for path in reversed(self._paths):
                    if path.is_dir() and not path.is_symlink():
                        path.rename(pathlib.Path(folder) / "earlier")
                    part.with_name(path.name).replace(path)
        except OSError as error:
            raise UserError(f"{self._path} could not be written: {error}; make room, or name another place") from error

    def size(self):
        """Size of what was written, in bytes."""
        files = [file for path in self._paths for file in ([path] if path.is_file() else path.rglob("*"))]
        return sum(file.stat().st_size for file in files if file.is_file())


def _is_saved_model(path):
    return path.is_dir() and (path / "saved_model.pb").is_file()
