"""Mutants: does a test fail when a line that a reported number passes is changed?

    python tests/mutants.py [-n COUNT] [--seed SEED] FILE... -- PYTEST ARGUMENT...

as in  python tests/mutants.py -n 150 vae_helpers/{study,runs,losses,training}.py \\
           vae_helpers/measures/*.py vae_helpers/plotting/tables.py -- tests/test_study.py

Each mutant changes one operator, comparison, constant, min, max, sorted, index or condition of one
file, in a copy of the project; those that all tests let pass are listed. SEED chooses the sample.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
SWAPS = {
    **{ast.Add: "+-", ast.Sub: "-+", ast.Mult: "*/", ast.Div: "/*"},
    **{ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">")},
    **{ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.And: ("and", "or")},
    **{ast.Or: ("or", "and"), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in")},
    **{ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is")},
}


def mutants(source: str) -> list[tuple[int, int, str]]:
    """(start, end, text): what stands there in `source` is replaced by the text."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def span(node):  # columns count bytes: the files that are mutated are ASCII
        return (
            starts[node.lineno - 1] + node.col_offset,
            starts[node.end_lineno - 1] + node.end_col_offset,
        )

    found = []

    def swap(left, operator, right):
        old, new = SWAPS.get(type(operator), ("", ""))
        start, end = span(left)[1], span(right)[0]
        if old and old in source[start:end]:
            at = start + source[start:end].index(old)
            found.append((at, at + len(old), new))

    def visit(node):
        match node:
            case ast.Raise() | ast.JoinedStr() | ast.Import() | ast.ImportFrom() | ast.Assert():
                return  # texts of errors
            case ast.keyword(arg="strict"):
                return  # of zip, for what can not happen
            case ast.Call(func=ast.Name(id=name)) if name.startswith(("check_", "_check_")):
                return  # checks at the door have tests of their own
            case ast.BinOp(left=left, op=op, right=right):
                swap(left, op, right)
            case ast.Compare(left=left, ops=ops, comparators=others):
                for pair in zip([left, *others], ops, others, strict=False):
                    swap(*pair)
            case ast.BoolOp(op=op, values=values):
                for a, b in zip(values, values[1:], strict=False):
                    swap(a, op, b)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                found.append((span(node)[0], span(operand)[0], ""))
            case ast.Constant(value=bool(value)):
                found.append((*span(node), str(not value)))
            case ast.Constant(value=int(value) | float(value)):
                found.append((*span(node), repr(value + 1)))
            case ast.Call(func=ast.Name(id="min" | "max" as name) as called):
                found.append((*span(called), {"min": "max", "max": "min"}[name]))
            case ast.Call(func=ast.Name(id="sorted")):
                found.append((*span(node), f"{ast.unparse(node)}[::-1]"))
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            if node.slice.value == 0:
                found.append((*span(node.slice), "-1"))
        for name, value in ast.iter_fields(node):
            if name not in ("annotation", "returns"):
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        visit(child)

    visit(ast.parse(source))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("files", nargs="+", type=Path)
    options, tests = sys.argv[1:], []
    if "--" in options:
        options, tests = options[: options.index("--")], options[options.index("--") + 1 :]
    given = parser.parse_args(options)
    sources = {path: (ROOT / path).read_text(encoding="utf-8") for path in given.files}
    every = [(path, mutant) for path, source in sources.items() for mutant in mutants(source)]
    chosen = random.Random(given.seed).sample(every, min(given.n, len(every)))
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        skipped = shutil.ignore_patterns(".*", "__pycache__", "runs")
        shutil.copytree(ROOT, copy, ignore=skipped)

        def passes(limit=None) -> bool:
            command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
            environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # edits within a second
            try:
                done = subprocess.run(
                    command, cwd=copy, env=environment, timeout=limit, capture_output=True
                )
            except subprocess.TimeoutExpired:
                return False
            return done.returncode == 0

        started = time.monotonic()
        if not passes():
            sys.exit("the tests fail without a mutant")
        limit = 60 + 5 * (time.monotonic() - started)
        for path, (start, end, text) in chosen:
            source = sources[path]
            (copy / path).write_text(source[:start] + text + source[end:], encoding="utf-8")
            number = source.count("\n", 0, start)
            line = source.splitlines()[number].strip()
            what = f"{path}:{number + 1}: {source[start:end]} -> {text or 'nothing'} in {line}"
            lives = passes(limit)
            (copy / path).write_text(source, encoding="utf-8")
            print("alive" if lives else "dead ", what, flush=True)
            survivors += [what] if lives else []
    print(f"{len(survivors)} of {len(chosen)} mutants alive ({len(every)} possible)")
    print(*survivors, sep="\n")


if __name__ == "__main__":
    main()
