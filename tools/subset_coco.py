#!/usr/bin/env python3
"""Make a tiny COCO of a COCO, to see a model learn a few images by heart before a long run.

python tools/subset_coco.py --coco datasets/coco --output tiny/coco --images 8
DETECTRON2_DATASETS=tiny python train_net.py --config-file … DATASETS.TEST "('coco_2017_train',)"
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone, installed or not

from nl_detectron_cli.options import make_parser
from nl_detectron_cli.program import run

FILES = ("instances", "person_keypoints")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--coco", type=Path, required=True, help="folder of COCO, in its layout")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--split", default="train2017")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--max-objects", type=int, default=100, help="pass over fuller images")
    args = parser.parse_args()
    if args.images < 1:
        parser.error(f"--images: expected 1 or more, got {args.images}")
    from nl_detectron.data.subset import subset  # takes seconds, which --help need not

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


if __name__ == "__main__":
    run(main)
