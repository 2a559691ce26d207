"""Downloads that survive a broken connection, and checks of files against their publisher's checksums."""

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from command_line import UserError
from data.conversion.alone import alone
from data.conversion.progress import Progress

_ATTEMPTS_WITHOUT_PROGRESS = 4
_FIRST_PAUSE_SECONDS = 1.0
_TIMEOUT_SECONDS = 60.0
_BLOCK_BYTES = 2**20


def is_url(source):
    return str(source).startswith(("http://", "https://"))


def fetch(url, folder, checksum=None):
    """Downloads a file, resuming where an earlier call or a broken connection stopped.

    If two processes want the same file, the second waits for the first.

    Args:
      url: http or https.
      folder: Where the file goes, under its name in the URL, in a subfolder for this URL, since publishers give
        different files the same name. Made if missing.
      checksum: As for `check`; None for no check.
    Returns:
      Path of the file, complete and checked.
    Raises:
      UserError: If the server cannot be reached or does not have the file, or the checksum is wrong.
    """
    path = place_of(url, folder)
    with alone(path.parent / ".lock"):
        if not path.exists():
            _fetch_to(path, url, checksum)
    return path


def place_of(url, folder):
    """The path at which `fetch` puts a file."""
    own = hashlib.sha256(url.encode()).hexdigest()[:12]
    return Path(folder) / own / os.path.basename(urllib.parse.urlparse(url).path)


def _fetch_to(path, url, checksum):
    part = path.with_name(path.name + ".part")
    resumed = part.exists()
    _download(url, part)
    if checksum is not None and not _matches(part, checksum):
        # It may be joined from parts of two versions of the file.
        part.unlink()
        if resumed:
            return _fetch_to(path, url, checksum)
        raise UserError(
            f"{url} gave a file with another {checksum.partition(':')[0]} than its publisher's, "
            f"{checksum.partition(':')[2]}: try again later, or give a good copy with --source"
        )
    os.replace(part, path)


def check(path, checksum, offset=0, size=None):
    """Checks a file, or a part of it, against a checksum such as "md5:c32a1d..." or "sha256:58a81a...".

    Raises:
      UserError: If they differ.
    """
    if not _matches(path, checksum, offset, size):
        kind, _, expected = checksum.partition(":")
        raise UserError(
            f"{path} is not the file that its publisher made, whose {kind} is {expected}: fetch it again, or convert "
            f"your own version of the data with --dataset_name=image_folder"
        )


def _matches(path, checksum, offset=0, size=None):
    kind, _, expected = checksum.partition(":")
    digest = hashlib.new(kind, usedforsecurity=False)
    left = os.path.getsize(path) if size is None else size
    with open(path, "rb") as file:
        file.seek(offset)
        while left and (block := file.read(min(left, _BLOCK_BYTES))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest() == expected


def _download(url, part):
    failures, pause = 0, _FIRST_PAUSE_SECONDS
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _download_rest(url, part)
            return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise UserError(
                    f"{url} is not to be had ({error.code} {error.reason}): give a copy of your own with --source"
                ) from None
            reason = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", error) or type(error).__name__)
        after = part.stat().st_size if part.exists() else 0
        failures, pause = (1, _FIRST_PAUSE_SECONDS) if after > before else (failures + 1, 2 * pause)
        if failures >= _ATTEMPTS_WITHOUT_PROGRESS:
            raise UserError(
                f"cannot download {url} ({reason}); the same command goes on after the {after} bytes that are there. "
                f"Without a network, give a copy of the file with --source"
            )
        time.sleep(pause)


def _download_rest(url, part):
    """Makes one request for the bytes that `part` lacks. Raises what urllib and http.client raise."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        # Range not satisfiable: the server has no further bytes. The checksum will tell whether the file is complete.
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{have}":
            return
        if error.code == 416:
            part.unlink()
            raise ConnectionError("the file on the server has changed") from None
        raise
    with response:
        continues = response.status == 206 and _first_byte(response) == have
        if have and not continues:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            Progress(f"downloading {part.stem}", total, "bytes") as progress,
            open(part, "ab" if continues else "wb") as file,
        ):
            progress.advance(have)
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                progress.advance(len(block))
    if total is not None and part.stat().st_size < total:
        raise ConnectionError(f"the connection ended after {part.stat().st_size} of {total} bytes")


def _first_byte(response):
    """The first byte of a partial response; None if it does not say."""
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else None
