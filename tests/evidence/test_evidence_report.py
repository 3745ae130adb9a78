"""Tables and pictures are made from the results alone; those in docs/ of those kept here."""

import json
from itertools import pairwise

import pytest

from benchmarks.evidence.claims import claims
from benchmarks.evidence.figures import CURVES, DISTANCE, draw
from benchmarks.evidence.report import PAGE, load_seconds, parts, render
from benchmarks.evidence.results import half_way, load, row, spread
from benchmarks.evidence.runs import RUNS, TABLES, jobs
from benchmarks.evidence.train import FULL

SECONDS = {"baseline": {"median": 0.25}}


def make_result(name, seed, ap):
    run = RUNS[name]
    tasks = ("box", "keypoint") if run.data.keypoints else ("box", "mask")
    points = [(100, 0.2), (200, 0.6), (300, 1.0)]
    result = {"run": name, "seed": seed, "key": run.key(seed), "minutes": 6.0, "stopped": "end"}
    result |= {"ap": dict.fromkeys(tasks, ap), "versions": {"torch": "2.15"}, "flops": 8e8}
    result |= {"parameters": 1234567, "iterations": 300}
    result["curve"] = [
        {
            "iteration": i,
            "losses": {"total_loss": 3 - part},
            "ap": dict.fromkeys(tasks, ap * part),
        }
        for i, part in points
    ]
    result |= {"located": dict.fromkeys(tasks, 90.0), "right": ap / 90}
    if "mask" in tasks:
        result["bands"] = [
            {
                "from": a,
                "to": b,
                "images": 50,
                "ap": {"mask": ap},
                "chance": {"mask": 30.0},
                "located": {"mask": 60.0},
            }
            for a, b in pairwise(run.bands)
        ]
    return result


def results_of(**aps):
    """By the run's name: the AP of seeds 101, 102, ..."""
    return {
        name: {seed: make_result(name, seed, ap) for seed, ap in enumerate(values, 101)}
        for name, values in aps.items()
    }


def cells(text):
    """Of a table's rows, by their first cell."""
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    return {row[0]: row[1:] for row in rows}


@pytest.mark.slow
def test_the_page_in_docs_is_of_the_results_kept_here():
    page, results = PAGE.read_text(), load(FULL.results)
    assert render(page, parts(results, load_seconds())) == page, "run make evidence-report"
    for name, letter in ((CURVES, "A"), (DISTANCE, "F")):
        there = any(row(results, letter, label) for label in TABLES[letter])
        assert (PAGE.parent / name).exists() == there == (f"]({name})" in page)


def test_with_no_results_every_row_says_so(tmp_path):
    assert load(tmp_path) == {}
    found = dict(parts({}, {}))
    assert found.keys() >= {*TABLES, "summary", "runs", "half", "G"}
    for letter, table in TABLES.items():
        if letter != "F":
            rows = cells(found[letter])
            assert all(rows[label][1:3] == ["–", "not run yet"] for label in table)
    assert cells(found["half"])["baseline"] == ["not run yet", "–"]
    assert found["runs"] == found["G"] == "_Not run yet._" and "Not run" in found["F"]
    assert draw({}, tmp_path, {}) == [] and list(tmp_path.iterdir()) == []


def test_a_row_is_the_mean_range_and_number_of_its_own_seeds():
    results = results_of(baseline=[30, 31, 29, 30, 99], embedded_gaussian=[80, 90])
    found = dict(parts(results, SECONDS))
    baseline = cells(found["A"])["baseline"]
    assert baseline[:2] == ["5 of 10", "1 of 5"]
    assert baseline[2] == "49 (32 to 110)"
    assert baseline[3:5] == ["43.8 (29.0 to 99.0)", "43.8 (29.0 to 99.0)"]
    assert baseline[5:] == ["90.0 (90.0 to 90.0)", "1,234,567", "0.800", "0.250"]
    assert cells(found["A"])["embedded_gaussian"][:2] == ["2 of 10", "2 of 2"]
    assert cells(found["A"])["embedded_gaussian"][3] == "85.0 (80.0 to 90.0)"
    assert cells(found["B"])["res4"][:2] == ["2 of 3", "2 of 2"]
    assert cells(found["A"])["control"][:3] == ["0 of 10", "–", "not run yet"]
    assert cells(found["half"])["baseline"] == ["175 (175 to 175)", "44 (44 to 44)"]
    assert cells(found["half"])["control"] == ["not run yet", "–"]
    assert found["runs"].startswith(f"7 of {len(jobs())} runs, 0.7 hours")


def test_results_of_earlier_settings_are_shown_and_told(tmp_path, monkeypatch):
    from benchmarks.evidence import report

    stale = {**make_result("baseline", 101, 30), "key": "another"}
    (tmp_path / "baseline-seed101.json").write_text(json.dumps(stale))
    monkeypatch.setattr(report, "FULL", FULL._replace(results=tmp_path))
    text = dict(parts(load(tmp_path), {}))["runs"]
    assert "1 have earlier settings" in text


def test_bands_have_a_row_each_with_what_chance_gives():
    found = dict(parts(results_of(distance_baseline=[30, 32], distance_embedded_gaussian=[80]), {}))
    first = cells(found["F"])["20 to 90"]
    assert first == [
        "50",
        "31.0 (30.0 to 32.0)",
        "80.0",
        "30.0 (30.0 to 30.0)",
        "20.0 (20.0 to 20.0)",
    ]
    assert "145 pixels from res4, 241 pixels from res5" in found["F"]


@pytest.mark.slow
def test_pictures_are_drawn_of_what_there_is(tmp_path):
    reach = {"res4": 145, "res5": 241}
    results = results_of(baseline=[30, 32], embedded_gaussian=[80], distance_baseline=[30])
    assert [path.name for path in draw(results, tmp_path, reach)] == [CURVES, DISTANCE]
    assert (tmp_path / CURVES).stat().st_size > 5000 and (tmp_path / DISTANCE).exists()
    assert f"]({CURVES})" in dict(parts(results, SECONDS))["G"]


@pytest.mark.parametrize(
    ("ours", "theirs", "measured", "met"),
    [
        ([70, 80], [30, 40], "+40.0, ranges apart (2 of 10 runs)", "yes"),
        ([50, 55], [40, 41], "+12.0, ranges apart (2 of 10 runs)", "no"),  # too little
        ([39, 90], [30, 40], "+29.5, ranges overlap (2 of 10 runs)", "no"),
    ],
)
def test_a_gain_is_of_means_and_its_ranges_are_apart(ours, theirs, measured, met):
    lines = list(claims(results_of(embedded_gaussian=ours, baseline=theirs)))
    line = next(line for line in lines if line[0] == "A: embedded_gaussian over baseline, mask AP")
    assert line[1:] == [measured, "at least 20, ranges apart", met]


@pytest.mark.parametrize(
    ("far_baseline", "met_baseline", "far_block", "met_block"),
    [(33, "yes", 76, "yes"), (36, "no", 70, "no"), (24, "no", 72, "yes")],
)
def test_far_away_the_baseline_is_at_chance_and_the_block_as_near(
    far_baseline, met_baseline, far_block, met_block
):
    results = results_of(distance_baseline=[80], distance_embedded_gaussian=[80])
    results["distance_baseline"][101]["bands"][-1]["ap"]["mask"] = far_baseline
    results["distance_embedded_gaussian"][101]["bands"][-1]["ap"]["mask"] = far_block
    baseline, block = (line for line in claims(results) if line[0].startswith("F"))
    assert (baseline[3], block[3]) == (met_baseline, met_block)


@pytest.mark.parametrize(
    ("aps", "expected"),
    [
        ([20, 60, 100], 175),
        ([100, 100, 100], 50),
        ([0, 90, 10], 100 + 100 * 5 / 90),
        ([0, 0, 0], 0),
    ],
)
def test_half_way_is_where_the_curve_first_crosses_it(aps, expected):
    curve = [{"iteration": 100 * i, "ap": {"box": 1, "mask": ap}} for i, ap in enumerate(aps, 1)]
    found = half_way({"ap": {"box": 1, "mask": aps[-1]}, "curve": curve})
    assert found == pytest.approx(expected)


def test_a_spread_is_a_mean_and_range():
    assert [spread(v) for v in ([], [2], [1, 2, 6])] == ["not run yet", "2.0", "3.0 (1.0 to 6.0)"]


def test_a_page_without_a_parts_markers_is_refused():
    with pytest.raises(ValueError, match="the page lacks <!-- begin: summary -->"):
        render("no markers", parts({}, {}))
