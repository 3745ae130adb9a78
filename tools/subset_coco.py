#!/usr/bin/env python3
"""Make a tiny COCO of a COCO, to see a model learn a few images by heart before a long run.

python tools/subset_coco.py --coco datasets/coco --output tiny/coco --images 8
DETECTRON2_DATASETS=tiny python train_net.py --config-file … DATASETS.TEST "('coco_2017_train',)"
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

FILES = ("instances", "person_keypoints")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--coco", type=Path, required=True, help="folder of COCO, in its layout")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--split", default="train2017")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--max-objects", type=int, default=100, help="pass over fuller images")
    args = parser.parse_args()
    if args.images < 1:
        parser.error(f"--images: expected 1 or more, got {args.images}")
    images = (args.coco / args.split).resolve()
    for folder in (images, args.coco / "annotations"):
        if not folder.is_dir():
            sys.exit(f"subset_coco.py: error: there is no folder {folder}")
    link = args.output / args.split
    (args.output / "annotations").mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(images)
    for kind in FILES:
        name = f"annotations/{kind}_{args.split}.json"
        if (args.coco / name).exists():
            content = json.loads((args.coco / name).read_text())
            chosen = subset(content, args.images, args.max_objects)
            (args.output / name).write_text(json.dumps(chosen))
            print(
                f"{args.output / name}: {len(chosen['images'])} images, "
                f"{len(chosen['annotations'])} annotations"
            )


def subset(content: dict, count: int, max_objects: int) -> dict:
    """The first images, by id, of 1 to ``max_objects`` objects (with keypoints, in their file)."""
    objects = Counter(
        a["image_id"]
        for a in content["annotations"]
        if not a["iscrowd"] and a.get("num_keypoints", 1) > 0
    )
    useful = [image for image, n in objects.items() if n <= max_objects]
    chosen = set(sorted(useful)[:count])
    return {
        **content,
        "images": [i for i in content["images"] if i["id"] in chosen],
        "annotations": [a for a in content["annotations"] if a["image_id"] in chosen],
    }


if __name__ == "__main__":
    main()
