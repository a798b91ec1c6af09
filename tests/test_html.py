"""The HTML export of the committed notebook, as a reader opens it in a browser."""

import html
import re
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser
from nbconvert import HTMLExporter

from report.tools import execute

ROOT = Path(__file__).parent.parent
FOLLOW = """(() => {
    window.scrollTo(0, 0);
    document.querySelector(`a[href="%s"]`).click();
    const heading = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    return heading ? heading.getBoundingClientRect().top : null;
})()"""  # where the heading is on the screen after a click on the link


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; see the README")
def test_contents_lead_to_their_headings_and_the_changed_code_is_shown(tmp_path):
    notebook = execute.read(ROOT / "Task4_Autoencoders.ipynb")
    page = tmp_path / "notebook.html"
    page.write_text(HTMLExporter().from_notebook_node(notebook)[0], encoding="utf-8")
    links = [
        link
        for link in re.findall(r'href="(#\d[^"]*)"', page.read_text("utf-8"))
        if "anchor" not in link
    ]
    contents = [html.unescape(link) for link in links][:7]
    assert len(contents) == 7
    browser = Browser(tmp_path / "profile")
    try:
        browser.send("Page.navigate", url=page.as_uri())
        browser.evaluate(
            "new Promise(done => { const wait = () => document.readyState == 'loading'"
            " ? setTimeout(wait, 20) : done(); setTimeout(wait, 300); })"
        )
        for link in contents:
            top = browser.evaluate(FOLLOW % link)
            assert top is not None and top < 700, link  # the heading is on the screen
        text = browser.evaluate("document.body.innerText")
        assert "class VAE4Layer(VAE):" in text and "self.h3_to_h4 = Linear(h2_dim, h1_dim)" in text
    finally:
        browser.close()
