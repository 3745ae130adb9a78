"""The documentation against the repository: links, paths, config keys, messages and examples."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from PIL import Image

from nl_detectron import add_nonlocal_config
from nl_detectron.engine import load_model

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
PATH = re.compile(
    r"(?<![\w./*-])(?:nl_detectron|tools|configs|benchmarks|tests)/[\w./-]+\.(?:py|yaml|md)\b"
)


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_exist(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    for path in PATH.findall(text):
        assert (ROOT / path).exists(), path


def added_keys(node: CfgNode, before: CfgNode, prefix: str = "") -> dict[str, object]:
    found = {}
    for name, value in node.items():
        if isinstance(value, CfgNode):
            found |= added_keys(value, before.get(name, CfgNode()), f"{prefix}{name}.")
        elif name not in before:
            found[prefix + name] = value
    return found


def test_configuration_lists_every_key_with_its_default():
    cfg = get_cfg()
    add_nonlocal_config(cfg)
    text = (ROOT / "docs/configuration.md").read_text().partition("## Keys")[2]
    text = text.partition("\n\nBlocks also need")[0]
    rows = re.findall(r"^\| `([A-Z0-9._]+)` \| `(.+?)` \|", text, re.MULTILINE)
    expected = {k: repr(v).replace("'", '"') for k, v in added_keys(cfg, get_cfg()).items()}
    assert dict(rows) == expected


def test_messages_of_troubleshooting_are_in_the_code():
    files = [*ROOT.glob("nl_detectron/**/*.py"), *ROOT.glob("tools/*.py")]
    files += ROOT.glob("nl_detectron_cli/**/*.py")
    # adjacent literals are one message
    code = re.sub(r'"\s*\n\s*f?"', "", "\n".join(file.read_text() for file in files))
    text = (ROOT / "docs/troubleshooting.md").read_text()
    messages = re.findall(r"^\| `(.+?)` \| [A-Z]", text, re.MULTILINE)
    assert messages
    for message in messages:
        for part in filter(None, (part.strip() for part in message.split("…"))):
            assert part in code, message


@pytest.mark.parametrize("page", ["README.md", "docs/configuration.md"])
def test_python_examples_run(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    examples = re.findall(r"```python\n(.+?)```", (ROOT / page).read_text(), re.DOTALL)
    assert examples
    exec("\n".join(examples), {})


@pytest.mark.slow
def test_the_attention_example_shows_the_demos_model_its_own_size(tmp_path, monkeypatch):
    [example] = re.findall(
        r"```python\n(.+?)```", (ROOT / "docs/attention.md").read_text(), re.DOTALL
    )
    weights = tmp_path / re.search(r'weights="(.+?)"', example)[1]
    weights.parent.mkdir(parents=True)
    model = load_model(str(ROOT / "configs/Demo/relay_mask_rcnn_nl.yaml"), weights="").model
    torch.save({"model": model.state_dict()}, weights)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    Image.new("RGB", (288, 96)).save(tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example, names)
    grid = names["attention"].grid
    assert grid.shape == (3, 9) and grid.step == (32, 32)  # 96 x 288 pixels, and not 444 x 1333
    assert (tmp_path / "attention.png").stat().st_size > 0


def test_pre_commit_runs_what_make_lint_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    required = (ROOT / "requirements-dev.txt").read_text()
    commands = []
    for hook in hooks:
        for dependency in hook.get("additional_dependencies", ()):
            assert re.search(rf"^{re.escape(dependency)}\s", required, re.M)
        commands.append(re.sub(r"^(ruff .*)", r"$(BIN) -m \1 .", hook["entry"]))
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    lines = [re.sub(r"^\t(?:\w+=\S+ )*", "", line) for line in recipe.splitlines()]
    assert [line.replace(".venv/bin/python", "$(BIN)") for line in commands] == lines
