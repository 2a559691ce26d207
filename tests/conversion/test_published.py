"""CIFAR, MNIST and flowers, made up in the publishers' forms, from a server, an archive and a folder."""

import dataclasses
import gzip
import hashlib
import io
import struct
import tarfile

import numpy as np
import pytest
from PIL import Image

from command_line import UserError
from data import catalog
from data.conversion import cifar, converters, flowers, idx
from data.conversion.converters import CONVERTERS, Converter

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def md5(data):
    return "md5:" + hashlib.md5(data).hexdigest()


def archive_of(files, folder):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write_all(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def use(monkeypatch):
    def put(name, plan):
        monkeypatch.setitem(CONVERTERS, name, Converter(plan))

    return put


def images_of(count, shape):
    return np.random.RandomState(count).randint(0, 256, [count, *shape]).astype(np.uint8)


@pytest.fixture(params=[cifar.CIFAR10, cifar.CIFAR100], ids=["cifar10", "cifar100"])
def tiny_cifar(request, use, serve):
    """(the converter, {file: bytes}, {split: (labels, images)}, server) of 12 images in each file."""
    original = request.param
    files, held = {original.names_file: "\n".join(NAMES).encode() + b"\n\n"}, {}
    for number, split in enumerate(original.files):
        images, labels = images_of(12 + number, [32, 32, 3]), np.arange(12 + number) % 10
        held[split] = [], []
        for name in original.files[split]:
            head = np.stack([np.full_like(labels, 19), labels], 1)[:, -original.label_bytes :]
            planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
            files[name] = np.concatenate([head, planes], 1).astype(np.uint8).tobytes()
            held[split][0].extend(labels)
            held[split][1].extend(images)
    archive = archive_of(files, "cifar-binary")
    server = serve({"/kriz/cifar.tar.gz": archive})
    sums = {split: {name: md5(files[name]) for name in names} for split, names in original.files.items()}
    tiny = dataclasses.replace(original, url=f"{server.url}/kriz/cifar.tar.gz", checksum=md5(archive), files=sums)
    use(tiny.name, tiny.plan)
    return tiny, files, held, server


def check_cifar(directory, name, held, read):
    dataset = catalog.open_dataset(name, directory)
    assert dataset.class_names == tuple(NAMES) and dataset.image_shape == (32, 32, 3)
    assert dataset.row.preprocessing_name == "cifar"
    for split, (labels, images) in held.items():
        records = read(directory, split)
        assert [label for _, label, _ in records] == list(labels)
        np.testing.assert_array_equal([pixels for pixels, *_ in records], images)


def test_cifar_is_downloaded_over_a_broken_connection(tiny_cifar, run, read, tmp_path):
    tiny, _, held, server = tiny_cifar
    server.cuts = [5000, 1000]
    _, said = run(tiny.name)
    assert server.asked == [None, "bytes=5000-", "bytes=6000-"]
    check_cifar(tmp_path / "out", tiny.name, held, read)
    expected = {f"{tiny.name}_{split}.tfrecord" for split in ("train", "test")} | {"labels.txt", "dataset.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected
    # Done is done, with or without a network.
    server.shutdown()
    server.server_close()
    _, said = run(tiny.name)
    assert len(said) == 1 and "left as it is" in said[0]


def test_cifar_of_local_copies(tiny_cifar, run, read, files_of, tmp_path):
    tiny, files, held, server = tiny_cifar
    write_all(tmp_path / "copy" / "cifar-binary", files)
    (tmp_path / "cifar.tar.gz").write_bytes(server.files["/kriz/cifar.tar.gz"])
    made = []
    for number, source in enumerate([tmp_path / "copy", tmp_path / "copy" / "cifar-binary", tmp_path / "cifar.tar.gz"]):
        run(tiny.name, dataset_dir=tmp_path / f"out{number}", source=source)
        check_cifar(tmp_path / f"out{number}", tiny.name, held, read)
        made.append(files_of(tmp_path / f"out{number}"))
    assert made[0] == made[1]
    assert made[0][f"{tiny.name}_train.tfrecord"] == made[2][f"{tiny.name}_train.tfrecord"]
    assert server.asked == []


def test_cifar_in_shards(tiny_cifar, run, read, tmp_path):
    tiny, _, held, _ = tiny_cifar
    run(tiny.name, num_shards=3)
    check_cifar(tmp_path / "out", tiny.name, held, read)
    assert (tmp_path / "out" / f"{tiny.name}_train_00002-of-00003.tfrecord").exists()


def test_damaged_or_missing_cifar_files(tiny_cifar, run, tmp_path):
    tiny, files, _, _ = tiny_cifar
    first = next(iter(tiny.files["train"]))
    write_all(tmp_path / "copy", {**files, first: files[first][:-1] + b"x"})
    with pytest.raises(UserError, match=f"{first} is not the file that its publisher made"):
        run(tiny.name, source=tmp_path / "copy")
    (tmp_path / "copy" / first).unlink()
    with pytest.raises(UserError, match=f"lacks {first}: expected .* .the binary version, not"):
        run(tiny.name, source=tmp_path / "copy")


def test_flags_that_mean_nothing(run):
    with pytest.raises(UserError, match="cifar10 has splits of its own: leave out --validation_fraction and --seed"):
        run("cifar10", validation_fraction=0.1)


def test_another_data_set_in_the_folder(tiny_cifar, make_images, run):
    run(source=make_images({"a": 2, "b": 2}))
    with pytest.raises(UserError, match="holds data set 'out', not 'cifar100?': give another --dataset_dir"):
        run(tiny_cifar[0].name)


@pytest.fixture(params=[idx.MNIST, idx.FASHION_MNIST], ids=["mnist", "fashion_mnist"])
def tiny_idx(request, use, serve):
    """As tiny_cifar, with the files not yet compressed."""
    original, files, held, counts = request.param, {}, {}, {}
    for count, (split, (images_name, labels_name, _)) in zip((20, 11), original.files.items(), strict=True):
        images, labels = images_of(count, [28, 28]), np.arange(count) % 10
        files[images_name] = struct.pack(">4I", 0x803, count, 28, 28) + images.tobytes()
        files[labels_name] = struct.pack(">2I", 0x801, count) + labels.astype(np.uint8).tobytes()
        held[split] = labels, images
        counts[split] = images_name, labels_name, count
    served = {f"/idx/{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}
    sums = {name: md5(served[f"/idx/{name}.gz"]) for name in files}
    server = serve(served)
    tiny = dataclasses.replace(original, url=f"{server.url}/idx", files=counts, checksums=sums)
    use(tiny.name, tiny.plan)
    return tiny, files, held, server


def check_idx(directory, name, held, read):
    dataset = catalog.open_dataset(name, directory)
    assert dataset.num_classes == 10 and dataset.image_shape == (28, 28, 1)
    for split, (labels, images) in held.items():
        records = read(directory, split)
        assert [label for _, label, _ in records] == list(labels)
        np.testing.assert_array_equal(
            [pixels for pixels, *_ in records], np.repeat(images[..., np.newaxis], 3, axis=-1)
        )


def test_idx_is_downloaded(tiny_idx, run, read, tmp_path):
    tiny, _, held, server = tiny_idx
    server.cuts = [3000]
    run(tiny.name)
    check_idx(tmp_path / "out", tiny.name, held, read)
    assert server.asked[1] == "bytes=3000-"


@pytest.mark.parametrize("form", ["gz", "plain", "dots"])
def test_idx_of_local_copies(tiny_idx, run, read, tmp_path, form):
    tiny, files, held, _ = tiny_idx
    if form == "gz":
        files = {f"{name}.gz": gzip.compress(content) for name, content in files.items()}
    elif form == "dots":
        files = {name.replace("-idx", ".idx"): content for name, content in files.items()}
    run(tiny.name, source=write_all(tmp_path / "copy", files))
    check_idx(tmp_path / "out", tiny.name, held, read)


def test_damaged_idx_files(tiny_idx, run, tmp_path):
    tiny, files, _, _ = tiny_idx
    copy = write_all(tmp_path / "copy", files)
    name = "train-labels-idx1-ubyte"
    (copy / name).write_bytes(files[name][:-1])
    with pytest.raises(UserError, match=f"{name} begins with .2049, 20. and has 27 bytes, expected .2049, 20. and 28"):
        run(tiny.name, source=copy)
    (copy / name).write_bytes(files[name][:-1] + b"\x0a")
    with pytest.raises(UserError, match=f"{name} holds label 10, expected 0 to 9"):
        run(tiny.name, source=copy)
    (copy / name).unlink()
    (copy / f"{name}.gz").write_bytes(gzip.compress(files[name])[:-9])
    with pytest.raises(UserError, match=f"{name}.gz is damaged or cut short"):
        run(tiny.name, source=copy)
    (copy / f"{name}.gz").unlink()
    with pytest.raises(UserError, match=f"lacks {name}.gz .or {name}.: expected the four files"):
        run(tiny.name, source=copy)


@pytest.fixture
def tiny_flowers(use, serve, monkeypatch):
    files = {"LICENSE.txt": b"CC BY 2.0"}
    for label, name in enumerate(flowers.CLASS_NAMES):
        for number in range(6):
            buffer = io.BytesIO()
            Image.fromarray(np.full([8, 8, 3], 40 * label + number, np.uint8)).save(buffer, "JPEG")
            files[f"{name}/{number}.jpg"] = buffer.getvalue()
    archive = archive_of(files, "flower_photos")
    server = serve({"/flower_photos.tgz": archive})
    monkeypatch.setattr(flowers, "URL", f"{server.url}/flower_photos.tgz")
    monkeypatch.setattr(flowers, "CHECKSUM", md5(archive))
    monkeypatch.setattr(flowers, "NUM_IMAGES", 30)
    monkeypatch.setattr(flowers, "NUM_VALIDATION", 5)
    return files


def test_flowers_from_the_server_and_a_folder(tiny_flowers, run, read, files_of, tmp_path):
    result, _ = run("flowers")
    assert result["splits"] == {"train": 25, "validation": 5}
    dataset = catalog.open_dataset("flowers", tmp_path / "out")
    assert [path.rpartition("/")[2] for path in dataset.files("train")] == [
        f"flowers_train_0000{shard}-of-00005.tfrecord" for shard in range(5)
    ]
    records = read(tmp_path / "out", "train") + read(tmp_path / "out", "validation")
    assert all(label == pixels[0, 0, 0] // 40 for pixels, label, _ in records)
    kept = {features["image/encoded"].bytes_list.value[0] for *_, features in records}
    assert kept == {content for name, content in tiny_flowers.items() if name.endswith(".jpg")}
    assert {features["image/format"].bytes_list.value[0] for *_, features in records} == {b"jpg"}
    run("flowers", source=write_all(tmp_path / "photos", tiny_flowers), dataset_dir=tmp_path / "again")
    one, two = files_of(tmp_path / "out"), files_of(tmp_path / "again")
    assert {n: one[n] for n in one if n.endswith("record")} == {n: two[n] for n in two if n.endswith("record")}


def test_flowers_that_are_not_all_there(tiny_flowers, run, tmp_path):
    folder = write_all(tmp_path / "photos", {name: data for name, data in tiny_flowers.items() if "roses" not in name})
    with pytest.raises(UserError, match="holds 24 of the 30 photographs .none of roses.: expected flower_photos.tgz"):
        run("flowers", source=folder)


def test_every_published_data_set_has_a_row():
    published = set(converters.CONVERTERS) - {"image_folder"}
    assert published <= set(catalog.DATASETS)
