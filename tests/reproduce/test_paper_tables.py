"""Measured figures beside the published ones."""

import pytest
from markdown_cells import cells_of

from nl_detectron.reproduce.paper_tables import TABLES, fill_table, format_markdown

BOX = {"bbox/AP": 40.0, "bbox/AP50": 60.0, "bbox/AP75": 44.0}
MADE_UP = {
    "R50": {1: {**BOX, "bbox/AP": 38.0}, 2: {**BOX, "bbox/AP": 38.5}, 3: {**BOX, "bbox/AP": 38.1}},
    "R50 + 1 block": {1: BOX, 2: {**BOX, "bbox/AP": 39.0}, 4: {**BOX, "bbox/AP": None}},
}


def test_a_table_sets_measured_figures_and_gains_beside_the_published_ones():
    rows = fill_table(TABLES["table5"], "1x", MADE_UP)
    text = format_markdown(TABLES["table5"], rows, "a day on the moon")
    assert "a day on the moon" in text
    box = cells_of(text, "Box AP")
    paper, twin_paper = "39.0 / 61.1 / 41.9", "38.0 / 59.6 / 41.0"
    assert box["R50"][:4] == [twin_paper, "–", "38.6", "38.2 (38.0 to 38.5)"]
    assert box["R50"][-2:] == ["–", "3"]
    # 40.0 - 38.0 and 39.0 - 38.5; seeds 3 and 4 have no partner, and seed 4 found nothing
    assert box["R50 + 1 block"][:4] == [paper, "+1.0", "–", "26.3 (0.0 to 40.0)"]
    assert box["R50 + 1 block"][-2:] == ["+1.2 (+0.5 to +2.0)", "3"]
    assert box["X152"] == ["44.1 / 66.4 / 48.4", *["–"] * 6, "0"]
    assert cells_of(text, "Mask AP")["R50"][0] == "34.6 / 56.4 / 36.5"


@pytest.mark.parametrize(
    ("table", "row", "paper"),
    [
        ("table2a", "baseline", ["71.8", "–", "35.2"]),
        ("table2a", "embedded Gaussian", ["72.7", "+0.9", "–"]),
        ("table2b", "res5", ["72.3", "+0.5", "–"]),
        ("table2c", "R101 + 5 blocks", ["75.1", "+2.0", "–"]),
    ],
)
def test_an_ablations_table_says_that_the_papers_is_on_kinetics(table, row, paper):
    rows = fill_table(TABLES[table], "1x", {})
    text = format_markdown(TABLES[table], rows, "")
    assert "top-1 accuracy of video classification on Kinetics" in text
    masks = cells_of(text, "Mask AP")
    assert "paper: Kinetics top-1, %" in masks[""] and masks[row][:3] == paper


def test_a_video_table_has_accuracies_and_the_released_ones():
    runs = {"R50 I3D": 73.0, "R50 NL I3D": 74.5}
    made_up = {name: {1: {"video/top1": v, "video/top5": 90.0}} for name, v in runs.items()}
    text = format_markdown(TABLES["table2f"], fill_table(TABLES["table2f"], "", made_up), "")
    cells = cells_of(text, "Accuracy")
    heads = ["paper: top-1 / top-5", "paper's gain", "released code: top-1", "top-1", "top-5"]
    assert cells[""] == [*heads, "gain over twin", "runs"]
    assert cells["R50 NL I3D"] == ["74.9 / 91.6", "+1.6", "74.9", "74.5", "90.0", "+1.5", "1"]
    assert cells["R101 NL I3D"] == ["76.0 / 92.1", "+1.6", "–", "–", "–", "–", "0"]
    assert "a run's top-1 less that of its twin" in text


def test_charades_has_one_figure():
    made_up = {"NL I3D R101": {1: {"video/mAP": 30.0}}}
    text = format_markdown(TABLES["table4"], fill_table(TABLES["table4"], "", made_up), "")
    row = cells_of(text, "Mean AP")["NL I3D R101"]
    assert row == ["37.5", "+2.0", "–", "30.0", "–", "1"]
