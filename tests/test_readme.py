"""What the README shows runs as it is pasted."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_study_of_your_own_runs_as_it_stands(tmp_path):
    section = README.partition("## A study of your own\n")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    script = tmp_path / "own.py"  # worker processes import a script again: as Python asks of all
    body = "    " + code.replace("\n", "\n    ")
    script.write_text(
        f"import matplotlib\nmatplotlib.use('Agg')\nif __name__ == '__main__':\n{body}"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    verdict, *table = done.stdout.splitlines()
    assert verdict in ("lower", "higher", "tie")
    assert "VAE (64, 2)" in table[0] and "VAE (64, 10)" in table[0] and len(table) == 4
    assert "fully trained" not in done.stdout and list((tmp_path / "runs").glob("vae3-64-2-*.pt"))
