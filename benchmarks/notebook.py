"""Runs docs/notebook.py and makes docs/notebook.md of it, with what it prints and its pictures.

python -m benchmarks.notebook           # makes the page
python -m benchmarks.notebook --quick   # runs the notebook with a short training, writes nothing
"""

import argparse
import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.py"
QUICK = "20"  # iterations
NOTE = "<!-- made from notebook.py by make notebook -->"


def split_cells(text: str) -> Iterator[tuple[str, str]]:
    """Kinds (code or markdown) and texts of the cells of a notebook in percent format."""
    for cell in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        head, _, body = cell.partition("\n")
        if "[markdown]" in head:
            yield "markdown", re.sub(r"^# ?", "", body, flags=re.MULTILINE).strip()
        else:
            yield "code", body.strip()


def run(notebook: Path, folder: Path) -> str:
    """Run a notebook and return its page in Markdown; its pictures are written into a folder."""
    names, parts, pictures = {"__name__": "__main__"}, [NOTE], 0
    plt.close("all")  # only this notebook's figures are its pictures
    for kind, text in split_cells(notebook.read_text()):
        if kind == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(text, str(notebook), "exec"), names)
        if said := printed.getvalue().strip():
            parts.append(f"```text\n{said}\n```")
        for number in plt.get_fignums():
            pictures += 1
            picture = f"{notebook.stem}_{pictures}.png"
            figure = plt.figure(number)
            figure.savefig(folder / picture, dpi=100)
            titles = ", ".join(axes.get_title() or axes.get_ylabel() for axes in figure.axes)
            parts.append(f"![{titles}]({picture})")
        plt.close("all")
    return "\n\n".join(parts) + "\n"


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a short training; writes nothing")
    if not parser.parse_args(words).quick:
        NOTEBOOK.with_suffix(".md").write_text(run(NOTEBOOK, NOTEBOOK.parent))
        return
    os.environ["NOTEBOOK_ITERATIONS"] = QUICK
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(run(NOTEBOOK, Path(folder)))


if __name__ == "__main__":
    main()
