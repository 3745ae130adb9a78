"""The model zoo: its index against the configs and Detectron2's zoo, its verbs, MODEL_ZOO.md."""

import re

import pytest
import torch
import yaml
from detectron2 import model_zoo as detectron2_zoo
from detectron2.config import get_cfg
from detectron2.utils.file_io import Detectron2Handler

from nl_detectron import add_nonlocal_config, model_zoo
from nl_detectron.engine import load_config
from nl_detectron.engine.checkpoint_files import digest
from nl_detectron.errors import UsageError
from nl_detectron.model_zoo import page
from nl_detectron.model_zoo.index import OWN, shipped
from nl_detectron.model_zoo.zoo import CONFIGS, baseline_url
from nl_detectron.modeling import find_blocks

INDEX = shipped()
THERE = {
    file.relative_to(CONFIGS).with_suffix("").as_posix()
    for file in CONFIGS.rglob("*.yaml")
    if not file.name.startswith("Base") and file.parent.name != "Demo"
}
FINETUNE = sorted(name for name in INDEX.keys() & THERE if name.endswith("_finetune"))
# a model without blocks, and Detectron2's whose checkpoint it can start from
BASELINES = {
    (entry.get("twin", name), entry["baseline"])
    for name, entry in INDEX.items()
    if "baseline" in entry
}
MASK = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN"


@pytest.fixture(autouse=True)
def no_index_of_ones_own(monkeypatch):
    monkeypatch.delenv(OWN, raising=False)


# --- the index -------------------------------------------------------------------------------


def test_every_config_has_an_entry():
    missing = ", ".join(sorted(THERE - INDEX.keys()))
    assert not missing, f"index.yaml lacks {missing}"


def test_every_entry_has_a_config():
    missing = ", ".join(sorted(INDEX.keys() - THERE))
    assert not missing, f"index.yaml has entries without a config: {missing}"


def test_a_twin_is_the_same_config_without_blocks():
    for name, entry in INDEX.items():
        if entry["table"] in page.VIDEO:  # tests/test_video_configs.py
            continue
        plain = re.sub(r"_nl.*(?=_[13]x$|_finetune$)", "", name)
        plain = plain.replace("Ablations/", "COCO-InstanceSegmentation/")
        assert entry.get("twin", name) == plain and plain in INDEX


@pytest.mark.parametrize(("name", "baseline"), sorted(b for b in BASELINES if b[0] in THERE))
def test_a_baselines_checkpoint_is_of_the_same_model(name, baseline):
    theirs = get_cfg()
    add_nonlocal_config(theirs)
    theirs.merge_from_file(detectron2_zoo.get_config_file(f"{baseline}.yaml"))
    ours = load_config(str(CONFIGS / f"{name}.yaml"), ["MODEL.WEIGHTS", theirs.MODEL.WEIGHTS])
    theirs.MODEL.DEVICE = ours.MODEL.DEVICE
    assert ours.MODEL == theirs.MODEL


def test_detectron2_has_the_checkpoint_of_every_baseline_and_none_of_x152():
    for entry in INDEX.values():
        assert "baseline" not in entry or baseline_url(entry).endswith(".pkl")
    without = [n for n, e in INDEX.items() if "baseline" not in e and e["table"] not in page.VIDEO]
    assert without and all("X_152" in name for name in without)


@pytest.mark.parametrize("name", FINETUNE)
def test_finetuning_starts_from_the_baselines_checkpoint(name):
    address = Detectron2Handler.S3_DETECTRON2_PREFIX + "/".join(
        load_config(str(CONFIGS / f"{name}.yaml")).MODEL.WEIGHTS.split("/")[2:]
    )
    assert address == baseline_url(INDEX[name])
    assert INDEX[name]["baseline"].endswith("_3x")


def test_finetuning_is_there_for_both_tasks_with_its_twins():
    assert {name.split("/")[0] for name in FINETUNE} == {
        "COCO-InstanceSegmentation",
        "COCO-Keypoints",
    }
    assert {INDEX[name]["twin"] for name in FINETUNE if "_nl" in name} == {
        name for name in FINETUNE if "_nl" not in name
    }


# --- MODEL_ZOO.md ----------------------------------------------------------------------------


def test_the_page_is_made_of_the_index():
    text = page.PAGE.read_text()
    made = page.render(text, page.parts(INDEX))
    assert text == made, "run python -m nl_detectron.model_zoo.page"
    listed = re.findall(r"\]\(configs/([\w/.-]+)\.yaml\) \|", text)
    assert sorted(listed) == sorted(INDEX)


TRAINED = {
    "checkpoint": "https://there/model.pth",
    "sha256": 64 * "0",
    "metrics": {"bbox/AP": 39.04, "segm/AP": None, "bbox/AP50": 60.0},
}


def test_a_trained_model_stands_there_with_its_results_and_its_checkpoint():
    name = f"{MASK}_nl_1x"
    line = page.line(name, INDEX[name] | {"trained": TRAINED})
    assert line.startswith(f"| [mask_rcnn_R_50_FPN_nl_1x](configs/{name}.yaml) | 39.0 / 61.1 / ")
    assert line.endswith(" | 39.0 / – ([model](https://there/model.pth)) |")
    assert "None of these" not in page.state(INDEX | {name: {"trained": TRAINED}})


def test_a_trained_video_model_stands_there_with_both_accuracies():
    name = "Kinetics/i3d_R_50_nl5_128x1"
    line = page.line(name, INDEX[name])
    start = f"| 2g, 3 | [i3d_R_50_nl5_128x1](configs/{name}.yaml) | 76.5 / 92.6 | 76.5 / 92.7 |"
    assert line == f"{start} not trained yet |"
    trained = TRAINED | {"metrics": {"video/top1": 70.04, "video/top5": 90.0}}
    assert page.line(name, INDEX[name] | {"trained": trained}).endswith(
        "| 70.0 / 90.0 ([model](https://there/model.pth)) |"
    )


# --- the verbs -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".yaml", ""])
def test_a_config_is_found_by_its_name(suffix):
    assert model_zoo.get_config_file(f"{MASK}_nl_1x{suffix}") == str(CONFIGS / f"{MASK}_nl_1x.yaml")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"{MASK}_nl_2x.yaml", f"did you mean {MASK}_nl_"),
        ("nothing/of_the_kind", "'nothing/of_the_kind' is not a config of the model zoo$"),
    ],
)
def test_an_unknown_name_is_reported_with_those_near_it(name, message):
    with pytest.raises(UsageError, match=message):
        model_zoo.get(name)


def test_a_config_may_be_changed():
    cfg = model_zoo.get_config(f"{MASK}_nl_1x.yaml")
    assert cfg.MODEL.WEIGHTS == "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 12


def test_a_config_of_detectron2s_zoo_has_its_checkpoint():
    theirs = detectron2_zoo.get_checkpoint_url(f"{MASK}_3x.yaml")
    assert model_zoo.get_config(f"{MASK}_3x.yaml", trained=True).MODEL.WEIGHTS == theirs


TRAIN = "Train it: python train_net.py --config-file configs/"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (f"{MASK}_nl_1x", [f"{TRAIN}{MASK}_nl_1x.yaml", "_1x/137260431/", "FPN_nl_finetune.yaml"]),
        (
            "COCO-Detection/faster_rcnn_R_50_FPN_nl_3x",
            ["_3x/137849458/", "the same with that URL as MODEL.WEIGHTS"],
        ),
        (f"{MASK}_nl_finetune", [f"{TRAIN}{MASK}_nl_finetune", "which starts from", "/137849600/"]),
        ("COCO-InstanceSegmentation/mask_rcnn_X_152_32x8d_FPN_nl_1x", [f"{TRAIN}COCO", "gpus 8$"]),
        ("Demo/relay_mask_rcnn_nl", [f"{TRAIN}Demo/relay_mask_rcnn_nl.yaml --num-gpus 8$"]),
    ],
)
def test_a_model_that_nobody_has_trained_says_how_to(name, parts):
    for function in (model_zoo.get, model_zoo.get_config):
        with pytest.raises(UsageError, match=f"nobody has trained {name} yet") as caught:
            function(f"{name}.yaml", trained=True)
        assert all(re.search(part, str(caught.value)) for part in parts)


def test_a_model_is_built_with_its_blocks():
    model = model_zoo.get("Demo/relay_mask_rcnn_nl.yaml", device="cpu")
    assert model.training and model.device.type == "cpu"
    assert list(find_blocks(model)) == ["backbone.bottom_up.res4.nonlocal4"]


# --- an index of one's own -------------------------------------------------------------------


@pytest.fixture
def own_index(tmp_path, monkeypatch):
    """Writes an index of one's own: ``own_index({name: entry})``; a text as it is."""

    def write(index) -> None:
        text = index if isinstance(index, str) else yaml.safe_dump(index)
        (tmp_path / "index.yaml").write_text(text)
        monkeypatch.setenv(OWN, str(tmp_path / "index.yaml"))

    return write


def test_ones_own_entry_is_laid_over_the_packages(own_index):
    own_index({f"{MASK}_nl_1x": {"trained": TRAINED}})
    assert model_zoo.get_checkpoint_url(f"{MASK}_nl_1x.yaml") == "https://there/model.pth"
    assert model_zoo.get_config_file(f"{MASK}_nl_1x.yaml") == str(CONFIGS / f"{MASK}_nl_1x.yaml")


def test_a_checkpoint_of_another_model_is_refused(own_index, tmp_path):
    torch.save({"model": {"weight": torch.ones(3)}}, tmp_path / "other.pth")
    trained = {"checkpoint": "other.pth", "sha256": digest(str(tmp_path / "other.pth"))}
    own_index({"Demo/relay_mask_rcnn": {"trained": trained}})
    with pytest.raises(UsageError, match=r"other.pth' lacks this model's backbone"):
        model_zoo.get("Demo/relay_mask_rcnn", trained=True, device="cpu")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "expected entries by the name of a config"),
        ("name: no entry", "expected entries by the name of a config"),
        ("a: b: c", "is not YAML: mapping values are not allowed here"),
        (
            f"{MASK}_1x: {{trained: {{}}}}",
            "_1x' of index .*: trained has no checkpoint; give a path",
        ),
        ("a: {trained: {sha256: 0}}", "entry 'a' of index .*: trained has no checkpoint; give a"),
        ("a: {trained: null}", "entry 'a' of index .*: trained has no keys"),
    ],
)
def test_what_is_no_index_is_reported(own_index, text, message):
    own_index(text)
    with pytest.raises(UsageError, match=message):
        model_zoo.get_checkpoint_url(f"{MASK}_1x")


def test_an_index_that_is_not_there_is_reported(monkeypatch):
    monkeypatch.setenv(OWN, "nowhere/index.yaml")
    with pytest.raises(UsageError, match=r"'nowhere/index.yaml' of a model zoo cannot be read"):
        model_zoo.get_checkpoint_url(f"{MASK}_1x")


def test_a_lazy_config_starts_from_its_own_weights():
    cfg = model_zoo.get_config("Demo/relay_mask_rcnn_nl.py")
    assert cfg.model.backbone.block.pairwise == "embedded_gaussian"
    assert cfg.train.init_checkpoint == ""


def test_the_program_writes_the_page_of_a_clone(tmp_path, monkeypatch, capsys):
    kept, copy = page.PAGE.read_text(), tmp_path / "MODEL_ZOO.md"
    monkeypatch.setattr(page, "PAGE", copy)
    with pytest.raises(SystemExit, match=r"run this in a clone of nl_detectron"):
        page.main([])
    copy.write_text(kept)
    page.main([])
    assert copy.read_text() == kept and capsys.readouterr().out == f"wrote {copy}\n"
