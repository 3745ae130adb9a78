"""One run: what its result holds, that it comes again, what it starts from, AP by distance."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from pycocotools.coco import COCO
from pycocotools.mask import encode

from benchmarks.evidence.evaluate import Detections, drop_duplicates
from benchmarks.evidence.runs import RUNS, register
from benchmarks.evidence.sweep import state
from benchmarks.evidence.train import build, perform
from nl_detectron.errors import UsageError
from nl_detectron.modeling import find_blocks
from nl_detectron.relay import Relay, cache_folder


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_a_run_leaves_its_result_and_comes_again(tiny, folders):
    run = tiny("distance_baseline", bands=(20, 70, 130))
    assert state((run.name, 1), folders) == "missing"
    first = perform(run, 1, folders)
    assert json.loads(folders.result(run.name, 1).read_text()) == first
    assert state((run.name, 1), folders) == "done"
    assert (first["run"], first["seed"], first["key"]) == (run.name, 1, run.key(1))
    assert (first["iterations"], first["stopped"]) == (2, "end")
    assert [point["iteration"] for point in first["curve"]] == [1, 2]
    for point in first["curve"]:
        assert point["losses"]["total_loss"] > 0 and point["ap"].keys() == {"box", "mask"}
    assert first["parameters"] > 1e6 and first["flops"] > 1e7 and "torch" in first["versions"]
    assert sum(band["images"] for band in first["bands"]) == run.data.val

    again = perform(run, 1, folders)
    assert {**again, "minutes": 0} == {**first, "minutes": 0}

    tiny(run.name, bands=(30, 90))
    assert state((run.name, 1), folders) == "stale"


@pytest.mark.slow
def test_a_run_that_diverges_says_so(tiny, folders):
    run = tiny("baseline")
    plan = replace(run.schedule, iterations=9, rate=1e30, warmup=0, watched=1)
    result = perform(replace(run, schedule=plan), 1, folders)
    assert result["stopped"] == "diverged" and result["iterations"] < 9
    assert set(result["ap"]) == {"box", "mask"}


@pytest.mark.slow
def test_keypoints_start_from_the_mask_models_weights(tiny, folders):
    start, run = tiny("embedded_gaussian"), tiny("keypoints_end_both")
    with pytest.raises(UsageError, match="run embedded_gaussian first"):
        perform(run, 1, folders)
    perform(start, 1, folders)
    result = perform(run, 1, folders)
    assert result["ap"].keys() == {"box", "keypoint"} and "bands" not in result
    assert result["located"].keys() == {"keypoint"}
    assert folders.weights(start, 1).exists() and folders.weights(run, 1).exists()


@pytest.mark.slow
def test_a_block_that_starts_anew_is_an_identity_in_a_trained_model(tiny, folders):
    start, run = tiny("embedded_gaussian"), tiny("pairs_embedded_gaussian")
    perform(start, 1, folders)
    trained = torch.load(folders.weights(start, 1))
    model = build(run, run.config(1, folders.work), 1, folders)
    [(name, block)] = find_blocks(model).items()
    assert not block.w_z.weight.any() and trained[f"{name}.w_z.weight"].any()
    others = {n: v for n, v in model.state_dict().items() if not n.startswith(f"{name}.")}
    assert all(torch.equal(v, trained[n]) for n, v in others.items())
    assert replace(run, anew=False).key(1) != run.key(1)


# --- AP ------------------------------------------------------------------------------------------


def read_detections(run, folder, name, detections):
    """Detections in the file that a run's evaluation writes."""
    path = folder / "inference" / name / "coco_instances_results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(detections))
    cfg = RUNS[run].config(1).clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = str(folder)
    return Detections(cfg, name)


def found_on(relay, folder, category_of):
    """Detections with perfect boxes and masks, each with the category that a function gives it."""
    name = register(relay, "val")
    DatasetCatalog.get(name)  # writes the images
    truth = COCO(str(cache_folder(relay) / "val.json"))
    detections = []
    for a in truth.anns.values():
        mask = encode(np.asfortranarray(truth.annToMask(a)))
        mask["counts"] = mask["counts"].decode()
        box = {"image_id": a["image_id"], "bbox": a["bbox"], "segmentation": mask, "score": 0.9}
        detections.append({**box, "category_id": category_of(a)})
        detections.append({**box, "score": 0.3, "category_id": a["category_id"] % 3 + 1})
    return read_detections("baseline", folder, name, detections)


ANY = Relay(height=64, width=256, signal=24, place="any", train=0, val=40)


@pytest.mark.slow
def test_bands_tell_near_from_far(tmp_path):
    def near_is_right(annotation):
        right = annotation["category_id"]
        return right if annotation["distance"] < 120 else right % 3 + 1

    found = found_on(ANY, tmp_path, near_is_right)
    near, far, none = found.by_distance((0, 120, 300, 400))
    assert near["images"] + far["images"] == 40 and none == {"from": 300, "to": 400, "images": 0}
    assert near["ap"]["box"] == 100 and near["ap"]["mask"] > 95
    assert far["ap"]["box"] < 1 and far["ap"]["mask"] < 1
    assert far["located"]["box"] == 100 and found.located()["mask"] > 95
    assert found.right() == near["images"] / 40


@pytest.mark.slow
def test_chance_is_the_ap_of_classes_that_images_have_exchanged(tmp_path):
    found = found_on(ANY, tmp_path, lambda a: a["category_id"])
    images = sorted(found.truth.imgs)
    before = [a["category_id"] for a in found.truth.anns.values()]
    chance = found.by_chance(images)
    # right a third of the time and so surer; or wrong, and then by luck on the second guess
    assert 20 < chance["box"] < 50 and chance == found.by_chance(images)
    assert [a["category_id"] for a in found.truth.anns.values()] == before
    alike = [a["image_id"] for a in found.truth.anns.values() if a["category_id"] == 1]
    assert found.by_chance(alike)["box"] == found._ap(found.all, alike)["box"] == 100


@pytest.mark.parametrize(
    ("turned", "located", "right"),
    [([], 100, 1), ([0, 1, 2, 3], 100, 0.5), (range(8), 100, 0), (None, 0, None)],
)
def test_keypoints_are_located_whichever_end_is_taken_for_the_head(
    tmp_path, turned, located, right
):
    relay = Relay(keypoints=True, height=64, width=256, signal=24, train=0, val=8)
    name = register(relay, "val")
    DatasetCatalog.get(name)
    detections = []
    for number, a in enumerate(COCO(str(cache_folder(relay) / "val.json")).anns.values()):
        points = np.reshape(a["keypoints"], (3, 3)).astype(float)
        if turned is None:
            points[:, :2] += 90
        elif number in turned:
            points = points[::-1]
        ours = {key: a[key] for key in ("image_id", "category_id", "bbox")}
        detections.append({**ours, "keypoints": points.ravel().tolist(), "score": 0.9})
    found = read_detections("keypoints_far_baseline", tmp_path, name, detections)
    assert found.located() == {"keypoint": located}
    assert right is None or found.right() == right


def test_finding_nothing_is_an_ap_of_zero(tmp_path):
    found = found_on(ANY, tmp_path, lambda a: 1)
    found.all = found.unique = []
    assert found.located() == {"box": 0, "mask": 0} and found.right() == 0
    assert found.by_distance((0, 400))[0]["ap"] == {"box": 0, "mask": 0}


def test_of_detections_of_one_object_the_highest_scored_is_kept():
    def detection(image, x, score, category=1):
        box = [x, 0, 10, 10]
        return {"image_id": image, "bbox": box, "score": score, "category_id": category}

    kept = [detection(1, 0, 0.9), detection(1, 50, 0.4, 2), detection(2, 0, 0.1)]
    assert drop_duplicates([kept[0], detection(1, 1, 0.8, 3), *kept[1:]]) == kept
