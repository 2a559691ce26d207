"""Features on disk: parts while they are computed, then one file in the format of its ending.

A part holds few enough images that its arrays stay small. The file is made from the parts one after another, so memory
does not grow with the number of images. Wherever a run is interrupted, the file is made from the same parts.
"""

import fcntl
import json
import os
import pathlib
import zipfile

import numpy as np

from command_line import UserError
from inference.image_files import printable
from whole_files import written_whole

NAME, LABEL = "name", "label"
_FAILURES = "failures"


class Part:
    """The features of some images, and the names of those that could not be read."""

    def __init__(self, shapes, labelled):
        """Args: shapes: a dict of end point -> shape of an image's activations; labelled: whether there are labels."""
        self._features = {name: [np.zeros([0, *shape], np.float32)] for name, shape in shapes.items()}
        self._labelled = labelled
        self._items, self._failures = [], []

    def add(self, batch, features):
        """Adds a `batches.Batch` and, unless nothing in it could be read, its features by end point."""
        self._items += batch.items
        self._failures += batch.failures
        for name, values in features.items():
            self._features[name].append(np.asarray(values, np.float32))

    def arrays(self):
        """Everything as arrays by key."""
        arrays = {NAME: np.array([item.filename or item.name for item in self._items], np.str_)}
        if self._labelled:
            arrays[LABEL] = np.array([item.label for item in self._items], np.int64)
        arrays[_FAILURES] = np.array(self._failures, np.str_).reshape(-1, 2)
        return arrays | {name: np.concatenate(values) for name, values in self._features.items()}


class Parts:
    """The unfinished folder beside an output: its plan, and the parts computed so far.

    A context manager that locks the folder against other processes.
    """

    def __init__(self, output, plan, overwrite):
        """Opens the folder, or makes it.

        Args:
          output: Path of the file that will be made.
          plan: What the parts depend on, JSON-able; keys are names of flags.
          overwrite: Whether an existing output may be replaced, and an unfinished one with another plan dropped.

        Raises:
          UserError: If the output exists, or the folder belongs to another plan or is in use.
        """
        output = pathlib.Path(output)
        if output.exists() and not overwrite:
            raise UserError(f"{output} exists already: give another --output, or --overwrite")
        self.folder = output.with_name(f"{output.name}.unfinished")
        self._plan_file = self.folder / "plan.json"
        self._lock = _lock(self.folder, output)
        try:
            self._open(output, plan, overwrite)
        except BaseException:
            os.close(self._lock)
            raise

    def _open(self, output, plan, overwrite):
        before = json.loads(self._plan_file.read_text(encoding="utf-8")) if self._plan_file.exists() else None
        # A plan without parts holds no work that could be lost; parts without their plan are useless.
        if before is not None and before != plan and self.paths and not overwrite:
            raise UserError(_other_plan(output, before, plan))
        if before != plan:
            self._clear()
            with written_whole(self._plan_file) as part:
                part.write_text(json.dumps(plan, indent=2), encoding="utf-8")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        os.close(self._lock)

    def _clear(self):
        """Removes what is in the folder, the plan first: parts left by a kill are then known to be useless."""
        self._plan_file.unlink(missing_ok=True)
        for path in self.folder.iterdir():
            path.unlink()

    @property
    def paths(self):
        """The paths of the parts, in order."""
        return sorted(self.folder.glob("part-*.npz"))

    def add(self, part):
        """Writes a Part as the next one, completely or not at all."""
        path = self.folder / f"part-{len(self.paths):06d}.npz"
        unfinished = self.folder / f".{path.name}"
        np.savez(unfinished, **part.arrays())
        os.replace(unfinished, path)

    def count(self):
        """The number of images in all parts."""
        return sum(len(_array(path, NAME)) for path in self.paths)

    def drop(self):
        """Removes the folder and all parts."""
        self._clear()
        self.folder.rmdir()

    def failures(self):
        """Tuples (name, reason) of the failures in all parts."""
        return [tuple(row) for part in self.paths for row in _array(part, _FAILURES).tolist()]

    def finish(self, output, shapes, labelled):
        """Makes the output from the parts and removes them.

        Args:
          output: Path; its ending is one of WRITERS.
          shapes: A dict of end point -> shape of an image's activations.
          labelled: Whether the parts have labels.

        Returns:
          The number of images.
        """
        output = pathlib.Path(output)
        part = output.with_name(f".{output.name}.part")
        try:
            count = self.count()
            WRITERS[output.suffix](part, self.paths, count, shapes, labelled)
            os.replace(part, output)
        finally:
            part.unlink(missing_ok=True)
        self.drop()
        return count


def _lock(folder, output):
    """Makes a folder and locks it; returns the open descriptor that holds the lock.

    Raises:
      UserError: If another process holds it.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            # The system drops the lock when the process ends, however it ends.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The previous holder may have finished and removed the folder.
            if folder.exists() and os.path.samestat(os.stat(folder), os.fstat(descriptor)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise UserError(
                f"another process is at work on {output}: wait for it, or give this one another --output"
            ) from None
        except OSError:
            # A file system without locks.
            return descriptor
        os.close(descriptor)


def check_output(output):
    """Checks the ending of an output, and that the library to write it is installed.

    Raises:
      UserError: If the ending is unknown, or an extra is missing.
    """
    ending = pathlib.Path(output).suffix
    if ending not in WRITERS:
        raise UserError(f"--output is {output}, expected a name that ends in {', '.join(WRITERS)}")
    if ending == ".parquet":
        _pyarrow()


def _array(path, key):
    with np.load(path) as part:
        return part[key]


def _other_plan(output, before, plan):
    changes = [
        f"--{flag} was {before.get(flag)}, is {plan.get(flag)}"
        for flag in dict.fromkeys([*before, *plan])
        if before.get(flag) != plan.get(flag)
    ]
    return (
        f"{output} was begun with other flags: {'; '.join(changes)}; give those to go on, or --overwrite to begin anew"
    )


def _write_npz(path, parts, count, shapes, labelled):
    """One array after another, each as a member with the header of the whole array."""
    width = max((_array(part, NAME).dtype.itemsize for part in parts), default=4) // 4
    layout = {NAME: (np.dtype(f"<U{max(width, 1)}"), ())}
    if labelled:
        layout[LABEL] = (np.dtype(np.int64), ())
    layout.update((name, (np.dtype(np.float32), shape)) for name, shape in shapes.items())
    with zipfile.ZipFile(path, "w") as archive:
        for key, (dtype, shape) in layout.items():
            # This ZipInfo does not hold the current time: equal features give equal files.
            with archive.open(zipfile.ZipInfo(f"{key}.npy"), "w", force_zip64=True) as member:
                header = {
                    "descr": np.lib.format.dtype_to_descr(dtype),
                    "fortran_order": False,
                    "shape": (count, *shape),
                }
                np.lib.format.write_array_header_1_0(member, header)
                for part in parts:
                    member.write(_array(part, key).astype(dtype).tobytes())


def _write_tfrecord(path, parts, count, shapes, labelled):
    """An Example for each image, with Slim's keys and a float list for each end point."""
    import tensorflow as tf

    from data.record_errors import LABEL_KEY
    from inference.sources import FILENAME_KEY

    del count
    with tf.io.TFRecordWriter(str(path)) as writer:
        for part in parts:
            with np.load(part) as arrays:
                arrays = dict(arrays)
            for index, name in enumerate(arrays[NAME]):
                example = tf.train.Example()
                feature = example.features.feature
                feature[FILENAME_KEY].bytes_list.value.append(os.fsencode(name))
                if labelled:
                    feature[LABEL_KEY].int64_list.value.append(int(arrays[LABEL][index]))
                for end_point in shapes:
                    feature[end_point].float_list.value.extend(arrays[end_point][index].ravel().tolist())
                writer.write(example.SerializeToString(deterministic=True))


def _write_parquet(path, parts, count, shapes, labelled):
    """A column of fixed-length lists for each end point; the shape is in the column's metadata."""
    pyarrow, parquet = _pyarrow()
    del count
    lists = {name: pyarrow.list_(pyarrow.float32(), int(np.prod(shape))) for name, shape in shapes.items()}
    fields = [pyarrow.field(NAME, pyarrow.string())]
    if labelled:
        fields.append(pyarrow.field(LABEL, pyarrow.int64()))
    for name, shape in shapes.items():
        fields.append(pyarrow.field(name, lists[name], metadata={"shape": json.dumps(list(shape))}))
    with parquet.ParquetWriter(path, pyarrow.schema(fields)) as writer:
        for part in parts:
            with np.load(part) as arrays:
                columns = [pyarrow.array([printable(name) for name in arrays[NAME].tolist()], pyarrow.string())]
                if labelled:
                    columns.append(pyarrow.array(arrays[LABEL]))
                for name, kind in lists.items():
                    columns.append(pyarrow.FixedSizeListArray.from_arrays(arrays[name].ravel(), type=kind))
            writer.write_table(pyarrow.table(columns, schema=writer.schema))


def _pyarrow():
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            "writing .parquet needs pyarrow: pip install -e '.[parquet]', or give an --output that ends in .npz"
        ) from None
    return pyarrow, pyarrow.parquet


WRITERS = {".npz": _write_npz, ".tfrecord": _write_tfrecord, ".parquet": _write_parquet}
