"""Configs of strangers: no code in YAML runs, and no base is fetched unasked."""

import pytest
import yaml
from config_kinds import ROOT
from helpers import load_tool

from nl_detectron.engine import (
    argument_parser,
    config_from_args,
    load_config,
    load_run,
    trust,
    trust_from_args,
)
from nl_detectron.errors import UsageError

DEMO = ROOT / "configs/Demo"

BASES = ["http://there/base.yaml", "https://there/base.yaml", "s3://there/base.yaml"]
BASES += ["detectron2://base.yaml", ["nothing.yaml", "http://there/base.yaml"]]


@pytest.mark.parametrize("base", BASES, ids=str)
@pytest.mark.parametrize("nested", [False, True])
def test_a_base_on_another_server_is_not_fetched(base, nested, no_network, tmp_path):
    (tmp_path / "nothing.yaml").write_text("MODEL: {}\n")
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump({"_BASE_": base}))
    (tmp_path / "mine.yaml").write_text("_BASE_: theirs.yaml\n")
    file = tmp_path / ("mine.yaml" if nested else "theirs.yaml")
    with pytest.raises(UsageError, match=r"_BASE_.*://.*--allow-remote-base") as caught:
        load_config(str(file))
    assert "\n" not in str(caught.value)


def test_a_base_on_another_server_is_fetched_if_allowed(server, no_network, tmp_path):
    server(b"SEED: 7\n")
    (tmp_path / "mine.yaml").write_text("_BASE_: https://there/base.yaml\nVERSION: 2\n")
    with trust(remote_bases=True):
        assert load_config(str(tmp_path / "mine.yaml")).SEED == 7
    with pytest.raises(UsageError, match="--allow-remote-base"):
        load_config(str(tmp_path / "mine.yaml"))


def test_train_net_and_a_tool_have_a_flag_for_remote_bases(server, no_network, tmp_path):
    server(b"_BASE_: 7\n")
    (tmp_path / "mine.yaml").write_text("_BASE_: https://there/other.yaml\n")
    words = ["--config-file", str(tmp_path / "mine.yaml")]
    analyze = load_tool("analyze_model").main
    for flag, error in (([], "--allow-remote-base"), (["--allow-remote-base"], "cannot be read")):
        with pytest.raises(UsageError, match=error):
            analyze([*words, *flag])
        args = argument_parser().parse_args([*words, *flag])
        with trust_from_args(args), pytest.raises(UsageError, match=error):
            config_from_args(args)


def test_a_config_on_another_server_is_not_fetched(no_network):
    for name in ("http://there/model.yaml", "https://there/model.py"):
        with pytest.raises(UsageError, match="is a URL: download it"):
            load_config(name)


def test_a_yaml_tag_that_calls_something_is_refused(tmp_path, marker):
    text = f"MODEL: !!python/object/apply:builtins.open ['{marker}', 'w']\n"
    (tmp_path / "theirs.yaml").write_text(text)
    (tmp_path / "mine.yaml").write_text("_BASE_: theirs.yaml\n")
    for name in ("theirs.yaml", "mine.yaml"):
        with pytest.raises(UsageError, match="cannot be read"):
            load_config(str(tmp_path / name))


def test_code_from_outside_the_package_is_said_once(tmp_path, arguments):
    inside = DEMO / "relay_mask_rcnn_nl.py"
    outside = tmp_path / "theirs.py"
    outside.write_text(
        "from detectron2.config import LazyConfig\n"
        f"theirs = LazyConfig.load({str(inside)!r})\n"
        "model, optimizer, lr_multiplier = theirs.model, theirs.optimizer, theirs.lr_multiplier\n"
        "dataloader, train = theirs.dataloader, theirs.train\n"
    )
    args = arguments("--config-file", str(outside))
    config_from_args(args)
    assert args.notes == [
        f"{outside} is Python code from outside this package and ran with your rights"
    ]
    load_run(str(inside), say=pytest.fail)
