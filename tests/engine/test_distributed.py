"""Two processes on a CPU give what one gives, and a process that fails ends the run."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import distributed_runs
import failing_processes
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from nl_detectron.engine import argument_parser, distributed
from nl_detectron.engine.evaluation import INSTANCES
from nl_detectron.engine.stopping import Stopped
from nl_detectron.errors import UsageError
from nl_detectron.relay import Relay, write_dataset

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.several
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def environment():
    """One thread in each process, as many processes share few cores, and no GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
        yield patch


@pytest.fixture(scope="module")
def two_processes(environment):
    """Calls a function in each of two processes: ``two_processes(function, *its_arguments)``."""

    def run(function, *words) -> None:
        line = ["--num-gpus", "2", "--dist-url", "auto", "MODEL.DEVICE", "cpu"]
        distributed.launch(function, words, argument_parser().parse_args(line), "cpu")

    return run


# --- two processes against one ---------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(two_processes, environment, restore_loggers, tmp_path_factory):
    """The folders of what :func:`distributed_runs.compare` leaves: ``one`` and ``two``."""
    folder = tmp_path_factory.mktemp("several")
    environment.setenv("NL_DETECTRON_CACHE", str(folder / "cache"))
    threads, names = torch.get_num_threads(), set(DatasetCatalog.list())
    distributed_runs.register_data()
    distributed_runs.write_weights(folder)
    with restore_loggers():
        distributed_runs.compare(folder, folder / "one")
    two_processes(distributed_runs.compare, folder, folder / "two")
    yield SimpleNamespace(one=folder / "one", two=folder / "two")
    torch.set_num_threads(threads)
    for name in set(DatasetCatalog.list()) - names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def left(folder: Path, name: str, rank: int = 0):
    """What a process has left."""
    return torch.load(folder / f"{name}.rank{rank}", weights_only=False)


def difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """The largest over all tensors, in parts of the tensor's largest value.

    Where that is less than a hundredth of the largest of all, in parts of this: under a softmax
    phi's bias has no gradient, and what it holds is rounding.
    """
    assert found.keys() == expected.keys()
    scales = {name: value.abs().max() for name, value in expected.items()}
    least = max(scales.values()) / 100
    return max(
        float((found[name] - value).abs().max() / scales[name].clamp(min=least))
        for name, value in expected.items()
    )


@pytest.mark.parametrize("kind", distributed_runs.KINDS)
def test_the_first_gradients_are_those_of_one_process(runs, kind):
    expected = left(runs.one, f"{kind}/gradients")
    blocks = [name for name in expected if "nonlocal" in name]
    for part in ("backbone", "mask_head", "keypoint_head"):
        assert any(part in name for name in blocks)
    assert all(expected[name].any() for name in blocks if "bias" not in name)
    for rank in range(2):
        assert difference(left(runs.two, f"{kind}/gradients", rank), expected) < 1e-5


@pytest.mark.parametrize("kind", distributed_runs.KINDS)
def test_an_evaluation_is_that_of_one_process(runs, kind):
    """Evaluate five images, an odd number for two processes, and with YAML also a single one."""
    ours, theirs = (
        json.loads((folder / kind / "evaluation.json").read_text())["results"]
        for folder in (runs.two, runs.one)
    )
    assert ours == theirs
    assert {name.split("/")[-2] for name in ours} == set(INSTANCES)
    found = [
        json.loads(next((folder / kind).rglob("five_val/coco_instances_results.json")).read_text())
        for folder in (runs.two, runs.one)
    ]
    assert found[0] == found[1]
    assert {one["image_id"] for one in found[0]} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("kind", distributed_runs.KINDS)
def test_one_of_two_processes_leaves_the_files(runs, kind):
    ours, theirs = (
        {p.name for p in (folder / kind / "train").rglob("*.[pj][ts]*")}
        for folder in (runs.two, runs.one)
    )
    assert ours == theirs >= {"model_final.pth", "model_best.pth", "summary.json"}


@pytest.mark.parametrize("counts", distributed_runs.COUNTS)
def test_processes_that_do_not_count_alike_weigh_alike(runs, counts):
    """Detectron2 divides the losses of the RoIs by their number in a process, and the gradients
    are the mean over the processes. So RoIs of a process that has few count for more than they
    would in one process, where all are divided by the same number. The RPN's do not: it divides by
    the number of images."""
    model = distributed_runs.uneven_model()
    batch = distributed_runs.images(counts)
    each = [distributed_runs.backward(model, [image]) for image in batch]
    mean = {name: (each[0][name] + each[1][name]) / 2 for name in each[0]}
    together = distributed_runs.backward(model, batch)
    found = left(runs.two, f"uneven{counts}")
    assert difference(found, mean) < 1e-5

    def part(name: str) -> float:
        return difference(*({k: v for k, v in g.items() if name in k} for g in (found, together)))

    assert part("proposal_generator") < 1e-5
    assert part("mask_head") > 1e-3
    assert part("keypoint_head") > 1e-3


# --- a process without RoIs ------------------------------------------------------------------


def test_a_process_without_objects_trains_with_the_other(runs):
    for name in ("uneven_norm", "uneven_buffers"):
        ours, theirs = (left(runs.two, name, rank) for rank in range(2))
        assert all(tensor.isfinite().all() for tensor in ours.values())
        shared = [n for n in ours if name == "uneven_norm" or ("running" in n and "head" in n)]
        assert len(shared) >= 4
        assert all(torch.equal(ours[n], theirs[n]) for n in shared)


@pytest.mark.parametrize(
    "head, norm, form", [(kind.__name__, norm, form) for kind, norm, form in distributed_runs.HEADS]
)
def test_a_head_learns_where_a_process_has_no_rois(runs, head, norm, form):
    even, empty = (
        left(runs.two, "heads")[head, norm, form, split] for split in distributed_runs.SPLITS
    )
    assert all(gradient.isfinite().all() for gradient in empty.values())
    assert sum(bool(gradient.any()) for gradient in empty.values()) > len(empty) / 2
    if norm != "BN":  # whose statistics are those of each process
        assert difference(empty, even) < 1e-4


# --- data ------------------------------------------------------------------------------------


def test_one_process_draws_the_relay_data_set_and_the_others_wait(runs):
    left_by = [left(runs.two, "drawn", rank) for rank in range(2)]
    assert sorted(left_by) == [(3, 0), (3, 3 + 2)]


# --- failures --------------------------------------------------------------------------------


def seconds_since_failure(folder: Path) -> float:
    return time.time() - float((folder / "failed").read_text())


@pytest.mark.parametrize(
    "how, message", [("kill", "rank 1 ended with SIGKILL"), ("raise", "ZeroDivisionError: of the")]
)
def test_a_process_that_fails_ends_the_run_with_its_own_message(
    two_processes, how, message, tmp_path, capfd
):
    with pytest.raises((UsageError, SystemExit), match=message):
        two_processes(failing_processes.fail, how, tmp_path)
    assert seconds_since_failure(tmp_path) < 60
    # the other process lost its connection, which would only hide the reason
    assert "/gloo/" not in "".join(capfd.readouterr())


def test_a_mistake_that_every_process_meets_is_one_line(two_processes, tmp_path, capfd):
    with pytest.raises(SystemExit) as stop:
        two_processes(failing_processes.fail, "mistake", tmp_path)
    assert stop.value.code == 1
    printed = "".join(capfd.readouterr())
    assert printed.count("error: the same in every process") == 1
    assert "Traceback" not in printed


def test_a_loss_that_is_not_finite_stops_both(two_processes, capfd):
    with pytest.raises(SystemExit) as stop:
        two_processes(failing_processes.lose_a_number)
    assert stop.value.code == 1
    printed = "".join(capfd.readouterr())
    message = (
        r"iteration 1: loss is nan; .*the model \(NamedToy\)\. Images: 1_of_1\.png \(id \?\)\."
    )
    assert len(re.findall(message, printed)) == printed.count("training stopped") == 1
    assert "Traceback" not in printed


def test_torchrun_ends_a_run_of_which_a_process_fails(environment, tmp_path):
    words = [*TORCHRUN, str(Path(failing_processes.__file__)), "raise", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode != 0
    assert seconds_since_failure(tmp_path) < 60
    assert "ZeroDivisionError: of the second process" in done.stderr
    assert "/gloo/" not in done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_first_process_stops_the_run(
    two_processes, number, tmp_path, monkeypatch
):
    start = distributed.launch_processes

    def start_late(*args, **options):
        os.kill(os.getpid(), number)
        time.sleep(0.2)
        start(*args, **options)

    monkeypatch.setattr(distributed, "launch_processes", start_late)
    with pytest.raises(Stopped) as stop:
        two_processes(failing_processes.leave_a_file, tmp_path)
    assert stop.value.code == 128 + number
    assert not list(tmp_path.iterdir())


def test_ctrl_c_while_processes_start_is_no_traceback(two_processes, tmp_path, capfd):
    def interrupt():
        while len(started := multiprocessing.active_children()) < 2:
            time.sleep(0.01)
        time.sleep(0.5)  # Python has started, and imports
        for pid in (os.getpid(), *(process.pid for process in started)):  # as a terminal does
            os.kill(pid, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Stopped) as stop:
        two_processes(failing_processes.leave_a_file, tmp_path)
    thread.join()
    assert stop.value.code == 130
    assert "Traceback" not in "".join(capfd.readouterr())


# --- the command line ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """The words of train_net.py for a data set of a few images, and the thin Demo config."""
    relay = Relay(train=4, val=3, height=64, width=128, signal=9)
    data = write_dataset(relay, tmp_path_factory.mktemp("data") / "relay")
    sets = [f"two_{part}={data}/{part}.json:{data}/{part}" for part in ("train", "val")]
    return ["train_net.py", *(word for one in sets for word in ("--dataset", one))]


def test_two_processes_train_and_evaluate_by_num_gpus(environment, line, tmp_path):
    thin = [
        *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
        *("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "INPUT.MIN_SIZE_TRAIN", "(64,)"),
        *("INPUT.MIN_SIZE_TEST", "64", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2"),
        *("SOLVER.STEPS", "()", "TEST.EVAL_PERIOD", "1", "VISUALIZE.PERIOD", "1"),
    ]
    config = ["--config-file", "configs/Demo/relay_mask_rcnn_nl.yaml"]
    words = [*line, *config, "--num-gpus", "2", "--dist-url", "auto", *thin, "OUTPUT_DIR"]
    command = [sys.executable, *words, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    left = {path.name for path in tmp_path.iterdir()}
    assert left >= {"model_final.pth", "model_best.pth", "summary.json", "log.txt.rank1"}
    assert done.stdout.count("Evaluation results for segm") == 2


def test_two_processes_train_and_evaluate_by_torchrun(environment, line, tmp_path):
    thin = [
        *("dataloader.train.dataset.names=two_train", "dataloader.test.dataset.names=two_val"),
        "dataloader.train.mapper.augmentations.0.short_edge_length=[64]",
        "dataloader.test.mapper.augmentations.0.short_edge_length=64",
        *("dataloader.train.total_batch_size=2", "lr_multiplier.warmup_length=0"),
        *("train.device=cpu", "train.max_iter=2", f"train.output_dir={tmp_path}"),
    ]
    config = ["--config-file", "configs/Demo/relay_mask_rcnn_nl.py"]
    words = [*TORCHRUN, *line, *config, *thin]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    left = {path.name for path in tmp_path.iterdir()}
    assert left >= {"model_final.pth", "model_best.pth", "summary.json", "log.txt.rank1"}
    assert done.stdout.count("Evaluation results for segm") == 1


def test_sigterm_stops_both_processes_at_the_same_iteration(environment, line, tmp_path):
    thin = [
        *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
        *("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "INPUT.MIN_SIZE_TRAIN", "(64,)"),
        *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "9000", "SOLVER.CHECKPOINT_PERIOD", "3"),
    ]
    config = ["--config-file", "configs/Demo/relay_mask_rcnn_nl.yaml"]
    words = [*line, *config, "--num-gpus", "2", "--dist-url", "auto", *thin]
    with (tmp_path / "console").open("w") as console:
        run = subprocess.Popen(
            [sys.executable, *words, "OUTPUT_DIR", str(tmp_path)], cwd=ROOT, stderr=console
        )
        while not (tmp_path / "last_checkpoint").exists() and run.poll() is None:
            time.sleep(0.02)
        run.terminate()  # only the launcher
        assert run.wait() == 143
    assert "Traceback" not in (tmp_path / "console").read_text()
    log = (tmp_path / "log.txt").read_text()
    assert log.count("Stopped by SIGTERM after") == 1
    assert "To continue: python train_net.py --resume --dataset" in log
    last = (tmp_path / "last_checkpoint").read_text()
    state = torch.load(tmp_path / last, weights_only=True)["trainer"]["hooks"]["ResumeState"]
    assert len(state["ranks"]) == 2
    assert last == f"model_{state['iteration']:07d}.pth"
