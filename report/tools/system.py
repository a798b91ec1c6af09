"""LaTeX, pandoc and fonts for the PDF: whether they are there, and how to get them.

python -m report.tools.system     installs what is missing (apt), or prints the command and fails
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import ReportError

APT_LIST = Path(__file__).resolve().parents[2] / "apt.txt"
PROGRAMS = ("xelatex", "kpsewhich", "pandoc", "pdftotext", "pdftoppm")
FILES = """caption.sty enumitem.sty needspace.sty titlesec.sty unicode-math.sty
texgyrepagella-regular.otf texgyrepagella-math.otf lmmono10-regular.otf""".split()
ELSEWHERE = """pandoc, poppler and TeX Live or MiKTeX with XeLaTeX, its recommended and extra LaTeX
packages and the TeX Gyre fonts. With Homebrew:
brew install pandoc poppler && brew install --cask basictex
sudo tlmgr update --self && sudo tlmgr install collection-xetex collection-latexextra \\
  collection-fontsrecommended"""


def missing() -> list[str]:
    """Programs and LaTeX files that the PDF needs and this machine lacks."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if "kpsewhich" in lacking:
        return lacking
    found = subprocess.run(["kpsewhich", *FILES], capture_output=True, text=True, check=False)
    return lacking + [name for name in FILES if name not in found.stdout]


def require() -> None:
    """Raise ReportError, with the commands that help, if anything is missing."""
    if missing():
        help_ = "\n".join(map(" ".join, apt_commands())) if shutil.which("apt-get") else ELSEWHERE
        raise ReportError(f"the PDF needs {', '.join(missing())}; to install:\n\n{help_}\n")


def apt_commands() -> list[list[str]]:
    """The apt-get calls, through sudo unless run as root."""
    packages = APT_LIST.read_text(encoding="utf-8").split()
    sudo = [] if getattr(os, "geteuid", lambda: 1)() == 0 else ["sudo"]
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    return [[*apt, "update"], [*apt, "install", "-y", "--no-install-recommends", *packages]]


if __name__ == "__main__":
    for command in apt_commands() if missing() and shutil.which("apt-get") else []:
        if shutil.which(command[0]):
            print("+", " ".join(command), flush=True)
            subprocess.run(command, check=False)
    try:
        require()
    except ReportError as error:
        sys.exit(f"Stopped before anything was run: {error}")
