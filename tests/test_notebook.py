"""docs/notebook.py runs as a script, and docs/notebook.md shows the same cells."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from benchmarks.notebook import NOTE, NOTEBOOK, QUICK, run, split_cells

ROOT = Path(__file__).parents[1]
CELLS = list(split_cells(NOTEBOOK.read_text()))


@pytest.mark.slow
def test_the_notebook_runs_as_a_script(tmp_path):
    """Its own assertions hold: equal outputs of formula, block and nn.MultiheadAttention."""
    environment = {**os.environ, "NOTEBOOK_ITERATIONS": QUICK, "MPLBACKEND": "Agg"}
    environment["PYTHONPATH"] = str(ROOT)
    words = [sys.executable, "-W", "ignore", NOTEBOOK]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 60
    assert "a new block is the identity: True" in done.stdout
    assert "same scores: True" in done.stdout
    assert done.stdout.count("outputs differ by at most") == 4
    assert list(tmp_path.iterdir()) == []


def test_the_page_shows_the_notebooks_cells():
    page = (ROOT / "docs/notebook.md").read_text()
    assert page.startswith(NOTE)
    end = 0
    for kind, text in CELLS:
        shown = text if kind == "markdown" else f"```python\n{text}\n```"
        assert shown in page[end:], f"not in docs/notebook.md, run make notebook:\n{text[:200]}"
        end = page.index(shown, end) + len(shown)


def test_the_notebook_has_text_and_code():
    assert [kind for kind, _ in CELLS].count("code") > 5
    assert CELLS[0][1].startswith("# From the formula")


def test_a_page_has_what_cells_print_and_draw(tmp_path):
    notebook = tmp_path / "small.py"
    notebook.write_text(
        "# %% [markdown]\n# # Title\n#\n# Text\n\n# %%\n"
        "import matplotlib.pyplot as plt\nprint(6 * 7)\n"
        "figure, axes = plt.subplots()\naxes.set_title('drawn');\n\n# %%\nx = 1\n"
    )
    plt.figure()  # left open by something else
    page = run(notebook, tmp_path)
    assert page.startswith(f"{NOTE}\n\n# Title\n\nText\n\n```python\nimport matplotlib")
    assert "```text\n42\n```\n\n![drawn](small_1.png)\n\n```python\nx = 1\n```\n" in page
    assert (tmp_path / "small_1.png").stat().st_size > 0
    assert not (tmp_path / "small_2.png").exists()
