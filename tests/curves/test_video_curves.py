"""Curves of a video run: the metric that training and the last evaluation have in common."""

import pytest
from recorded_runs import write_run

from nl_detectron.curves import draw_curves, group_runs, load_records
from nl_detectron.errors import UsageError

AP = ("video/top1_1view", "video_classifier/accuracy")


@pytest.fixture
def groups(here):
    for name, loss in (("c2d", 1.0), ("c2d_nl", 2.0)):
        write_run(here / name, 100, loss=loss, ap=AP)
        write_run(here / name, 120, start=100, loss=loss, period=120, ap=(*AP, "video/top1"))
    return load_records(group_runs(["c2d", "c2d_nl"]))


def labels(figure) -> list[str]:
    return [axes.get_ylabel() for axes in figure.axes]


def test_the_metric_of_one_view_is_drawn(groups):
    figure = draw_curves(groups, ["total_loss", "video_classifier/accuracy"])
    expected = ["total_loss", "video_classifier/accuracy", "video/top1_1view, %"]
    assert [label.partition(" ")[2] for label in labels(figure)] == expected
    [plain, blocks] = figure.axes[2].get_lines()
    assert list(plain.get_xdata()) == [49, 99, 119] and list(plain.get_ydata()) == [10] * 3
    assert list(blocks.get_ydata()) == [20] * 3


def test_another_metric_may_be_named_and_a_mistake_lists_them(groups):
    assert labels(draw_curves(groups, [], "video/top1")) == ["validation video/top1, %"]
    with pytest.raises(UsageError, match="there are: video/top1, video/top1_1view"):
        draw_curves(groups, [], "video/top5")
