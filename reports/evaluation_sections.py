"""What a page shows about an evaluation, on a run's page or its own: confusion matrix, classes, worst mistakes."""

import numpy as np

from reports import page
from reports.evaluation_figures import confusion_figure, fold, mistakes_figure, picture_png

_MOST_ROWS = 40
_MOST_PAIRS = 12
_SMALL = 64


def sections(confusion_matrix, class_names, mistakes):
    """The sections and figures of an evaluation.

    Args:
      confusion_matrix: Counts, rows: label, columns: predicted.
      class_names: A name for each class.
      mistakes: A list of training.mistakes.Mistake, the worst first.

    Returns:
      A list of HTML sections, and a dict of file name -> PNG bytes.
    """
    confusion_matrix = np.asarray(confusion_matrix)
    figures = {"confusion_matrix.png": confusion_figure(confusion_matrix, class_names)}
    if mistakes:
        figures["mistakes.png"] = mistakes_figure(mistakes, class_names)
    parts = [
        _confusion_section(confusion_matrix, class_names, figures["confusion_matrix.png"]),
        _classes_section(confusion_matrix, class_names),
        _mistakes_section(mistakes, class_names),
    ]
    return parts, figures


def _confusion_section(counts, names, png):
    _, group = fold(counts)
    note = "Rows are the labels, columns what they were taken for; the shade is the share of the label's images."
    if group > 1:
        note += (
            f" {len(names)} classes are folded: a row stands for {group} classes of neighbouring numbers, and the "
            "diagonal holds what stays within them."
        )
    parts = [page.figure(png, f"Confusion matrix of {len(names)} classes", note)]
    pairs = most_confused(counts)[:_MOST_PAIRS]
    if pairs:
        rows = [
            (names[label], names[predicted], count, f"{count / counts[label].sum():.4f}")
            for label, predicted, count in pairs
        ]
        columns = ("label", "taken for", "images", "of the label's")
        parts += [page.paragraph("Most frequent mistakes"), page.table(columns, rows, numbers=(2, 3))]
    return page.section("confusion", "Confusion matrix", *parts)


def most_confused(counts):
    """(label, predicted, images) for every pair of confused classes, the most frequent first."""
    mistaken = np.array(counts)
    np.fill_diagonal(mistaken, 0)
    labels, predicted = np.nonzero(mistaken)
    order = np.argsort(-mistaken[labels, predicted], kind="stable")
    return [(int(labels[i]), int(predicted[i]), int(mistaken[labels[i], predicted[i]])) for i in order]


def _classes_section(counts, names):
    images, hits, predicted = counts.sum(axis=1), np.diag(counts), counts.sum(axis=0)
    rows = [
        (
            index,
            name,
            int(images[index]),
            f"{hits[index] / images[index]:.4f}" if images[index] else "no images",
            f"{hits[index] / predicted[index]:.4f}" if predicted[index] else "never predicted",
        )
        for index, name in enumerate(names)
    ]
    columns, numbers = ("id", "class", "images", "top-1 (recall)", "precision"), (0, 2, 3, 4)
    if len(rows) <= _MOST_ROWS:
        return page.section("classes", "Classes", page.table(columns, rows, numbers))
    scored = [index for index in range(len(rows)) if images[index]]
    worst = sorted(scored, key=lambda index: hits[index] / images[index])[: _MOST_ROWS // 2]
    return page.section(
        "classes",
        "Classes",
        page.paragraph(f"The {len(worst)} classes with the lowest top-1"),
        page.table(columns, [rows[index] for index in worst], numbers),
        page.folded(f"All {len(rows)} classes", page.table(columns, rows, numbers)),
    )


def _mistakes_section(mistakes, names):
    if not mistakes:
        return page.section("mistakes", "Worst mistakes", page.paragraph("None: every image got its label."))
    pictures = [
        page.figure(
            picture_png(mistake.picture),
            f"record {mistake.record}",
            f"{names[mistake.label]}, taken for {names[mistake.predicted]} with probability {mistake.probability:.3f}; "
            f"cross-entropy {mistake.cross_entropy:.2f}, record {mistake.record}",
            kind="small" if max(mistake.picture.shape[:2]) <= _SMALL else "",
        )
        for mistake in mistakes
    ]
    note = (
        f"The {len(mistakes)} images with the highest cross-entropy among those that were taken for another class, as "
        "the network was fed them, each stretched to full contrast. Records count from 0 in file order."
    )
    return page.section("mistakes", "Worst mistakes", page.paragraph(note, quiet=True), page.pictures(pictures))
