"""Predictions as a table, CSV or JSON, each line written as soon as it is known."""

import csv
import json


class TablePrinter:
    """For people: each image, and below it class, name and probability."""

    def __init__(self, file):
        self._file = file

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def add(self, result):
        """Prints one result of `classify`."""
        width = max(len(row["name"] or "") for row in result["predictions"])
        print(result["image"], file=self._file)
        for row in result["predictions"]:
            print(f"  {row['class_id']:>5}  {row['name'] or '':<{width}}  {row['probability']:.4f}", file=self._file)
        self._file.flush()


class CsvPrinter:
    """A row for each image and class: image, rank (from 1), class_id, name, probability."""

    def __init__(self, file):
        self._writer = csv.writer(file, lineterminator="\n")
        self._started = False

    def __enter__(self):
        return self

    def __exit__(self, kind, *error):
        if kind is None:
            self._start()

    def add(self, result):
        """Prints one result of `classify`."""
        self._start()
        for rank, row in enumerate(result["predictions"], 1):
            # Nine digits restore a float32 exactly.
            probability = f"{row['probability']:.9g}"
            self._writer.writerow([result["image"], rank, row["class_id"], row["name"] or "", probability])

    def _start(self):
        """Writes the header once, and only after the flags have been checked."""
        if not self._started:
            self._writer.writerow(["image", "rank", "class_id", "name", "probability"])
            self._started = True


class JsonPrinter:
    """One list: [{"image", "predictions": [{"class_id", "name", "probability"}, ...]}, ...]."""

    def __init__(self, file):
        self._file = file
        self._before = "["

    def __enter__(self):
        return self

    def __exit__(self, kind, *error):
        if kind is None:
            print("\n]" if self._before == "," else "[]", file=self._file)

    def add(self, result):
        """Prints one result of `classify`."""
        self._file.write(f"{self._before}\n{json.dumps(result, ensure_ascii=False)}")
        self._before = ","


PRINTERS = {"table": TablePrinter, "csv": CsvPrinter, "json": JsonPrinter}
