"""Two processes on a CPU give what one gives."""

import json
import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import distributed_runs
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from nl_detectron.engine.evaluation import INSTANCES

pytestmark = pytest.mark.several


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


def test_workers_are_started_as_in_one_process(runs):
    """Not spawned, because the process was: each would import everything again."""
    files = [runs.one / "start_method.rank0", *(runs.two / f"start_method.rank{r}" for r in (0, 1))]
    assert {file.read_text() for file in files} == {multiprocessing.get_start_method()}


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
