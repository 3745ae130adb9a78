"""The page of the video demo's evidence."""

from video_results import cells, make_result

from benchmarks import video_page, video_runs
from benchmarks.video_page import FIGURE, NOT_YET, page
from benchmarks.video_runs import BLOCK, C2D, FEW, GROUPS, I3D, LEARNED, SEEDS, Job


def test_with_no_results_every_row_says_so(here):
    text = page({})
    rows = cells(text)
    labels = [label for group in ("arch", "axes", "forms") for label in GROUPS[group]]
    for label in labels:
        assert [label, "0 of 3", "–", NOT_YET] in [row[:4] for row in rows]
    assert [["105", NOT_YET, NOT_YET, "–"]] == [row for row in rows if row[0] == "105"]
    assert "_Not run yet._" in text and FIGURE not in text and "Failed runs" not in text
    video_page.draw({}, here / FIGURE)
    assert not (here / FIGURE).exists()


def test_distances_have_the_accuracy_of_each_architecture(here):
    results = {Job(C2D, s, 1): make_result(50, {3: 30, 7: n}) for s, n in ((101, 20), (102, 30))}
    results[Job(f"{I3D}_nl", 103, 1)] = make_result(99, {3: 50, 7: 45})
    results[Job(BLOCK, 104, 1)] = make_result(99, {3: 1, 7: 1})  # no seed of this table
    text = page(results)
    rows = cells(text.partition("## Distance in time")[2])
    assert rows[0] == ["distance", "videos", "C2D", "C2D + 1 block", "I3D", "I3D + 1 block"]
    assert rows[2] == [
        *("3", "50", "60.0 (60.0 to 60.0)", NOT_YET),
        *(NOT_YET, "100.0 (100.0 to 100.0)"),
    ]
    assert rows[3][2:] == ["50.0 (40.0 to 60.0)", NOT_YET, NOT_YET, "90.0 (90.0 to 90.0)"]
    assert "In the I3D" in text and "spans 23 frames" in text and "at most 22 apart" in text
    assert f"]({FIGURE})" in text
    video_page.draw(results, here / FIGURE)
    assert (here / FIGURE).stat().st_size > 5000


def test_a_remark_stands_below_its_table(monkeypatch):
    monkeypatch.setattr(video_page, "REMARKS", {("axes", "space"): "It sees one frame."})
    text = page({}).partition("## Axes")[2].partition("## Pairwise")[0]
    assert text.rstrip().endswith("- **space**: It sees one frame.")


def test_remarks_are_on_rows_that_there_are():
    for group, label in video_page.REMARKS:
        assert label in GROUPS[group]


def test_the_page_in_docs_is_of_the_results_kept_there():
    results = video_runs.record().load()
    hint = "run python -m benchmarks.video_seeds --report"
    assert video_page.PAGE.read_text() == page(results), hint
    drawn = (video_page.DOCS / FIGURE).exists()
    assert drawn == (f"]({FIGURE})" in page(results)), hint


def test_seeds_of_the_tables_are_none_that_settings_are_chosen_on():
    assert set(FEW) <= set(SEEDS) and not set(SEEDS) & set(video_runs.TUNING)
    assert video_page.MOST_OF_A_SUM < LEARNED
