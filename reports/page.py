"""Self-contained pages: one HTML file with embedded pictures, readable without scripts and without a network."""

import base64
import html
from typing import NamedTuple

_STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f4f5f7; color: #1f2430; font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 26px; line-height: 1.25; margin: 12px 0 2px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 12px; }
p { margin: 0 0 12px; }
.quiet, figcaption { color: #5c6370; }
section { background: #fff; border: 1px solid #e1e4ea; border-radius: 8px; padding: 18px 20px; margin-top: 18px; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 18px 0 0; }
dl.facts div { background: #fff; border: 1px solid #e1e4ea; border-radius: 8px; padding: 10px 14px; }
dl.facts dt { color: #5c6370; font-size: 13px; }
dl.facts dd { margin: 0; font-size: 21px; font-weight: 600; font-variant-numeric: tabular-nums; }
dl.facts dd.long { font-size: 15px; overflow-wrap: anywhere; }
figure { margin: 0 0 14px; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: 13px; margin-top: 4px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 14px 4px 0; text-align: left; border-bottom: 1px solid #eceef2; vertical-align: top; }
td { overflow-wrap: anywhere; }
.whole td { white-space: nowrap; }
th { color: #5c6370; font-weight: 600; white-space: nowrap; }
th.number, td.number { text-align: right; overflow-wrap: normal; white-space: nowrap; }
summary { cursor: pointer; color: #2a5db0; margin: 10px 0; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 14px; }
.pictures figure { margin: 0; }
.pictures img { width: 100%; border-radius: 4px; background: #eceef2; }
.pictures img.small { image-rendering: pixelated; }
.pictures figcaption { overflow-wrap: anywhere; }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""


class Fact(NamedTuple):
    """A number or a few words at the top of a page, and its name."""

    name: str
    value: str


def escape(text):
    """Escapes text for HTML."""
    return html.escape(str(text))


def page(title, subtitle, facts, sections):
    """A complete page.

    Args:
      title, subtitle: Text.
      facts: A Fact for each box at the top.
      sections: HTML of each section, as `section` makes it.

    Returns:
      The HTML.
    """
    boxes = "".join(
        f"<div><dt>{escape(fact.name)}</dt>{_tag('dd', 'long' if len(fact.value) > 14 else '')}"
        f"{escape(fact.value)}</dd></div>"
        for fact in facts
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{escape(title)}</h1>\n<p class="quiet">{escape(subtitle)}</p>\n<dl class="facts">{boxes}</dl>\n'
        f"{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def section(name, title, *parts):
    """A section with an id, a heading and HTML parts."""
    return f'<section id="{escape(name)}">\n<h2>{escape(title)}</h2>\n{"".join(parts)}</section>\n'


def paragraph(text, quiet=False):
    """A paragraph of text."""
    return f"{_tag('p', 'quiet' if quiet else '')}{escape(text)}</p>\n"


def folded(summary, *parts):
    """Parts that are shown when their summary is clicked; needs no script."""
    return f"<details><summary>{escape(summary)}</summary>\n{''.join(parts)}</details>\n"


def table(columns, rows, numbers=(), whole=False):
    """A table.

    Args:
      columns: A heading for each column.
      rows: Rows of cells, text or numbers; numbers that need a format come as text.
      numbers: Indices of right-aligned columns.
      whole: Whether cells are never wrapped, so that a wide table scrolls.
    """

    def cells(tag, row):
        return "".join(
            f"{_tag(tag, 'number' if index in numbers else '')}{escape(cell)}</{tag}>" for index, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>\n" for row in rows)
    opening = _tag("table", "whole" if whole else "")
    return f'<div class="wide">{opening}\n<tr>{cells("th", columns)}</tr>\n{body}</table></div>\n'


def figure(png, text, caption="", kind=""):
    """An embedded picture from PNG bytes; `text` says in words what it shows."""
    data = base64.b64encode(png).decode("ascii")
    caption = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img class="{kind}" alt="{escape(text)}" src="data:image/png;base64,{data}">{caption}</figure>\n'


def pictures(figures):
    """Figures side by side."""
    return f'<div class="pictures">{"".join(figures)}</div>\n'


def _tag(name, kind):
    return f'<{name} class="{kind}">' if kind else f"<{name}>"
