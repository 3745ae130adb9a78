"""The documentation as a site: its pages, their links, and the reference from docstrings."""

import os
import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from docs_site.pages import OUTSIDE, REFERENCE, reference_pages, render_page, site_path

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-docs/bin/python"
URL = "https://example.org/nl"
PAGES = {f"docs/{file.name}": file.name for file in ROOT.glob("docs/*.md")}
PAGES |= {file: page for file, page in OUTSIDE.items() if page.endswith(".md")}


def test_every_page_is_in_the_menu_once():
    menu = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    listed = re.findall(r"- (?:\w+: )?([\w/.]+\.md)$", menu, re.MULTILINE)
    assert sorted(listed) == sorted([*PAGES.values(), *reference_pages()])


def test_every_file_at_the_top_or_in_benchmarks_has_a_page():
    files = [*ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md")]
    assert {file.relative_to(ROOT).as_posix() for file in files} <= OUTSIDE.keys()


@pytest.mark.parametrize("file", PAGES)
def test_links_lead_to_pages_or_to_the_repository(file):
    page = PAGES[file]
    text = render_page((ROOT / file).read_text(), page, URL)
    known = {*PAGES.values(), *OUTSIDE.values(), *(p.name for p in (ROOT / "docs").iterdir())}
    for target in re.findall(r"\]\(([^()\s]+)\)", text):
        assert "://" in target or target.startswith("#") or target.partition("#")[0] in known


def test_links_change_with_their_page():
    text = "[a](docs/cost.md#x) [b](LICENSE) ![c](docs/curves.png) [d](https://d)"
    assert render_page(text, "index.md", URL) == (
        f"[a](cost.md#x) [b]({URL}/blob/main/LICENSE) ![c](curves.png) [d](https://d)"
    )
    assert render_page("[a](../README.md) [b](../setup.py)", "cost.md", "") == "[a](index.md) b"
    assert render_page("[a](README.md)", "benchmark_results.md", "") == "[a](benchmarks.md)"
    with pytest.raises(FileNotFoundError, match=r"docs/cost\.md: no file docs/nothing\.md"):
        render_page("[a](nothing.md)", "cost.md", "")
    assert site_path("tools/demo.py") is None


def test_the_reference_has_every_package_with_public_names():
    public = {
        f"nl_detectron.{folder.name}"
        for folder in (ROOT / "nl_detectron").iterdir()
        if (folder / "__init__.py").is_file() and "__all__" in (folder / "__init__.py").read_text()
    }
    assert public <= set(REFERENCE)
    for name in REFERENCE:
        assert import_module(name).__doc__


def test_configs_to_choose_from_exist_and_memory_follows_from_their_figures():
    text = (ROOT / "docs/choosing.md").read_text()
    for name in re.findall(r"`([\w-]+/\w+\.yaml)`", text):
        assert (ROOT / "configs" / name).is_file()
    row = r"mask_rcnn_R_50_FPN_nl_1x.yaml` \| ([\d.]+) \| \d+ \| ([\d,]+) \|"
    millions, megabytes = re.search(row, text).groups()
    kept, parameters = float(megabytes.replace(",", "")), float(millions)
    expected = " | ".join(f"{(12 * parameters + n * kept) / 1000:.1f} GB" for n in (1, 2, 4, 8))
    assert f"| Mask R-CNN R50-FPN | {expected} |" in text
    cost = (ROOT / "docs/cost.md").read_text()  # analyze_model.py's own table
    assert f"mask_rcnn_R_50_FPN_nl_1x {' ' * 50}" in cost and "46,442,928" in cost
    assert parameters == 46.4 and kept == 1048 and "1,048.3" in cost


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.is_file(), reason="make docs has not made its environment")
def test_the_site_is_made_without_a_warning(tmp_path):
    command = [PYTHON, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NL_DETECTRON_URL": URL, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    layers = (tmp_path / "site/reference/nl_detectron.layers/index.html").read_text()
    assert 'id="nl_detectron.layers.NonLocalBlock"' in layers
    assert ":func:" not in layers and ":class:" not in layers
