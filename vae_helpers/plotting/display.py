"""Numbered figures and tables that read well on the screen and in the PDF alike.

Numbers and captions are plain text in the saved notebook, so every viewer shows them. The report's
LaTeX template (`paper.py`) recognises the two forms and sets them as real captions:

    a picture, followed by the Markdown output    **Figure 3.** What it shows.
    a Markdown paragraph above a pipe table        **Table 2.** What it lists.

The text refers to them as "Figure 3" and "Table 2"; in the PDF these words become links.
"""

from __future__ import annotations

import functools
import inspect
import io
import logging
import textwrap
from collections.abc import Callable

from IPython import get_ipython
from IPython.display import display
from matplotlib.figure import Figure
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from ..engine.guards import check_type
from .style import CSS_PIXELS_PER_INCH, PRINT_DPI, SCREEN_DPI, WIDTH, mark, page_box, use_style


class Chart(Figure):
    """A figure as wide as the page's text; `chart` makes it pyplot's."""

    def __init__(self, height: float):
        super().__init__(figsize=(WIDTH, height), layout="constrained")
        self.shown_in = None  # the cell that has shown it, as one before another

    def savefig(self, file, **options):
        """As matplotlib's, in the package's style (ticks and texts may be made while drawing)."""
        with use_style():
            super().savefig(file, **{"bbox_inches": page_box(self), **options})

    def _ipython_display_(self) -> None:
        """Show this chart, and before it those that the cell made before and has not shown.

        Asked before any formatter, so that the inline backend's has nothing left to show.
        """
        import matplotlib.pyplot as plt

        cell = get_ipython().execution_count
        if self.shown_in == cell:
            return
        if before := [n for n in plt.get_fignums() if n < getattr(self, "number", 0)]:
            current = plt.gcf()
            for figure in map(plt.figure, before):
                if isinstance(figure, Chart):
                    display_picture(figure)
                    figure.shown_in = cell
            plt.figure(current.number)
        display_picture(self)


def chart(draw: Callable[..., Chart]) -> Callable[..., Chart]:
    """Decorator of a function that draws a chart: in the package's style, and for pyplot.

    The chart becomes pyplot's current figure, in the place of an empty one; figures that hold
    anything stay. So a notebook shows it at the end of its cell, and `plt.title`, `plt.savefig` and
    `plt.show` mean it. Whatever shows it before, closes it: there is one picture of it.
    """

    @functools.wraps(draw)
    def drawn(*args, **kwargs) -> Chart:
        with use_style():
            made = draw(*args, **kwargs)
        import matplotlib.pyplot as plt  # here: it chooses a backend, which may set rcParams

        number = None
        if plt.get_fignums() and len(plt.gcf().get_children()) == 1:  # only a background: empty
            number = plt.gcf().number
            plt.close()
        plt.figure(number, FigureClass=lambda **_: made)
        return made

    return drawn


def show_figure(figure: Figure, number: int, caption: str, note: str = "") -> None:
    """Display a matplotlib Figure and "Figure <number>. <caption>" below it, and close the Figure.

    The caption is one paragraph of Markdown, with `$...$` for mathematics; `note` is a remark at
    the figure's foot, such as what kind of run it comes from. Any Figure will do.
    """
    caption = _caption("Figure", number, caption)
    display_picture(mark(check_type(figure, Figure, "figure"), note), f"Figure {number}")
    show_markdown(caption)


def display_picture(figure: Figure, text: str = "Figure") -> None:
    """Display a figure as PNG, and for the report as PDF if it holds no images of pixels.

    text: where neither shows.
    """
    vector = not any(ax.images for ax in figure.axes)
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
    tags=["screen-only"] leaves the output out of the PDF, as it does a cell.
    """
    display({"text/markdown": text, "text/plain": text}, raw=True, metadata=metadata)


def show_source(*objects) -> None:
    """Display the code of classes and functions as it is in the package at this moment.

    The output has only `text/html`: notebook and HTML show it, the PDF leaves it out.
    """
    code = "\n\n".join(textwrap.dedent(inspect.getsource(thing)) for thing in objects)
    font = "font-family: monospace"  # the HTML export has a proportional one for outputs
    look = HtmlFormatter(noclasses=True, cssstyles="padding: 8px", prestyles=font)
    display({"text/html": highlight(code, PythonLexer(), look)}, raw=True)


def _caption(kind: str, number: int, caption: str) -> str:
    if not isinstance(caption, str) or not caption.strip():
        raise ValueError(f"caption of {kind} {number} must be a text, got {caption!r}")
    return f"**{kind} {number}.** {' '.join(caption.split())}"


def render(figure: Figure, file_format: str, dpi: int = PRINT_DPI) -> bytes:
    """The figure as bytes that do not depend on the clock; pyplot closes it and shows no other."""
    import matplotlib.pyplot as plt

    logging.getLogger("fontTools").setLevel(logging.ERROR)  # it remarks on DejaVu's old timestamps
    clockless = {"pdf": {"CreationDate": None}, "png": {"Software": None}}[file_format]
    buffer, box = io.BytesIO(), page_box(figure)
    with use_style():
        Figure.savefig(
            figure, buffer, format=file_format, dpi=dpi, bbox_inches=box, metadata=clockless
        )
    plt.close(figure)
    return buffer.getvalue()
