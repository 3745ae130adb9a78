"""What changed inputs go through: the readers of annotations, images, configs and checkpoints.

A target makes valid inputs in a folder and tries a random change of them. It returns "taken", or
"refused" where the check or the reader says what is wrong by a message. Anything else is a fault
and raises, such as :class:`BrokenRule`: the check passed what training does not take.
"""

import contextlib
import io
import json
import warnings
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.build import (
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
)
from detectron2.data.datasets.coco import load_coco_json
from PIL import Image

from nl_detectron.data.bad_samples import MARK, ReplacingMapper
from nl_detectron.data.coco import read_coco
from nl_detectron.data.coco_dataset import describe
from nl_detectron.data.mapper import DatasetMapper
from nl_detectron.data.validation.checks import check_content, check_files
from nl_detectron.data.validation.issues import summarize_issues
from nl_detectron.data.validation.report import format_findings
from nl_detectron.engine import load_config, preflight
from nl_detectron.engine.checkpoint import read_checkpoint
from nl_detectron.engine.config_values import flatten
from nl_detectron.prediction.inputs import (
    SkipReporter,
    find_sources,
    read_batches,
)
from nl_detectron.relay import Relay, write_dataset

from .fuzz_mutations import mutate_bytes, mutate_content, random_overrides

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "Demo" / "relay_mask_rcnn_nl.yaml"
RELAY = Relay(keypoints=True, train=4, val=1, height=64, width=128, signal=9)
NAME = "fuzz_train"  # of the data set in Detectron2's catalogs


class BrokenRule(Exception):
    """Training does not take what the check passed."""


class Annotations:
    """Annotation files through the check and, if it finds no error, the loader and mapper."""

    def __init__(self, folder: Path):
        self.folder = write_dataset(RELAY, folder / "relay")
        self.file, self.images = self.folder / "changed.json", self.folder / "train"
        self.content = json.loads((self.folder / "train.json").read_text())
        crowd = {"counts": [5, 20, 64 * 128 - 25], "size": [64, 128]}
        self.content["annotations"][0].update(iscrowd=1, segmentation=crowd)
        self.content["annotations"][1]["segmentation"] = crowd
        names = len(self.content["categories"][0]["keypoints"])
        self.mappers = [
            DatasetMapper(
                is_train=True,
                augmentations=[T.ResizeShortestEdge((64,), sample_style="choice"), T.RandomFlip()],
                image_format="RGB",
                use_instance_mask=task == "masks",
                use_keypoint=task == "keypoints",
                instance_mask_format="bitmask",
                keypoint_hflip_indices=np.arange(names),
            )
            for task in ("boxes", "masks", "keypoints")
        ]

    def __call__(self, rng: np.random.Generator) -> str:
        text = json.dumps(mutate_content(self.content, rng))
        if rng.random() < 0.1:
            text = mutate_bytes(text.encode(), rng).decode(errors="replace")
        self.file.write_text(text)
        content = read_coco(self.file)
        info = describe(content)
        issues = (*check_content(content), *check_files(content, self.images))
        findings = summarize_issues(issues)
        format_findings(findings).encode()
        if any(finding.severity == "error" for finding in findings):
            return "refused"
        try:
            self.train(masks=info.masks, keypoints=bool(info.keypoints))
        except Exception as error:
            raise BrokenRule(f"{type(error).__name__}: {error}") from error
        return "taken"

    def train(self, masks: bool, keypoints: bool) -> None:
        """Load and map everything, as a training of boxes, masks and keypoints."""
        try:
            records = load_coco_json(str(self.file), str(self.images), NAME)
        finally:
            MetadataCatalog.pop(NAME, None)
        records = filter_images_with_only_crowd_annotations(records)
        assert records, "nothing to train on"
        for mapper, used in zip(self.mappers, (True, masks, keypoints), strict=True):
            chosen = (
                filter_images_with_few_keypoints(records, 1) if mapper.use_keypoint else records
            )
            assert chosen or not used, "no keypoints to train on"
            for record in chosen if used else ():
                instances = mapper(record)["instances"]
                assert instances.gt_boxes.tensor.isfinite().all()
                if instances.has("gt_masks"):
                    instances.gt_masks.crop_and_resize(instances.gt_boxes.tensor, 28)


class Images:
    """Image files through the check, the mapper and the demo's reader."""

    size = (48, 64)  # height, width

    def __init__(self, folder: Path):
        self.folder, rng = folder, np.random.default_rng(0)
        pixels = rng.integers(0, 256, (*self.size, 3), dtype=np.uint8)
        grey = rng.integers(0, 65536, self.size, dtype=np.uint16)
        images = {
            **{
                f"rgb.{kind}": pixels for kind in ("png", "jpg", "tif", "gif", "bmp", "webp", "ppm")
            },
            **{"grey.png": pixels[..., 0], "deep.png": grey, "deep.tif": grey},
            **{"int.tif": grey.astype(np.int32) * 9, "float.tif": grey.astype(np.float32)},
        }
        self.files = {}
        for name, array in images.items():
            Image.fromarray(array).save(folder / name)
            self.files[name] = (folder / name).read_bytes()
            (folder / name).unlink()
        resize = T.ResizeShortestEdge((32,), sample_style="choice")
        mapper = DatasetMapper(is_train=False, augmentations=[resize], image_format="BGR")
        self.mapper = ReplacingMapper(mapper)

    def __call__(self, rng: np.random.Generator) -> str:
        name = list(self.files)[int(rng.integers(len(self.files)))]
        path = self.folder / name
        path.write_bytes(mutate_bytes(self.files[name], rng))
        height, width = self.size
        record = {"id": 1, "file_name": name, "height": height, "width": width}
        findings = summarize_issues(check_files({"images": [record]}, self.folder))
        sample = self.mapper({**record, "file_name": str(path), "image_id": 1})
        skip = SkipReporter(lambda text: None)
        frames = [f for b in read_batches(find_sources([str(path)], skip), 1, skip) for f in b]
        path.unlink()
        if not (frames or skip.count):
            raise BrokenRule("the demo neither read nor skipped the image")
        if any(finding.severity == "error" for finding in findings):
            return "refused"
        if sample is None or MARK in sample:
            raise BrokenRule(str(sample and sample[MARK]))
        return "taken"


class Configs:
    """Overrides and YAML files through the loader and the checks before a run."""

    def __init__(self, folder: Path):
        self.file = folder / "config.yaml"
        cfg = load_config(str(CONFIG), ["MODEL.DEVICE", "cpu"])
        self.text = cfg.dump()
        self.values = flatten(cfg)
        options = {"eval_only": False, "resume": False, "num_gpus": 1, "num_machines": 1}
        self.args = Namespace(**options, machine_rank=0, dist_url="auto", opts=[])

    def __call__(self, rng: np.random.Generator) -> str:
        if rng.random() < 0.2:
            self.file.write_bytes(mutate_bytes(self.text.encode(), rng))
            cfg = load_config(str(self.file), ["MODEL.WEIGHTS", ""])
        else:
            cfg = load_config(
                str(CONFIG), [*random_overrides(self.values, rng), "MODEL.WEIGHTS", ""]
            )
        preflight(cfg, self.args)
        return "taken"


class Checkpoints:
    """Checkpoint files through the project's reader."""

    def __init__(self, folder: Path):
        self.path = folder
        state = {"model": {"a.weight": torch.ones(8, 3), "a.bias": torch.zeros(3)}, "iteration": 7}
        file = io.BytesIO()
        torch.save(state, file)
        self.files = {".pth": file.getvalue()}

    def __call__(self, rng: np.random.Generator) -> str:
        [(suffix, data)] = self.files.items()
        path = self.path / f"changed{suffix}"
        path.write_bytes(mutate_bytes(data, rng))
        read_checkpoint(str(path))
        return "taken"


TARGETS = {
    "annotations": Annotations,
    "images": Images,
    "configs": Configs,
    "checkpoints": Checkpoints,
}


@contextlib.contextmanager
def quiet():
    """Without warnings, which Pillow has many of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
