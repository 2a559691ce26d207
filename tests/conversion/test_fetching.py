"""Downloads from a server on this machine that breaks connections."""

import concurrent.futures
import hashlib

import pytest

from command_line import UserError
from data.conversion import fetching

CONTENT = bytes(range(256)) * 4000
SUM = "md5:" + hashlib.md5(CONTENT).hexdigest()


def write_part(server, folder, content):
    """What an earlier call had downloaded of /a.bin."""
    path = fetching.place_of(f"{server.url}/a.bin", folder)
    path.parent.mkdir()
    path.with_name("a.bin.part").write_bytes(content)


def test_files_of_one_name_are_not_taken_for_each_other(serve, tmp_path):
    """MNIST's and Fashion-MNIST's are called alike, and so may two versions of a data set be."""
    server = serve({"/v1/a.bin": b"one", "/v2/a.bin": b"two"})
    found = [fetching.fetch(f"{server.url}/{version}/a.bin", tmp_path).read_bytes() for version in ("v1", "v2", "v1")]
    assert found == [b"one", b"two", b"one"] and len(server.asked) == 2


def test_two_processes_download_a_file_once(serve, tmp_path):
    server = serve({"/a.bin": CONTENT})
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: fetching.fetch(f"{server.url}/a.bin", tmp_path, SUM), range(4)))
    assert len(paths) == 1 and paths.pop().read_bytes() == CONTENT and server.asked == [None]


def test_a_file_arrives(serve, tmp_path):
    server = serve({"/data/a.bin": CONTENT})
    path = fetching.fetch(f"{server.url}/data/a.bin", tmp_path / "new", SUM)
    assert path.name == "a.bin" and path.parents[1] == tmp_path / "new" and path.read_bytes() == CONTENT
    assert fetching.fetch(f"{server.url}/data/a.bin", tmp_path / "new", SUM) == path
    assert server.asked == [None]


def test_broken_connections_are_taken_up_where_they_ended(serve, tmp_path):
    server = serve({"/a.bin": CONTENT})
    server.cuts = [100_000, 0, 50_000]
    assert fetching.fetch(f"{server.url}/a.bin", tmp_path, SUM).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=100000-", "bytes=150000-"]


def test_the_next_run_goes_on(serve, tmp_path):
    server = serve({"/a.bin": CONTENT})
    server.cuts = [300_000, 0, 0, 0]
    with pytest.raises(UserError, match="cannot download .*a.bin .*goes on after the 300000 bytes .*--source"):
        fetching.fetch(f"{server.url}/a.bin", tmp_path, SUM)
    assert not fetching.place_of(f"{server.url}/a.bin", tmp_path).exists()
    server.cuts, server.asked = [], []
    assert fetching.fetch(f"{server.url}/a.bin", tmp_path, SUM).read_bytes() == CONTENT
    assert server.asked == ["bytes=300000-"]


def test_a_server_without_ranges_starts_anew(serve, tmp_path):
    server = serve({"/a.bin": CONTENT}, ranges=False)
    server.cuts = [300_000]
    assert fetching.fetch(f"{server.url}/a.bin", tmp_path, SUM).read_bytes() == CONTENT


def test_a_part_of_another_version_is_thrown_away(serve, tmp_path):
    server = serve({"/a.bin": CONTENT})
    write_part(server, tmp_path, b"other" * 100)
    assert fetching.fetch(f"{server.url}/a.bin", tmp_path, SUM).read_bytes() == CONTENT
    assert server.asked == ["bytes=500-", None]


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more"])
def test_a_part_that_is_whole_or_too_long(serve, tmp_path, part):
    server = serve({"/a.bin": CONTENT})
    write_part(server, tmp_path, part)
    assert fetching.fetch(f"{server.url}/a.bin", tmp_path, SUM).read_bytes() == CONTENT


def test_wrong_sum(serve, tmp_path):
    server = serve({"/a.bin": b"not it"})
    with pytest.raises(UserError, match="a.bin gave a file with another md5 than its publisher's"):
        fetching.fetch(f"{server.url}/a.bin", tmp_path, SUM)
    assert not [path for path in tmp_path.rglob("*.bin*") if path.is_file()]


def test_missing_on_the_server_is_not_tried_again(serve, tmp_path):
    server = serve({})
    with pytest.raises(UserError, match="a.bin is not to be had .404 Not Found.: give a copy of your own"):
        fetching.fetch(f"{server.url}/a.bin", tmp_path, SUM)
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(serve, tmp_path):
    server = serve({"/a.bin": CONTENT})
    server.errors = [503, 502]
    assert fetching.fetch(f"{server.url}/a.bin", tmp_path, SUM).read_bytes() == CONTENT


def test_no_network(serve, tmp_path):
    server = serve({})
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match="cannot download .*Connection refused.*Without a network, give a copy"):
        fetching.fetch(f"{url}/a.bin", tmp_path, SUM)


def test_check_of_a_part(tmp_path):
    (tmp_path / "a").write_bytes(b"xx" + CONTENT + b"yy")
    fetching.check(tmp_path / "a", SUM, offset=2, size=len(CONTENT))
    with pytest.raises(UserError, match="is not the file that its publisher made, whose md5 is"):
        fetching.check(tmp_path / "a", SUM)
