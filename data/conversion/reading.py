"""Lists and reads the files of a source: folders, tar archives, parts of a larger file."""

import gzip
import hashlib
import os
import shutil
import stat
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

from command_line import UserError
from data.conversion.image_files import MOST_BYTES
from data.conversion.plan import BadFileError

ARCHIVE_EXTENSIONS = (".tar", ".tar.gz", ".tgz")
_IGNORED_FOLDERS = ("__MACOSX",)
_LINES_OF_NAMES = 5


class Entry(NamedTuple):
    """A file of a source; `location`, `offset` and `size` as in `plan.Item`, `name` relative to the source."""

    name: str
    location: str
    offset: int
    size: int


def list_files(source, scratch_dir):
    """Every file below a folder or in a tar archive, sorted by name, without hidden files.

    Args:
      source: Path of a folder or an archive.
      scratch_dir: Where a compressed archive is decompressed to a plain one; its files are then read in place.
    Returns:
      A list of Entry.
    Raises:
      UserError: If the source is neither, an archive is broken, or links form a loop.
    """
    source = Path(source)
    if source.is_dir():
        entries = list(_walk(str(source), "", ()))
    elif not source.exists():
        raise UserError(f"source {source} does not exist: give the path of a folder or an archive")
    elif source.name.lower().endswith(ARCHIVE_EXTENSIONS):
        entries = list_tar(plain_copy(source, scratch_dir))
    else:
        raise UserError(f"source {source} is neither a folder nor an archive ({', '.join(ARCHIVE_EXTENSIONS)})")
    return sorted(entries)


def list_tar(path, start=0):
    """The regular files of an uncompressed tar archive, in its order, as slices of the file at `path`.

    Args:
      path: The archive, or an archive of archives that holds it.
      start: Offset in that file at which the archive begins.
    Raises:
      UserError: If the archive is broken or cut short.
    """
    entries, links = [], []
    try:
        with open(path, "rb") as file:
            file.seek(start)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    name = member.name.removeprefix("./")
                    if member.isreg() and not is_hidden(name):
                        entries.append(Entry(name, str(path), member.offset_data, member.size))
                    elif (member.islnk() or member.issym()) and not is_hidden(name):
                        folder = os.path.dirname(name) if member.issym() else ""
                        links.append((name, os.path.normpath(os.path.join(folder, member.linkname))))
                    # tarfile keeps every member it has read, which is much for a million files.
                    archive.members.clear()
                end = archive.offset
    except tarfile.TarError as error:
        raise UserError(f"{path} is not a whole tar archive ({error}): fetch it again") from None
    # tarfile stops silently at a damaged header, as it does at the block of zeros that ends an archive.
    if not _is_zero_block(path, end):
        raise UserError(f"{path} is damaged or cut short after {len(entries)} files: fetch it again")
    # An archive that files were appended to may hold a file twice; as for tar, the last one counts.
    return list({entry.name: entry for entry in entries + _linked(links, entries, str(path))}.values())


def _linked(links, entries, path):
    """Entries for a tar archive's links to files; one to a missing file gets an Entry that fails when it is read."""
    if not links:
        return []
    targets = {entry.name: entry for entry in entries}
    for name, target in links:
        targets[name] = targets.get(target, Entry(name, path, -1, -1))._replace(name=name)
    return [targets[name] for name, _ in links]


def plain_copy(path, scratch_dir):
    """Path of the decompressed copy of a gzip file, made in `scratch_dir`; for other files, their own path.

    Raises:
      UserError: If the file is damaged or cut short.
    """
    path = Path(path)
    with open(path, "rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path
    # There may also be a copy of another file of that name, or of this one before it was replaced.
    status = path.stat()
    version = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    plain = Path(scratch_dir) / f"{path.name}.{hashlib.sha256(os.fsencode(version)).hexdigest()[:12]}.plain"
    if plain.exists():
        return plain
    part = plain.with_name(f".{plain.name}.{os.getpid()}.partial")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        with gzip.open(path, "rb") as compressed, open(part, "wb") as file:
            shutil.copyfileobj(compressed, file, 2**20)
        os.replace(part, plain)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged or cut short ({error}): fetch it again") from None
    finally:
        part.unlink(missing_ok=True)
    return plain


def read_item(item):
    """The bytes of a `plan.Item`.

    Raises:
      BadFileError: If they cannot be read, or changed since they were listed or while they were read.
    """
    path = os.path.join(item.location, item.name) if item.offset < 0 else item.location
    try:
        with open(path, "rb") as file:
            before = os.fstat(file.fileno())
            size = before.st_size if item.offset < 0 else item.size
            if size > MOST_BYTES:
                raise BadFileError(f"{size} bytes are too many for an image, {MOST_BYTES} are allowed")
            file.seek(max(item.offset, 0))
            data = file.read(size)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise BadFileError(f"it cannot be read ({error.strerror})") from None
    unchanged = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if not unchanged or len(data) != size or (item.offset < 0 <= item.size != size):
        raise BadFileError("it changed while it was read: leave the source alone meanwhile")
    return data


def read_text(path):
    """The content of a text file.

    Raises:
      UserError: If it is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")  # Some editors put a byte order mark in front.
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8") from None


def named(names):
    """The first few names and the number of the rest, for a message."""
    names = list(names)
    more = f" and {len(names) - _LINES_OF_NAMES} more" if len(names) > _LINES_OF_NAMES else ""
    return ", ".join(map(str, names[:_LINES_OF_NAMES])) + more


def _walk(root, below, parents):
    """Yields an Entry for each file; `parents` are the (device, inode) of the folders on the way down."""
    folder = os.path.join(root, below)
    try:
        status = os.stat(folder)
        with os.scandir(folder) as found:
            found = list(found)
    except OSError as error:
        raise UserError(
            f"folder {folder} cannot be read ({error.strerror}): mend its permissions, or move it out of the source"
        ) from None
    if (status.st_dev, status.st_ino) in parents:
        raise UserError(f"{folder} is a link to a folder that it is in, a loop without end: remove the link")
    parents += ((status.st_dev, status.st_ino),)
    for entry in found:
        name = os.path.join(below, entry.name)
        if is_hidden(entry.name):
            continue
        try:
            status = entry.stat()
        except OSError:
            # A link to nothing or to itself is listed, so that reading it reports the fault.
            yield Entry(name, root, -1, -1)
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(root, name, parents)
        elif stat.S_ISREG(status.st_mode):
            yield Entry(name, root, -1, status.st_size)


def is_hidden(name):
    """Whether a file, or a folder it is in, is hidden: not meant for people."""
    return any(part.startswith(".") or part in _IGNORED_FOLDERS for part in name.removeprefix("./").split("/"))


def _is_zero_block(path, offset):
    with open(path, "rb") as file:
        file.seek(offset)
        block = file.read(512)
    return bool(block) and not any(block)
