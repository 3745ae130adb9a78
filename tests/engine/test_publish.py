"""tools/publish_checkpoint.py: what a published file holds, that the zoo finds it, what is refused.

The run is conftest's: 4 iterations of a thin model, with the files that train_net.py leaves.
"""

import hashlib
import io
import json
import shutil
import subprocess
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from detectron2.config import CfgNode
from fast_part import first_cases

from nl_detectron import model_zoo
from nl_detectron.engine import evaluate
from nl_detectron.engine.checkpoint_files import digest
from nl_detectron.engine.config_values import flatten_config
from nl_detectron.engine.hooks import commit
from nl_detectron.errors import UsageError
from nl_detectron.model_zoo import publishing
from tools.publish_checkpoint import main

ROOT = Path(__file__).parents[2]
NAME = "tiny/relay_nl"


def publish(run, output, name=NAME) -> str:
    """Returns what the program printed."""
    said = io.StringIO()
    with redirect_stdout(said):
        main([str(run), "--name", name, "--output", str(output)])
    return said.getvalue()


@pytest.fixture(scope="module")
def published(trained, tmp_path_factory):
    """The ``folder``, its one ``file``, what that ``holds``, its ``entry``; what was ``said``."""
    folder = tmp_path_factory.mktemp("zoo")
    said = publish(trained.folder, folder)
    (file,) = folder.glob("*.pth")
    entry = yaml.safe_load((folder / "index.yaml").read_text())[NAME]
    return SimpleNamespace(folder=folder, file=file, holds=torch.load(file), entry=entry, said=said)


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the run whose checkpoint may be changed: ``copied(change)`` gives its folder."""

    def copy(change, evaluated=True) -> Path:
        folder = tmp_path / "run"
        folder.mkdir()
        checkpoint = torch.load(trained.folder / "model_final.pth")
        change(checkpoint["model"])
        torch.save(checkpoint, folder / "model_final.pth")
        summary = json.loads((trained.folder / "summary.json").read_text())
        if evaluated:
            summary["checkpoint"] = digest(str(folder / "model_final.pth"))
        (folder / "summary.json").write_text(json.dumps(summary))
        return folder

    return copy


# --- what is published -----------------------------------------------------------------------


def test_the_file_is_named_by_its_hash(published):
    sha256 = hashlib.sha256(published.file.read_bytes()).hexdigest()
    assert published.file.name == f"relay_nl-{sha256[:8]}.pth"
    assert published.entry["trained"]["sha256"] == sha256
    names = {path.name for path in published.folder.iterdir()}
    assert names == {published.file.name, published.file.with_suffix(".yaml").name, "index.yaml"}


def test_it_holds_the_weights_and_what_they_came_from_but_no_optimizer(published, trained):
    run = torch.load(trained.folder / "model_final.pth")
    summary = json.loads((trained.folder / "summary.json").read_text())
    holds = published.holds
    assert all(torch.equal(holds["model"][k], v) for k, v in run["model"].items())
    assert not {"trainer", "optimizer", "scheduler", "iteration"} & holds.keys()
    assert published.file.stat().st_size < (trained.folder / "model_final.pth").stat().st_size / 2
    for name, value in holds["metrics"].items():
        assert value == summary["results"][name]
    assert {"bbox/AP", "segm/AP50"} <= holds["metrics"].keys()
    assert not any("AP-" in name for name in holds["metrics"])  # of single classes
    assert holds["dataset"] == {"train": ["tiny_train"], "test": "tiny_val"}
    assert holds["versions"] == summary["versions"] and holds["commit"] == summary["commit"]
    assert holds["iterations"] == 4


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no clone")
def test_the_commit_is_that_of_the_code_that_trained_it(published):
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    assert published.holds["commit"].removesuffix("+") == head.stdout.strip()


def test_no_folder_of_this_machine_is_in_it(published, trained):
    everything = b"".join(path.read_bytes() for path in published.folder.iterdir())
    assert str(trained.folder).encode() not in everything
    assert str(Path.home()).encode() not in everything
    assert "this machine's own: MODEL.DEVICE, OUTPUT_DIR" in published.said


def test_it_has_been_run_on_the_data_sets_first_image(published):
    assert "ran it once: " in published.said
    assert "detections in the first image of tiny_val" in published.said


def test_the_zoo_finds_it_by_name(published, trained, monkeypatch):
    monkeypatch.setenv("NL_DETECTRON_ZOO", str(published.folder / "index.yaml"))
    model = model_zoo.get(NAME, trained=True, device="cpu")
    run = torch.load(trained.folder / "model_final.pth")["model"]
    loaded = model.state_dict()
    assert run.keys() == loaded.keys()
    assert all(torch.equal(loaded[k], v) for k, v in run.items())
    there = model_zoo.get_config(NAME, trained=True)
    assert there.MODEL.WEIGHTS == model_zoo.get_checkpoint_url(NAME) == str(published.file)
    differ = {"MODEL.WEIGHTS", "OUTPUT_DIR"}
    before, after = flatten_config(trained.cfg), flatten_config(there)
    assert {key for key in before if before[key] != after[key]} == differ


def test_its_row_and_how_to_use_it_are_reported(published):
    metrics = published.holds["metrics"]
    shown = f"{metrics['bbox/AP']:.1f} / {metrics['segm/AP']:.1f} ([model]({published.file.name}))"
    assert f"{NAME}: {shown}" in published.said
    assert f"export NL_DETECTRON_ZOO={published.folder / 'index.yaml'}" in published.said
    assert f"model_zoo.get('{NAME}', trained=True)" in published.said


@pytest.mark.slow
def test_the_same_run_gives_the_same_file_and_others_stay_in_the_index(
    published, trained, tmp_path
):
    shutil.copytree(published.folder, tmp_path, dirs_exist_ok=True)
    publish(trained.folder, tmp_path)
    assert [path.name for path in tmp_path.glob("*.pth")] == [published.file.name]
    publish(trained.folder / "model_final.pth", tmp_path, "tiny/second")
    assert yaml.safe_load((tmp_path / "index.yaml").read_text()).keys() == {NAME, "tiny/second"}


@pytest.mark.slow
def test_a_checkpoint_of_the_run_has_the_results_of_its_own_evaluation(
    trained, tiny_config, tmp_path
):
    file = tmp_path / "run/model_0000001.pth"
    file.parent.mkdir()
    shutil.copy(trained.folder / file.name, file)
    unsure = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)  # or it finds nothing
    evaluate(tiny_config(file.parent, "MODEL.WEIGHTS", file, *unsure))
    publish(file, tmp_path / "zoo")
    (found,) = (tmp_path / "zoo").glob("*.pth")
    results = json.loads((file.parent / "evaluation.json").read_text())["results"]
    assert torch.load(found)["metrics"]["bbox/AP"] == results["bbox/AP"] is not None
    assert torch.load(found)["iterations"] == 2
    assert "WEIGHTS: model_0000001.pth\n" in torch.load(found)["config"]


@pytest.mark.slow
def test_what_was_evaluated_anew_is_published(trained, copied, tmp_path):
    folder = copied(lambda model: None)
    summary = json.loads((folder / "summary.json").read_text())
    anew = {**summary, "results": {**summary["results"], "bbox/AP": 42.0}}
    (folder / "evaluation.json").write_text(json.dumps(anew))
    publish(folder, tmp_path / "zoo")
    (found,) = (tmp_path / "zoo").glob("*.pth")
    assert torch.load(found)["metrics"]["bbox/AP"] == 42.0


# --- what is refused -------------------------------------------------------------------------

THETA = "backbone.bottom_up.res4.nonlocal4.theta.weight"


@first_cases(
    2,
    "change, said",
    [
        (lambda model: model[THETA].view(-1)[3].fill_(torch.nan), f"infinite values in {THETA}"),
        (lambda model: model[THETA].view(-1)[3].fill_(torch.inf), f"infinite values in {THETA}"),
        (lambda model: model.pop(THETA), f"{THETA}, missing in the file and \\(32, 64, 1, 1\\) in"),
        (lambda model: model.update(other=torch.ones(3)), r"other, \(3,\) in the file and missing"),
        (lambda model: model.update({THETA: torch.ones(3)}), r"theta.weight, \(3,\) in the file"),
    ],
)
def test_weights_that_are_broken_or_of_another_model_are_refused(change, said, copied, tmp_path):
    with pytest.raises(UsageError, match=said):
        publish(copied(change), tmp_path / "zoo")
    assert not list((tmp_path / "zoo").glob("*"))


def test_results_of_another_checkpoint_are_refused_with_the_command_that_makes_them(
    copied, tmp_path
):
    folder = copied(lambda model: model[THETA].mul_(2), evaluated=False)
    command = (
        f"python train_net.py --config-file {folder}/config.yaml --eval-only MODEL.WEIGHTS "
        f"{folder}/model_final.pth OUTPUT_DIR {folder}"
    )
    with pytest.raises(UsageError, match=f"results of model_final.pth as it is now.*{command}$"):
        publish(folder, tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_a_file_that_does_not_run_is_not_left_there(trained, tmp_path, monkeypatch):
    def broken(*args):
        raise UsageError("a score is NaN")

    monkeypatch.setattr(publishing, "verify_checkpoint", broken)
    with pytest.raises(UsageError, match="a score is NaN"):
        publish(trained.folder, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../up", "/abs", "two words", ""])
def test_a_name_that_is_none_is_refused(name, tmp_path, capsys):
    with pytest.raises(SystemExit):
        publish(tmp_path, tmp_path, name)
    assert "expected words as in birds/mask_rcnn_nl" in capsys.readouterr().err


# --- the parts -------------------------------------------------------------------------------


def test_an_entry_of_the_packages_name_is_reported_as_a_row_of_its_table():
    name = "COCO-Detection/faster_rcnn_R_50_FPN_nl_1x"
    entry = {"trained": {"checkpoint": "x-12345678.pth", "metrics": {"bbox/AP": 38.25}}}
    said = publishing.format_summary(Path("zoo/index.yaml"), name, entry)
    assert f"| [faster_rcnn_R_50_FPN_nl_1x](configs/{name}.yaml) | – | [1x](https://" in said
    assert "| 38.2 ([model](x-12345678.pth)) |\n" in said
    assert "python -m nl_detectron.model_zoo.page" in said


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit() is None


def test_without_its_test_set_a_model_is_tried_on_noise():
    cfg = CfgNode({"DATASETS": {"TEST": ("nowhere",)}})
    said, image = publishing._read_test_image(cfg)
    assert said == "noise (nowhere is not available)"
    assert image.shape == (480, 640, 3) and image.std() > 50
