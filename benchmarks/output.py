"""results.json, and the results' place in README.md."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import torch

from vae_helpers.engine.files import write_atomic

FOLDER = Path(__file__).parent


def machine() -> str:
    """The machine in words: cores, processor, memory, system, versions; no host name."""
    processor, memory = platform.processor() or platform.machine(), ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        memory = f", {pages / 2**30:.0f} GiB memory"
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{os.cpu_count()} CPU cores ({processor}{gpu}){memory}, {platform.system()}, "
        f"Python {platform.python_version()}, PyTorch {torch.__version__.split('+')[0]}"
    )


def replace_between(text: str, name: str, content: str) -> str:
    """`text` with what stands between the markers of `name` replaced by `content`."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"the text must hold the lines {begin} and {end} once each, in this order")
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n\n{content}\n\n{end}{rest.partition(end)[2]}"


def write(name: str, results: dict, markdown: str, folder: Path = FOLDER) -> None:
    """Keep `results` as `name`.json and put `markdown` into README.md between name's markers."""
    readme = folder / "README.md"
    text = replace_between(readme.read_text(encoding="utf-8"), name, markdown)
    write_atomic(folder / f"{name}.json", (json.dumps(results, indent=1) + "\n").encode())
    write_atomic(readme, text.encode())
