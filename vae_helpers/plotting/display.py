"""Numbered figures and tables that read well on the screen and in the PDF alike.

Numbers and captions are plain text in the saved notebook, so every viewer shows them. The report's
LaTeX template (`paper.py`) recognises the two forms and sets them as real captions:

    a picture, followed by the Markdown output    **Figure 3.** What it shows.
    a Markdown paragraph above a pipe table        **Table 2.** What it lists.

The text refers to them as "Figure 3" and "Table 2"; in the PDF these words become links.
"""

from __future__ import annotations

import io
import logging

from IPython.display import display

from ..engine.guards import check_positive_int

PRINT_DPI = 200  # pictures of pixels: about two dots per millimetre of screen and sharp on paper
SCREEN_DPI = 144  # figures that print from their vector form need the PNG for browsers only
CSS_PIXELS_PER_INCH = 96


def show_figure(figure, number: int, caption: str, *, vector: bool = True) -> None:
    """Display a matplotlib Figure, "Figure <number>. <caption>" below it, and close the Figure.

    With `vector` the report prints it from PDF (curves); without, from a PNG of 200 dots per inch
    (grids of images). The caption is one paragraph of Markdown, with `$...$` for mathematics.
    """
    import matplotlib.pyplot as plt

    caption = _caption("Figure", number, caption)
    png = _render(figure, "png", SCREEN_DPI if vector else PRINT_DPI)
    data = {"image/png": png, "text/plain": f"Figure {number}"}
    if vector:
        data["application/pdf"] = _render(figure, "pdf", PRINT_DPI)
    width = _png_width(png) / (SCREEN_DPI if vector else PRINT_DPI)
    size = {"image/png": {"width": round(width * CSS_PIXELS_PER_INCH)}}
    display(data, raw=True, metadata=size)
    show_markdown(caption)
    plt.close(figure)


def show_table(table: str, number: int, caption: str) -> None:
    """Display a Markdown pipe table with the caption "Table <number>. <caption>" above it."""
    if not isinstance(table, str) or not table.lstrip().startswith("|"):
        raise ValueError(f"table must be a Markdown pipe table (lines '| a | b |'), got {table!r}")
    show_markdown(f"{_caption('Table', number, caption)}\n\n{table.strip()}")


def show_markdown(text: str, *, stand_in: bool = False) -> None:
    """Display Markdown text; `stand_in` marks the banner of a run on stand-in data.

    A notebook holding that mark is never written to the file names of the real results.
    """
    metadata = {"stand_in": True} if stand_in else {}
    display({"text/markdown": text, "text/plain": text}, raw=True, metadata=metadata)


def show_stand_in_banner(reason: str) -> None:
    """Say, at the top of a notebook, that what follows is not about Fashion-MNIST, and why."""
    show_markdown(
        "**This is not Fashion-MNIST.** The run uses stand-in images drawn by this package "
        f"({reason}) and small settings. The written comparisons and their numbers speak of the "
        "real data and do not describe the figures and tables shown here. For the real data, put "
        "the four official files into `data/FashionMNIST/raw` (see `data/README.md`), or run "
        "where they can be downloaded, and run all cells again.",
        stand_in=True,
    )


def _caption(kind: str, number: int, caption: str) -> str:
    check_positive_int(number, "number")
    if not isinstance(caption, str) or not caption.strip():
        raise ValueError(f"caption of {kind} {number} must be a text, got {caption!r}")
    return f"**{kind} {number}.** {' '.join(caption.split())}"


def _render(figure, file_format: str, dpi: int) -> bytes:
    """The figure as bytes that do not depend on the clock."""
    import matplotlib

    logging.getLogger("fontTools").setLevel(logging.ERROR)  # it remarks on DejaVu's old timestamps
    clockless = {"pdf": {"CreationDate": None}, "png": {"Software": None}}
    buffer = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(
            buffer, format=file_format, dpi=dpi, bbox_inches="tight", pad_inches=0.03,
            metadata=clockless[file_format],
        )  # fmt: skip
    return buffer.getvalue()


def _png_width(png: bytes) -> int:
    return int.from_bytes(png[16:20], "big")  # IHDR, the first chunk of every PNG file
