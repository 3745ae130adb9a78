"""The relay data sets by name in Detectron2's catalogs."""

from dataclasses import replace

from detectron2.data.datasets.coco import load_coco_json

from ..data.registration import register_on_demand
from .files import cache_folder, write_dataset
from .spec import COLOURS, KEYPOINTS, SPLITS, Relay

# A large signal, which lies beside the object in half of the training images, so that blocks begin
# to learn sooner and from more seeds. In validation images it is in the opposite corner alone.
DEMO = Relay(signal=64, beside=0.5, stout=True)
RELAY_DATASETS = {"relay": DEMO, "relay_keypoints": replace(DEMO, keypoints=True)}


def register_relay() -> None:
    """Register ``relay_train``, ``relay_val``, ``relay_keypoints_train`` and ``…_val``.

    Files are written when a data set is first loaded.
    """
    for name, relay in RELAY_DATASETS.items():
        for split in SPLITS:
            register_split(f"{name}_{split}", relay, split)


def register_split(name: str, relay: Relay, split: str) -> None:
    """Register one split of a relay data set with Detectron2 under ``name``."""
    folder = cache_folder(relay)
    json_file, image_root = str(folder / f"{split}.json"), str(folder / split)

    def load() -> list[dict]:
        write_dataset(relay, folder)  # registered, even if NL_DETECTRON_CACHE has changed since
        return load_coco_json(json_file, image_root, name)

    register_on_demand(
        name,
        load,
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        thing_classes=list(relay.classes),
        thing_colors=[COLOURS.get(name, (255, 160, 0)) for name in relay.classes],
        keypoint_names=list(KEYPOINTS),
        keypoint_flip_map=[],
        keypoint_connection_rules=[
            ("head", "centre", (255, 0, 0)),
            ("centre", "tail", (0, 0, 255)),
        ],
    )
