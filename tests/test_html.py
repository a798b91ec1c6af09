"""The HTML export of a notebook, as a reader opens it in a browser."""

from pathlib import Path

import nbformat
import pytest
from browser import CHROMIUM, Browser
from nbconvert import HTMLExporter

from report.tools import execute
from vae_helpers.models import VAE4Layer
from vae_helpers.plotting import display

ROOT = Path(__file__).parent.parent
FOLLOW = """(() => {
    window.scrollTo(0, 0);
    document.querySelector(`a[href="%s"]`).click();
    const heading = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    return heading ? heading.getBoundingClientRect().top : null;
})()"""  # where the heading is on the screen after a click on the link


FONT = "getComputedStyle([...document.querySelectorAll('.jp-OutputArea pre')].pop()).fontFamily"


@pytest.fixture
def opened(tmp_path):
    """Opens a notebook's HTML export in a browser."""
    browser = Browser(tmp_path / "profile")

    def open_notebook(notebook) -> Browser:
        page = tmp_path / "notebook.html"
        page.write_text(HTMLExporter().from_notebook_node(notebook)[0], encoding="utf-8")
        browser.send("Page.navigate", url=page.as_uri())
        browser.evaluate(
            "new Promise(done => { const wait = () => document.readyState == 'loading'"
            " ? setTimeout(wait, 20) : done(); setTimeout(wait, 300); })"
        )
        return browser

    yield open_notebook
    browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; see the README")
def test_contents_lead_to_their_headings_and_the_changed_code_is_shown(opened):
    browser = opened(execute.read(ROOT / "Task4_Autoencoders.ipynb"))
    links = browser.evaluate(
        """[...document.querySelectorAll('a[href^="#"]:not(.anchor-link)')]"""
        """.map(a => a.getAttribute("href")).filter(link => /^#\\d/.test(link))"""
    )
    assert len(links) >= 7
    for link in links[:7]:
        top = browser.evaluate(FOLLOW % link)
        assert top is not None and top < 700, link  # the heading is on the screen
    text = browser.evaluate("document.body.innerText")
    assert "class VAE4Layer(VAE):" in text and "self.h3_to_h4 = " in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; see the README")
def test_code_that_a_cell_shows_stands_in_a_font_of_one_width(opened, monkeypatch):
    shown = []
    monkeypatch.setattr(display, "display", lambda data, raw: shown.append(data))
    display.show_source(VAE4Layer)
    cell = nbformat.v4.new_code_cell("show_source(VAE4Layer)")
    cell.outputs = [nbformat.v4.new_output("display_data", data=data) for data in shown]
    assert opened(nbformat.v4.new_notebook(cells=[cell])).evaluate(FONT) == "monospace"
