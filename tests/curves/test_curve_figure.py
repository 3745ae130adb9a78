"""The figure: means, ranges, markers, and looks that can be told apart."""

import numpy as np
import pytest
from recorded_runs import write_run

from nl_detectron.curves.figure import draw_panels
from nl_detectron.curves.records import read_records


def test_the_figure_has_means_ranges_and_a_marker_for_each_evaluation(tmp_path):
    files = {n: write_run(tmp_path / str(n), 100, loss=n) / "metrics.json" for n in (1, 2, 4)}
    found = {"a": [read_records(files[1]), read_records(files[2])], "b": [read_records(files[4])]}
    figure = draw_panels(found, {"total_loss": "loss", "segm/AP": "AP, %"}, "segm/AP", smooth=1)
    loss, ap = figure.axes
    assert (loss.get_xlabel(), loss.get_ylabel(), ap.get_ylabel()) == ("iteration", "loss", "AP, %")
    assert loss.lines[0].get_xydata()[0] == pytest.approx((19, 1.481))
    assert ap.lines[0].get_xydata() == pytest.approx(np.array([(49, 15), (99, 15)]))
    assert ap.lines[1].get_ydata() == pytest.approx([40, 40])
    band = ap.collections[0].get_datalim(ap.transData)
    assert (band.y0, band.y1) == pytest.approx((10, 20))
    for axis in (loss, ap):
        assert len({line.get_linestyle() for line in axis.lines}) == 2
        assert len({line.get_color() for line in axis.lines}) == 2
    assert all(line.get_marker() != "None" for line in ap.lines)
    assert all(line.get_marker() == "None" for line in loss.lines)
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a (2)", "b (1)"]
    figure.draw_without_rendering()
    frames = [axis.get_window_extent() for axis in figure.axes]
    assert not legend.get_window_extent().count_overlaps(frames)


def test_no_two_groups_look_alike(tmp_path):
    records = read_records(write_run(tmp_path, 40) / "metrics.json")
    figure = draw_panels({str(n): [records] for n in range(35)}, {"total_loss": ""}, None, smooth=1)
    looks = {(line.get_color(), str(line._dash_pattern)) for line in figure.axes[0].lines}
    assert len(looks) == 35


def test_a_place_without_a_panel_is_empty(tmp_path):
    records = read_records(write_run(tmp_path, 40) / "metrics.json")
    keys = ("total_loss", "loss_mask", *(f"loss_{n}" for n in range(3)))
    for record in records.values():
        record.update(dict.fromkeys(keys, 1.0))
    figure = draw_panels({"a": [records]}, dict.fromkeys(keys, "loss"), None)
    assert [axis.axison for axis in figure.axes] == [True] * 5 + [False]


def test_a_single_record_is_seen(tmp_path):
    records = read_records(write_run(tmp_path, 4) / "metrics.json")
    [axis] = draw_panels({"a": [records]}, {"total_loss": ""}, None, smooth=1).axes
    assert axis.lines[0].get_marker() != "None"
