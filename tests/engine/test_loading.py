"""A model with its weights, from a config of either kind and a checkpoint."""

from pathlib import Path

import pytest
import torch
from config_kinds import KINDS, ROOT

from nl_detectron.engine import load_model, load_run
from nl_detectron.errors import UsageError
from nl_detectron.modeling import find_blocks

DEMO = {
    kind: ROOT / "configs" / "Demo" / f"relay_mask_rcnn_nl{end}"
    for kind, end in zip(KINDS, (".yaml", ".py"), strict=True)
}
BLOCK = "backbone.bottom_up.res4.nonlocal4"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Files of all tensors of the Demo's model, and of those without some."""
    folder = tmp_path_factory.mktemp("checkpoints")
    state = load_model(str(DEMO["yaml"]), ["MODEL.DEVICE", "cpu"]).model.state_dict()
    parts = {
        "whole": state,
        "baseline": {k: v for k, v in state.items() if not k.startswith(BLOCK)},
        "resnet": {k: v for k, v in state.items() if k.startswith("backbone.bottom_up.")},
    }
    for name, tensors in parts.items():
        torch.save({"model": tensors}, folder / f"{name}.pth")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_file_and_a_checkpoint_make_a_model(kind, checkpoints):
    loaded = load_model(str(DEMO[kind]), weights=str(checkpoints / "whole.pth"), device="cpu")
    assert not loaded.model.training
    assert loaded.checkpoint == str(checkpoints / "whole.pth")
    assert not (loaded.fresh or loaded.untrained or loaded.untrained_blocks)
    loaded.check_trained("an evaluation")
    state = torch.load(checkpoints / "whole.pth")["model"]
    assert all(torch.equal(state[k], v) for k, v in loaded.model.state_dict().items())
    assert loaded.run.cfg == load_run(str(DEMO[kind])).cfg


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_config_names_its_weights_itself(kind, tiny_of_kind, checkpoints):
    weights = checkpoints / "whole.pth"
    loaded = load_model(tiny_of_kind(kind, "", weights=weights))
    assert loaded.checkpoint == str(weights) and not loaded.fresh


def test_overrides_reach_the_model(checkpoints):
    after = ["MODEL.NONLOCAL.BACKBONE.AFTER", "['res3.1']", "MODEL.DEVICE", "cpu"]
    loaded = load_model(str(DEMO["yaml"]), after, str(checkpoints / "baseline.pth"))
    assert set(find_blocks(loaded.model)) == {"backbone.bottom_up.res3.nonlocal1"}
    assert loaded.untrained_blocks == ["backbone.bottom_up.res3.nonlocal1"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_baselines_weights_lack_are_identities(kind, checkpoints):
    loaded = load_model(str(DEMO[kind]), weights=str(checkpoints / "baseline.pth"), device="cpu")
    assert loaded.untrained_blocks == [BLOCK]
    assert len(loaded.fresh) == 8 and not loaded.untrained
    loaded.check_trained("an evaluation")


@pytest.mark.slow
def test_a_block_whose_name_begins_like_anothers_is_not_taken_for_it(tmp_path):
    after = ["MODEL.NONLOCAL.BACKBONE.AFTER", "['res4.1', 'res4.10']", "MODEL.DEVICE", "cpu"]
    opts = [*after, "MODEL.RESNETS.DEPTH", "101"]
    state = load_model(str(DEMO["yaml"]), opts).model.state_dict()
    lacking = "backbone.bottom_up.res4.nonlocal10"
    trained = {name: value for name, value in state.items() if not name.startswith(lacking)}
    torch.save({"model": trained}, tmp_path / "some.pth")
    with pytest.raises(UsageError, match=rf"it lacks {lacking}, untrained here\. To fit"):
        load_model(str(DEMO["yaml"]), opts, str(tmp_path / "some.pth"))


@pytest.mark.parametrize(
    ("kind", "key"), [("yaml", "MODEL.WEIGHTS"), ("lazy", "train.init_checkpoint")]
)
def test_heads_that_were_never_trained_are_reported(kind, key, checkpoints):
    loaded = load_model(str(DEMO[kind]), weights=str(checkpoints / "resnet.pth"), device="cpu")
    assert loaded.untrained and not any(n.startswith(BLOCK) for n in loaded.untrained)
    with pytest.raises(UsageError, match=rf"lacks \d+ .* so an export would mean nothing; .*{key}"):
        loaded.check_trained("an export")
    loaded.check_trained("an export", part="backbone.bottom_up.")


def test_without_weights_everything_is_fresh():
    loaded = load_model(str(DEMO["yaml"]), weights="", device="cpu")
    assert set(loaded.fresh) == set(loaded.model.state_dict())
    assert loaded.untrained_blocks == [BLOCK] and loaded.checkpoint == ""


@pytest.mark.slow
def test_a_runs_last_checkpoint_is_resumed(trained):
    loaded = load_model(trained.cfg, weights="nope.pth", resume=True)
    last = (trained.folder / "last_checkpoint").read_text()
    assert Path(loaded.checkpoint) == trained.folder / last
    assert not loaded.fresh


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_cannot_be_loaded_are_reported(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    (tmp_path / "text.pth").write_text("not a checkpoint")
    for weights, message in (
        ("nope.pth", "'nope.pth' does not exist"),
        (str(tmp_path / "text.pth"), "cannot be read"),
        ("http://127.0.0.1:9/model.pth", "cannot be downloaded"),
    ):
        with pytest.raises(UsageError, match=message):
            load_model(str(DEMO[kind]), weights=weights, device="cpu")


def test_a_config_that_describes_no_model_is_reported():
    with pytest.raises(UsageError, match=r"describes no model: .*'cosine'"):
        load_model(str(DEMO["yaml"]), ["MODEL.NONLOCAL.PAIRWISE", "cosine"])
