"""Numbered figures and tables that read well on the screen and in the PDF alike.

Numbers and captions are plain text in the saved notebook, so every viewer shows them. The report's
LaTeX template (`paper.py`) recognises the two forms and sets them as real captions:

    a picture, followed by the Markdown output    **Figure 3.** What it shows.
    a Markdown paragraph above a pipe table        **Table 2.** What it lists.

The text refers to them as "Figure 3" and "Table 2"; in the PDF these words become links.
"""

from __future__ import annotations

import inspect
import io
import logging
import textwrap

from IPython.display import display
from matplotlib.figure import Figure
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from ..engine.guards import check_positive_int, check_type
from .style import CSS_PIXELS_PER_INCH, PRINT_DPI, SCREEN_DPI, WIDTH, mark, page_box, use_style


class Chart(Figure):
    """A figure as wide as the page's text, made without pyplot, that a notebook shows once.

    It shows itself as the last line of a cell or with `display`, whether or not pyplot has been
    imported. `vector` says whether the report prints it as lines (PDF) or as pixels (PNG).
    """

    def __init__(self, height: float, *, vector: bool = True):
        super().__init__(figsize=(WIDTH, height), layout="constrained")
        self.vector = vector

    def savefig(self, file, **options):
        """As matplotlib's, in the package's style (ticks and texts may be made while drawing)."""
        with use_style():
            super().savefig(file, **{"bbox_inches": page_box(self), **options})

    def _ipython_display_(self) -> None:
        """Asked before any formatter, so that the inline backend's has nothing left to show."""
        display_picture(self)


def show_figure(figure: Figure, number: int, caption: str, note: str = "") -> None:
    """Display a matplotlib Figure and "Figure <number>. <caption>" below it, and close the Figure.

    The caption is one paragraph of Markdown, with `$...$` for mathematics; `note` is a remark at
    the figure's foot, such as what kind of run it comes from. Any Figure will do: one that has no
    `vector` (see `style.Chart`) is printed from its PDF.
    """
    import matplotlib.pyplot as plt

    caption = _caption("Figure", number, caption)
    display_picture(mark(check_type(figure, Figure, "figure"), note), f"Figure {number}")
    show_markdown(caption)
    plt.close(figure)  # one that pyplot made would be shown again


def display_picture(figure: Figure, text: str = "Figure") -> None:
    """Display a figure as PNG, and as PDF if it prints from lines; `text` where neither shows."""
    vector = getattr(figure, "vector", True)
    png = render(figure, "png", SCREEN_DPI if vector else PRINT_DPI)
    data = {"image/png": png, "text/plain": text}
    if vector:
        data["application/pdf"] = render(figure, "pdf")
    width = round(page_box(figure).width * CSS_PIXELS_PER_INCH)
    display(data, raw=True, metadata={"image/png": {"width": width}})


def show_table(table: str, number: int, caption: str) -> None:
    """Display a Markdown pipe table with the caption "Table <number>. <caption>" above it."""
    show_markdown(f"{_caption('Table', number, caption)}\n\n{table.strip()}")


def show_markdown(text: str, **metadata) -> None:
    """Display Markdown text; `metadata` goes with the saved output.

    run_mode="stand-in" (or "quick", "short") says that a notebook's run is no full one on the real
    data: such a notebook is never written to the file names of the real results.
    """
    display({"text/markdown": text, "text/plain": text}, raw=True, metadata=metadata)


def show_source(*objects) -> None:
    """Display the code of classes and functions as it is in the package at this moment.

    The output has only `text/html`: notebook and HTML show it, the PDF leaves it out.
    """
    code = "\n\n".join(textwrap.dedent(inspect.getsource(thing)) for thing in objects)
    look = HtmlFormatter(noclasses=True, cssstyles="padding: 8px")
    display({"text/html": highlight(code, PythonLexer(), look)}, raw=True)


def _caption(kind: str, number: int, caption: str) -> str:
    check_positive_int(number, "number")
    if not isinstance(caption, str) or not caption.strip():
        raise ValueError(f"caption of {kind} {number} must be a text, got {caption!r}")
    return f"**{kind} {number}.** {' '.join(caption.split())}"


def render(figure: Figure, file_format: str, dpi: int = PRINT_DPI) -> bytes:
    """The figure as bytes that do not depend on the clock."""
    logging.getLogger("fontTools").setLevel(logging.ERROR)  # it remarks on DejaVu's old timestamps
    clockless = {"pdf": {"CreationDate": None}, "png": {"Software": None}}[file_format]
    buffer = io.BytesIO()
    with use_style():
        Figure.savefig(
            figure,
            buffer,
            format=file_format,
            dpi=dpi,
            bbox_inches=page_box(figure),
            metadata=clockless,
        )
    return buffer.getvalue()
