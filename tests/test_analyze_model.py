"""tools/analyze_model.py: its table, its JSON, and a user's mistakes."""

import json
from pathlib import Path

import pytest
from coco_files import dataset_argument, restore_catalogues, valid_content, write
from helpers import load_tool, needs_fake_cuda

from nl_detectron.engine import build_on_meta, load_config
from nl_detectron.errors import UsageError

CONFIGS = Path(__file__).parents[1] / "configs"
MASK_RCNN = str(CONFIGS / "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
WITH_BLOCK = MASK_RCNN.replace("1x", "nl_1x")


@pytest.fixture
def tool(capsys):
    """What the tool prints, by line, for words of its command line."""

    def run(*words) -> list[str]:
        load_tool("analyze_model").main(list(map(str, words)))
        return capsys.readouterr().out.splitlines()

    return run


@pytest.mark.slow
def test_own_data_gives_the_number_of_classes(tool, tmp_path):
    config = "configs/Demo/relay_mask_rcnn.yaml"  # of three classes
    figures = tmp_path / "figures.json"
    with restore_catalogues():
        own = dataset_argument(write(tmp_path, valid_content()))
        words = ("--config-file", config, "--size", 64, 64, "--json", figures)
        lines = tool(*words, "--dataset", own)
    assert any("MODEL.ROI_HEADS.NUM_CLASSES 3 -> 2" in line for line in lines)
    [model] = json.loads(figures.read_text())["models"].values()
    expected = build_on_meta(load_config(config, ["MODEL.ROI_HEADS.NUM_CLASSES", "2"]))
    assert model["figures"]["parameters"] == sum(p.numel() for p in expected.parameters())


@pytest.mark.slow
def test_the_table_shows_blocks_models_and_the_difference(tool, tmp_path):
    file = tmp_path / "figures.json"
    lines = tool("--config-file", WITH_BLOCK, "--compare", MASK_RCNN, "--json", file)
    title, _, headers, _, block, ours, twin, difference, percent = lines
    assert "800 x 1344" in title and headers.split()[-3:] == ["GFLOPs", "activations,", "MB"]
    assert block.split()[:6] == [
        *("backbone.bottom_up.res4.nonlocal4", "1024", "->", "512"),
        *("embedded_gaussian", "fused"),
    ]
    assert block.split()[6:8] == ["2,099,712", "10.02"]
    assert ours.split()[:2] == ["mask_rcnn_R_50_FPN_nl_1x", "46,442,928"]
    assert twin.split()[:2] == ["mask_rcnn_R_50_FPN_1x", "44,343,216"]
    assert difference.split()[:3] == ["difference", "+2,099,712", "+10.02"]
    assert percent.split()[:6] == ["difference,", "percent", "+4.74", "%", "+3.80", "%"]
    written = json.loads(file.read_text())
    assert written["image"] == [800, 1344]
    model = written["models"]["mask_rcnn_R_50_FPN_nl_1x"]
    assert model["figures"]["parameters"] == 46_442_928
    assert model["blocks"][0]["figures"]["flops"] == 10_020_864_000


@pytest.mark.slow
@needs_fake_cuda
def test_the_table_shows_what_a_gpu_keeps_beside(tool, tmp_path):
    file = tmp_path / "figures.json"
    words = "--size", 128, 128, "--device", "cuda", "--json", file
    lines = tool("--config-file", WITH_BLOCK, "--compare", MASK_RCNN, *words)
    assert lines[2].split()[-5:] == ["MB", "on", "a", "GPU,", "MB"]
    model = json.loads(file.read_text())["models"]["mask_rcnn_R_50_FPN_nl_1x"]
    on_cpu, on_gpu = (m["blocks"][0]["figures"]["activations"] for m in (model, model["on_gpu"]))
    assert lines[4].split()[-2:] == [f"{on_cpu / 1e6:.1f}", f"{on_gpu / 1e6:.1f}"]
    assert on_gpu > on_cpu  # x once more, in channels-last


@pytest.mark.slow
def test_overrides_reach_both_but_for_those_of_blocks(tool):
    words = ("MODEL.MASK_ON", "False", "MODEL.NONLOCAL.PAIRWISE", "gaussian")
    lines = tool("--config-file", WITH_BLOCK, "--compare", WITH_BLOCK, "--size", 64, 64, *words)
    assert [line.split()[4] for line in lines if "->" in line][1:] == [
        "gaussian",
        "embedded_gaussian",
    ]
    assert lines[-2].split() == ["difference", "-1,049,600", *lines[-2].split()[2:]]
    assert any(line.startswith("mask_rcnn_R_50_FPN_nl_1x (compared)") for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.yaml"], "config file 'nothing.yaml' does not exist"),
        ([WITH_BLOCK, "--compare", "nothing.yaml"], "'nothing.yaml' does not exist"),
        ([WITH_BLOCK, "--size", 16, 64], "at least 32 pixels per side, got 16 x 64"),
        ([WITH_BLOCK, "--json", "no/folder.json"], "expected a file in a folder that exists"),
        ([WITH_BLOCK, "--json", "."], "expected a file in a folder that exists"),
        ([WITH_BLOCK, "MODEL.NONLOCAL"], "expected KEY VALUE pairs, got an odd number"),
        ([WITH_BLOCK, "MODEL.NONLOCAL.PAIRWIZE", "x"], "did you mean MODEL.NONLOCAL.PAIRWISE"),
        ([WITH_BLOCK, "MODEL.NONLOCAL.PAIRWISE", "x"], f"{WITH_BLOCK}: .* describes no model"),
        (
            [WITH_BLOCK, "--size", 32, 32, "MODEL.NONLOCAL.BACKBONE.AFTER", "['res5.0']"],
            f"{WITH_BLOCK}: image of 32 x 32: expected at least 2 positions",
        ),
    ],
)
def test_a_users_mistake_is_reported(tool, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        tool("--config-file", *words)
    assert "\n" not in str(caught.value)
