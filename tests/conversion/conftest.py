"""Folders of images, data sets made of them, and a server on this machine that breaks connections."""

import http.server
import threading

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import download_and_convert_data
from data import catalog
from data.conversion import command, fetching


@pytest.fixture
def make_images(tmp_path):
    """A function that writes PNGs of one colour each, {class: count}, and returns their folder."""

    def make(classes, folder="source"):
        for name, count in classes.items():
            directory = tmp_path / folder / name
            directory.mkdir(parents=True)
            for number in range(count):
                colour = [hash_of(name), number, len(folder)]
                Image.fromarray(np.full([5, 7, 3], colour, np.uint8)).save(directory / f"{number:03d}.png")
        return tmp_path / folder

    return make


def hash_of(name):
    return sum(name.encode()) % 256


@pytest.fixture
def run(tmp_path):
    """A function that runs the command with flags and returns (its result, the lines that it said)."""

    def run_command(dataset_name="image_folder", dataset_dir=None, **flags):
        said = []
        config = download_and_convert_data.ConvertConfig(
            dataset_name=dataset_name,
            dataset_dir=dataset_dir or tmp_path / "out",
            **{name: str(value) if name == "source" else value for name, value in flags.items()},
        )
        return command.convert(config, show=said.append), said

    return run_command


@pytest.fixture
def read():
    """A function of a data set's directory and a split to its [(pixels, label, features)], in file order."""

    def read_records(directory, split="train"):
        held = []
        for record in tf.data.TFRecordDataset(
            catalog.open_dataset(directory=directory).files(split)
        ).as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            encoded = features["image/encoded"].bytes_list.value[0]
            pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()
            held.append((pixels, features["image/class/label"].int64_list.value[0], features))
        return held

    return read_records


@pytest.fixture
def files_of():
    """A function of a folder to {name: bytes} of its files, those of unfinished work left out."""

    def read_files(directory):
        return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}

    return read_files


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, {path: bytes}; the n-th answer ends after `cuts[n]` bytes of its body."""

    daemon_threads = True

    def __init__(self, files, ranges=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.ranges = files, ranges
        self.cuts, self.errors, self.asked = [], [], []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.server.errors:
            return self.send_error(self.server.errors.pop(0))
        if self.path not in self.server.files:
            return self.send_error(404)
        content = self.server.files[self.path]
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else None
        self.wfile.write(content[start:][:cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    """A function of {path: bytes} to a running Server."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetching, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(fetching, "_BLOCK_BYTES", 1000)
    servers = []

    def start(files, **options):
        server = Server(files, **options)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
