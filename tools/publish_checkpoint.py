#!/usr/bin/env python3
"""Make a trained checkpoint ready to be given away, and known to the model zoo by a name.

python tools/publish_checkpoint.py output --name birds/mask_rcnn_nl --output zoo

Takes what train_net.py has left: a run's folder, or a checkpoint in it. The folder --output gets

NAME-HASH.pth    the weights and no optimizer, with config, data set, results and versions
NAME-HASH.yaml   that config, where the package has none of this name
index.yaml       an entry for it, beside those of earlier calls

and nl_detectron.model_zoo finds NAME where NL_DETECTRON_ZOO names that index.
"""

import argparse
import hashlib
import io
import re
import sys
from argparse import Namespace
from pathlib import Path

import publishing
import torch
import yaml

from nl_detectron.engine import make_output
from nl_detectron.engine.checkpoint import read_checkpoint
from nl_detectron.errors import UsageError
from nl_detectron.model_zoo import index, page

MADE = "# By tools/publish_checkpoint.py; NL_DETECTRON_ZOO names it to nl_detectron.model_zoo\n"


def main(words: list[str] | None = None) -> None:
    args = parsed(words)
    checkpoint = args.run / "model_final.pth" if args.run.is_dir() else args.run
    content = to_publish(checkpoint, args.name, args.output)
    buffer = io.BytesIO()  # in a file, torch would write the file's name too
    torch.save(content, buffer)
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    file = args.output / f"{Path(args.name).name}-{sha256[:8]}.pth"
    file.write_bytes(buffer.getvalue())
    try:
        found = publishing.verify_checkpoint(file)
    except Exception:
        file.unlink()
        raise
    print(f"wrote {file} and ran it once: {found}")
    about = {k: v for k, v in content.items() if k not in ("model", "name", "config")}
    entry = {"trained": {"checkpoint": file.name, "sha256": sha256, **about}}
    if not publishing.shipped(args.name):
        file.with_suffix(".yaml").write_text(content["config"])
        entry["config"] = file.with_suffix(".yaml").name
    register(args.output / "index.yaml", args.name, entry)
    print(format_summary(args.output / "index.yaml", args.name, entry))


def parsed(words: list[str] | None) -> Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("run", type=Path, help="OUTPUT_DIR of a run (its model_final.pth), or a checkpoint in it")
    add("--name", required=True, help="a config's path below configs/, or a name of your own")
    add("--output", type=Path, required=True, help="folder of what is published")
    args = parser.parse_args(words)
    args.name = args.name.removesuffix(".yaml")
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", args.name):
        parser.error(f"--name {args.name}: expected words as in birds/mask_rcnn_nl")
    return args


def to_publish(checkpoint: Path, name: str, folder: Path) -> dict:
    """All that the file shall hold: plain values and tensors.

    Raises:
        UsageError: of each step in publishing.py.
    """
    held = read_checkpoint(str(checkpoint))
    record = publishing.recorded(checkpoint)
    make_output(folder)
    config, changed = publishing.cleaned(yaml.safe_load(record["config"]))
    print(f"left out of the config, as this machine's own: {', '.join(changed)}")
    text = yaml.safe_dump(config)
    cfg = publishing.from_text(text, folder)
    iterations = held.get("trainer", {}).get("iteration", cfg.SOLVER.MAX_ITER - 1) + 1
    return {
        "model": publishing.checked(held["model"], cfg),
        "name": name,
        "config": text,
        "dataset": {"train": list(cfg.DATASETS.TRAIN), "test": cfg.DATASETS.TEST[0]},
        "metrics": publishing.metrics(record, cfg),
        "iterations": iterations,
        "overrides": publishing.overrides(name, cfg, iterations),
        "commit": record.get("commit"),
        "versions": record["versions"],
    }


def register(file: Path, name: str, entry: dict) -> None:
    """Put an entry into an index, in the place of an earlier one of its name."""
    known = index.parsed(file) if file.exists() else {}
    file.write_text(MADE + yaml.safe_dump(known | {name: entry}))


def format_summary(file: Path, name: str, entry: dict) -> str:
    """The entry, its row of MODEL_ZOO.md, and what to do with them."""
    ours = index.shipped().get(name)
    row = page.line(name, ours | entry) if ours else f"{name}: {page.ours(entry)}"
    use = f"from nl_detectron import model_zoo; model_zoo.get('{name}', trained=True)"
    lines = [
        f"\nIn {file}:\n\n{yaml.safe_dump({name: entry})}",
        f"Its row:\n\n{row}\n",
        f'To use it:\n\nexport {index.OWN}={file}\npython -c "{use}"\n',
    ]
    if ours:
        lines.append(
            "To add it to MODEL_ZOO.md: put 'trained' into the entry of the same name in\n"
            "nl_detectron/model_zoo/index.yaml, with the file's address as checkpoint, and run\n"
            "python -m nl_detectron.model_zoo.page"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"publish_checkpoint.py: error: {error}")
