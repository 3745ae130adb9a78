"""What counts of a metrics.json, and a curve over several runs."""

import pytest
from recorded_runs import write_metrics, write_run

from nl_detectron.curves.records import common_curve, read_records, smoothed_values


def test_a_runs_values_are_read_in_order(tmp_path):
    records = read_records(write_run(tmp_path, 100) / "metrics.json")
    assert list(smoothed_values(records, "total_loss")) == [19, 39, 59, 79, 99]
    assert smoothed_values(records, "total_loss")[59] == pytest.approx(0.941)
    assert smoothed_values(records, "segm/AP") == {49: 10, 99: 10}  # the first is written after 59
    assert list(records) == sorted(records)


def test_of_a_repeated_iteration_the_later_record_counts(tmp_path):
    write_run(tmp_path, 100, loss=1)
    records = read_records(write_run(tmp_path, 120, start=40, loss=3) / "metrics.json")
    assert list(smoothed_values(records, "total_loss")) == [19, 39, 59, 79, 99, 119]
    assert [round(v) for v in smoothed_values(records, "total_loss").values()] == [1, 1, 3, 3, 3, 3]
    assert smoothed_values(records, "segm/AP") == {49: 30, 99: 30}


def test_what_a_run_had_recorded_beyond_the_place_where_it_was_resumed_does_not_count(tmp_path):
    write_run(tmp_path, 200, loss=1)
    records = read_records(write_run(tmp_path, 80, start=60, loss=3) / "metrics.json")
    assert list(smoothed_values(records, "total_loss")) == [19, 39, 59, 79]
    assert list(smoothed_values(records, "segm/AP")) == [49]


def test_broken_lines_are_passed_over(tmp_path):
    cut = '{"iteration": 59, "tot'
    lines = ({"iteration": 19, "total_loss": 3.0}, cut, '{"iteration": 39, "total_loss": 2}\n')
    file = write_metrics(
        tmp_path / "metrics.json", *lines, {"iteration": 59, "total_loss": 1.0}, cut
    )
    assert smoothed_values(read_records(file), "total_loss") == {19: 3, 59: 1}
    assert (
        read_records(
            write_metrics(tmp_path / "b.json", "[1]\n", "7\n", "{}\n", '{"iteration": null}')
        )
        == {}
    )


def test_no_ap_is_no_value(tmp_path):
    records = read_records(
        write_metrics(tmp_path / "m.json", {"iteration": 9, "bbox/AP": float("nan")})
    )
    assert smoothed_values(records, "bbox/AP") == {}


@pytest.mark.parametrize(
    ("smooth", "expected"),
    [(1, [5, 1, 9, 2, 4]), (3, [3, 5, 2, 4, 3]), (2, [3, 5, 5.5, 3, 4]), (99, [4] * 5)],
)
def test_smoothing_is_a_running_median(smooth, expected):
    records = {20 * i: {"total_loss": v} for i, v in enumerate([5, 1, 9, 2, 4])}
    assert list(smoothed_values(records, "total_loss", smooth).values()) == expected


def test_a_group_is_drawn_where_all_its_runs_have_been(tmp_path):
    runs = [
        read_records(write_run(tmp_path / str(n), 100 * n, loss=n) / "metrics.json") for n in (1, 2)
    ]
    found = common_curve(runs, "total_loss")
    assert found.iterations == [19, 39, 59, 79, 99]
    assert found.values[0] == pytest.approx([0.981, 1.981])
