"""Scores of videos on disk: kept while they hold, and dropped when anything else changes."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from nl_detectron.engine.video_evaluation import VideoEvaluator
from nl_detectron.engine.video_scores import ScoreFiles, VideoScores, fingerprint, read_scores
from nl_detectron.errors import UsageError

RECORDS = [
    {"video_id": name, "file_name": f"{name}.mp4", "label": i} for i, name in enumerate("abc")
]


def some_scores(seed: int) -> VideoScores:
    return VideoScores(*np.random.default_rng(seed).random((2, 5), dtype=np.float32))


def same(found: dict, expected: dict) -> bool:
    return found.keys() == expected.keys() and all(
        (ours == theirs).all()
        for name in found
        for ours, theirs in zip(found[name], expected[name], strict=True)
    )


def test_scores_are_kept_exactly_and_by_any_number_of_processes(tmp_path):
    expected = {name: some_scores(i) for i, name in enumerate("abcd")}
    for rank, names in ((0, "ab"), (1, "cd")):
        files = ScoreFiles(tmp_path, "key", rank)
        assert files.start() == {}
        for name in names:
            files.append(name, expected[name])
    assert same(ScoreFiles(tmp_path, "key", 0).start(), expected)
    assert [file.name for file in tmp_path.iterdir()] == ["scores-0.jsonl"]
    assert same(ScoreFiles(tmp_path, "key", 0).start(), expected)


def test_files_of_other_weights_and_other_files_are_dropped(tmp_path):
    files = ScoreFiles(tmp_path, "key", 0)
    files.start()
    files.append("a", some_scores(0))
    (tmp_path / "scores-3.jsonl").write_text("not one\n")
    assert ScoreFiles(tmp_path, "another", 0).start() == {}
    assert ScoreFiles(tmp_path, "key", 0).start() == {}


def test_a_line_that_was_not_finished_is_left_out(tmp_path, caplog):
    files = ScoreFiles(tmp_path, "key", 0)
    files.start()
    for name in "ab":
        files.append(name, some_scores(0))
    content = files.file.read_bytes()
    for cut in (1, 20, 60, 100):
        files.file.write_bytes(content[:-cut])
        kept = {"a"} if cut > 1 else {"a", "b"}  # a whole line without its end is whole
        assert set(ScoreFiles(tmp_path, "key", 0).start()) == kept
    assert "evaluated again" in caplog.text
    assert json.loads(files.file.read_text().split("\n")[0]) == {"fingerprint": "key"}


def test_scores_are_read_without_their_model(tmp_path):
    expected = {name: some_scores(i) for i, name in enumerate("abc")}
    for rank, names in ((0, "ab"), (1, "c")):
        files = ScoreFiles(tmp_path, "key", rank)
        files.start()
        for name in names:
            files.append(name, expected[name])
    before = [file.read_bytes() for file in sorted(tmp_path.iterdir())]
    assert same(read_scores(tmp_path), expected)
    assert [file.read_bytes() for file in sorted(tmp_path.iterdir())] == before


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "expected scores of an evaluation in .*, found none"),
        (
            {
                "scores-0.jsonl": '{"fingerprint": "a"}\n',
                "scores-1.jsonl": '{"fingerprint": "b"}\n',
            },
            "of 2",
        ),
        ({"scores-0.jsonl": "not one\n"}, "damaged ones; evaluate again"),
    ],
)
def test_scores_of_no_single_evaluation_are_refused(files, message, tmp_path):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_scores(tmp_path)


def test_the_fingerprint_is_of_weights_settings_and_videos():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    key = fingerprint(model, "settings", RECORDS)
    assert key == fingerprint(model, "settings", RECORDS)
    assert key != fingerprint(model, "other settings", RECORDS)
    assert key != fingerprint(model, "settings", RECORDS[:2])
    assert key != fingerprint(model, "settings", [*RECORDS[:2], {**RECORDS[2], "file_name": "d"}])
    for tensor in model.state_dict().values():  # buffers too
        before = tensor.clone()
        tensor += 1
        assert key != fingerprint(model, "settings", RECORDS)
        tensor.copy_(before)
    assert key == fingerprint(model, "settings", RECORDS)


def outputs_of(views) -> list[dict]:
    return [{"scores": torch.tensor(views)}]


@pytest.mark.parametrize(("ensemble", "top1"), [("average", 100.0), ("max", 0.0)])
def test_views_are_averaged_or_their_maximum_is_taken(ensemble, top1):
    # average: class 0 has 0.5, class 1 0.4; maximum: class 1 has 0.7. The middle view says 2.
    views = [[0.6, 0.1, 0.3], [0.3, 0.3, 0.4], [0.6, 0.1, 0.3], [0.3, 0.7, 0.0]]
    evaluator = VideoEvaluator(RECORDS[:1], ensemble=ensemble, middle=1)
    evaluator.process(RECORDS[:1], outputs_of(views))
    assert evaluator.evaluate() == {"video": {"top1": top1, "top1_1view": 0.0}}


def test_more_than_five_classes_have_a_top5():
    evaluator = VideoEvaluator(RECORDS)
    for record in RECORDS:
        evaluator.process([record], outputs_of([[0.3, 0.2, 0.1, 0.2, 0.1, 0.1]]))
    share = pytest.approx(100 / 3)
    expected = {"top1": share, "top5": 100.0, "top1_1view": share, "top5_1view": 100.0}
    assert evaluator.evaluate() == {"video": expected}


def test_several_labels_have_a_map():
    records = [{"video_id": n, "file_name": n, "labels": k} for n, k in (("a", [0, 1]), ("b", []))]
    evaluator = VideoEvaluator(records, multi_label=True, one_view=True)
    for record, scores in zip(records, ([0.4, 0.2], [0.6, 0.1]), strict=True):
        evaluator.process([record], outputs_of([scores]))
    assert evaluator.evaluate() == {"video": {"mAP_1view": 75.0}}


def test_a_video_without_scores_and_useless_scores_are_refused():
    evaluator = VideoEvaluator(RECORDS)
    evaluator.process(RECORDS[:1], outputs_of([[0.1, 0.9]]))
    with pytest.raises(RuntimeError, match="2 videos were not evaluated, such as b"):
        evaluator.evaluate()
    with pytest.raises(UsageError, match=r"video b\.mp4: the model's scores are NaN or infinite"):
        evaluator.process(RECORDS[1:2], outputs_of([[0.1, float("nan")]]))
