"""An evaluation as figures and tables, by matrices made by hand."""

import io

import numpy as np
import pytest
from PIL import Image

from command_line import UserError
from reports import evaluation_report, evaluation_sections
from reports.evaluation_figures import fold
from training.mistakes import Mistake


def test_neighbouring_classes_are_added_up():
    counts = np.arange(25).reshape(5, 5)
    folded, group = fold(counts, most=3)
    # Classes 0 and 1, 2 and 3, and 4 alone.
    assert group == 2
    assert folded.tolist() == [
        [0 + 1 + 5 + 6, 2 + 3 + 7 + 8, 4 + 9],
        [10 + 11 + 15 + 16, 12 + 13 + 17 + 18, 14 + 19],
        [20 + 21, 22 + 23, 24],
    ]
    same, group = fold(counts, most=5)
    assert group == 1 and (same == counts).all()


def test_the_most_confused_pairs_come_first():
    counts = [[9, 1, 0], [4, 9, 0], [1, 0, 9]]
    assert evaluation_sections.most_confused(np.array(counts)) == [(1, 0, 4), (0, 1, 1), (2, 0, 1)]


@pytest.mark.parametrize("classes", [1, 2, 10, 100, 1000])
def test_any_number_of_classes(classes):
    """Each class with 9 right answers but the first, of which one image was taken for the last class."""
    counts = 9 * np.eye(classes, dtype=int)
    counts[0, -1] += 1
    names = [f"class <{index}>" for index in range(classes)]
    picture = np.full([4, 4, 3], 100, np.uint8)
    mistakes = [Mistake(7, 0, classes - 1, 0.75, 2.5, picture)] if classes > 1 else []
    parts, figures = evaluation_sections.sections(counts, names, mistakes)
    text = "".join(parts)
    assert "class &lt;0&gt;" in text and "<0>" not in text
    assert set(figures) == {"confusion_matrix.png", *(["mistakes.png"] if mistakes else [])}
    for content in figures.values():
        with Image.open(io.BytesIO(content)) as image:
            assert max(image.size) < 1200
    # One row for each class, whatever is shown first.
    assert text.count(">never predicted<") == 0
    assert text.count("<details>") == (1 if classes > 40 else 0)
    if classes > 1:
        assert f"class &lt;0&gt;, taken for class &lt;{classes - 1}&gt; with probability 0.750" in text
        assert ">0.9000<" in text  # 9 of the first class's 10 images.
    assert ("folded" in text) == (classes > 100)


def test_a_class_without_images_is_no_error():
    parts, _ = evaluation_sections.sections(np.array([[2, 0, 0], [1, 0, 0], [0, 0, 0]]), ["a", "b", "c"], [])
    assert "no images" in "".join(parts) and "never predicted" in "".join(parts)


def test_paths_of_a_page(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.html").mkdir()
    for name, message in (("file", "is a file"), ("folder.html", "is a folder")):
        with pytest.raises(UserError, match=message):
            evaluation_report.check_path(tmp_path / name)
    for name in ("new.html", "new", "."):
        evaluation_report.check_path(tmp_path / name)
