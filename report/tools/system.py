"""LaTeX, pandoc and fonts for the PDF: what is missing, and how to get it.

python -m report.tools.system     installs what is missing (apt), or prints the command and fails
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

APT_LIST = Path(__file__).resolve().parents[2] / "apt.txt"
PROGRAMS = ("xelatex", "kpsewhich", "pandoc", "pdftotext")
LATEX_FILES = (
    "adjustbox.sty", "booktabs.sty", "caption.sty", "enumitem.sty", "fancyvrb.sty", "float.sty",
    "microtype.sty", "needspace.sty", "parskip.sty", "titlesec.sty", "unicode-math.sty",
    "texgyrepagella-regular.otf", "texgyrepagella-math.otf", "lmmono10-regular.otf",
)  # fmt: skip
BREW = """brew install pandoc poppler
brew install --cask basictex
sudo tlmgr update --self
sudo tlmgr install collection-xetex adjustbox enumitem needspace titlesec lm tex-gyre \\
  tex-gyre-math"""


class ToolsMissingError(RuntimeError):
    """The PDF can not be built on this machine yet; the message says what to install."""


def missing() -> list[str]:
    """Programs and LaTeX files that the PDF needs and this machine lacks."""
    programs = [name for name in PROGRAMS if shutil.which(name) is None]
    if "kpsewhich" in programs:
        return programs
    found = subprocess.run(
        ["kpsewhich", *LATEX_FILES], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    there = {Path(line).name for line in found}
    return programs + [name for name in LATEX_FILES if name not in there]


def require() -> None:
    """Raise ToolsMissingError, with the command that helps, if anything is missing."""
    lacking = missing()
    if lacking:
        raise ToolsMissingError(
            f"the PDF needs {', '.join(lacking)}; to install:\n\n{instructions()}\n"
        )


def instructions() -> str:
    """The commands that install everything on this system."""
    if shutil.which("apt-get"):
        return "\n".join(" ".join(command) for command in apt_commands())
    if sys.platform == "darwin":
        return BREW
    return ("with the system's package manager: pandoc, poppler (pdftotext) and TeX Live with "
            "XeLaTeX, its recommended and extra LaTeX packages and the TeX Gyre fonts\n"
            "(Windows: MiKTeX or TeX Live, pandoc and poppler)")  # fmt: skip


def apt_commands() -> list[list[str]]:
    """The apt-get calls, through sudo unless run as root."""
    packages = APT_LIST.read_text(encoding="utf-8").split()
    sudo = [] if getattr(os, "geteuid", lambda: 1)() == 0 else ["sudo"]
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    return [[*apt, "update"], [*apt, "install", "-y", "--no-install-recommends", *packages]]


def install() -> None:
    """Install what is missing; raise ToolsMissingError where that needs the user."""
    lacking = missing()
    if not lacking:
        return
    print(f"Missing for the PDF: {', '.join(lacking)}", flush=True)
    commands = apt_commands() if shutil.which("apt-get") else []
    if commands and (commands[0][0] != "sudo" or shutil.which("sudo")):
        for command in commands:
            print("+", " ".join(command), flush=True)
            if subprocess.run(command, check=False).returncode:
                break
    require()


if __name__ == "__main__":
    try:
        install()
    except ToolsMissingError as error:
        sys.exit(f"Stopped before anything was run: {error}")
