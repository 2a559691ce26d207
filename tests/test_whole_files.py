"""Files that are written whole: links and pipes stay what they are, and nothing is left of an attempt that failed."""

import errno
import json
import os
import pathlib
import threading

import pytest

import whole_files
from command_line import UserError
from whole_files import part_of, written_whole


def test_a_file_and_its_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "out.txt"
    with written_whole(path) as part:
        part.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert [child.name for child in path.parent.iterdir()] == ["out.txt"]


def test_an_error_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("before")
    with pytest.raises(KeyError), written_whole(path) as part:
        part.write_text("half")
        raise KeyError
    assert path.read_text() == "before"
    assert [child.name for child in tmp_path.iterdir()] == ["out.txt"]


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("before")
    link.symlink_to(target)
    whole_files.write_json(link, {"top_1": 1})
    assert link.is_symlink()
    assert target.read_text() == '{\n  "top_1": 1\n}\n'


def test_a_pipe_gets_what_is_written(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    whole_files.write_json(pipe, [1])
    reader.join(timeout=60)
    assert read == ["[\n  1\n]\n"]
    assert pipe.is_fifo()


def test_a_device_is_written_and_stays(tmp_path):
    assert part_of(os.devnull) == pathlib.Path(os.devnull)  # Or the next lines would replace it, for root.
    before = os.stat(os.devnull)
    with written_whole(os.devnull) as part, open(part, "w") as file:
        file.write("gone")
    after = os.stat(os.devnull)
    assert (after.st_mode, after.st_rdev) == (before.st_mode, before.st_rdev)


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/out.txt could not be written: .*; make room, or name another place"):
        whole_files.write_json(tmp_path / "file" / "out.txt", 1)


def test_a_file_that_other_output_goes_to_is_left_alone(tmp_path):
    """As --json=/dev/stdout with > FILE, or >> FILE."""
    with open(tmp_path / "log", "w") as log:
        log.write("before")
        log.flush()
        with pytest.raises(UserError, match="log, which other output goes to: give another file"):
            whole_files.write_json(f"/dev/fd/{log.fileno()}", 1)
    assert (tmp_path / "log").read_text() == "before"


def test_names_that_do_not_decode_come_back(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    whole_files.write_json(tmp_path / "out.json", {"file": name})
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == {"file": name}


def test_permissions_of_the_earlier_file_stay(tmp_path):
    path = tmp_path / "out.json"
    path.write_text("")
    path.chmod(0o600)
    whole_files.write_json(path, 1)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_to_itself_and_a_long_name(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    whole_files.write_json(tmp_path / "loop", 1)
    assert (tmp_path / "loop").read_text() == "1\n"
    path = tmp_path / ("\N{GREEK SMALL LETTER ALPHA}" * 125 + ".json")  # 255 bytes.
    whole_files.write_json(path, 1)
    assert path.read_text() == "1\n"


def test_a_full_disk_leaves_the_file_before(tmp_path, monkeypatch):
    target = tmp_path / "page.html"
    whole_files.write(target, "before")
    replace = os.replace

    def full(source, destination):
        assert pathlib.Path(source).read_bytes() == b"after"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="page.html could not be written: .*No space left on device; make room"):
        whole_files.write(target, "after")
    monkeypatch.setattr(os, "replace", replace)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"] and target.read_text() == "before"
