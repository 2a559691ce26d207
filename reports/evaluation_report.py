"""The page of one evaluation."""

import pathlib

import whole_files
from command_line import UserError
from reports import page
from reports.evaluation_sections import sections

FIGURES = "figures"


def check_path(path):
    """Raises a UserError unless `write` accepts the path: FILE.html, or a folder."""
    path = pathlib.Path(path)
    if path.suffix == ".html" and path.is_dir():
        raise UserError(f"--report {path} is a folder, expected a file where the name ends in .html; name another")
    if path.suffix != ".html" and path.exists() and not path.is_dir():
        raise UserError(f"--report {path} is a file, expected a folder, or a file that ends in .html; name another")


def write(path, result, mistakes):
    """Writes the page.

    Args:
      path: FILE.html for only the page; a folder for report.html and figures/*.png in it.
      result: The dict that `evaluate_checkpoint` returns.
      mistakes: A list of training.mistakes.Mistake, the worst first.

    Returns:
      The page's path.
    """
    path = pathlib.Path(path)
    names = [row["name"] for row in result["per_class"]]
    parts, figures = sections(result["confusion_matrix"], names, mistakes)
    facts = [
        page.Fact("top-1", f"{result['top_1']:.4f}"),
        page.Fact("top-5", f"{result['top_5']:.4f}"),
        page.Fact("cross-entropy", f"{result['cross_entropy']:.4f}"),
        page.Fact("images", f"{result['count']:,}"),
    ]
    how = ("checkpoint", "preprocessing", "image_size", "labels_offset", "precision")
    parts.append(
        page.section("how", "How it was scored", page.table(("what", "value"), [(name, result[name]) for name in how]))
    )
    title = f"{result['model_name']} on {result['dataset']}"
    subtitle = f"Split {result['split']}, every one of its {result['count']:,} images scored once"
    if path.suffix == ".html":
        whole_files.write(path, page.page(title, subtitle, facts, parts))
        return path
    write_figures(path, figures)
    whole_files.write(path / "report.html", page.page(title, subtitle, facts, parts))
    return path / "report.html"


def write_figures(folder, figures):
    """Writes a dict of file name -> PNG bytes into `figures` of a folder."""
    for name, content in figures.items():
        whole_files.write(pathlib.Path(folder) / FIGURES / name, content)
