#!/usr/bin/env python3
"""Train or evaluate a detector: Detectron2's command line, with non-local models.

    python train_net.py --config-file configs/COCO-Keypoints/keypoint_rcnn_R_50_FPN_nl_1x.yaml \
        --num-gpus 8
"""

import sys
from argparse import Namespace

from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, launch

from nl_detectron.engine import (
    Trainer,
    UsageError,
    evaluate,
    lazy,
    load_config,
    preflight,
    start_run,
)


def main(cfg: CfgNode, args: Namespace) -> None:
    """What each process runs."""
    start_run(cfg, args)
    if args.eval_only:
        evaluate(cfg, resume=args.resume)
        return
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()


if __name__ == "__main__":
    args = default_argument_parser().parse_args()
    try:
        if args.config_file.endswith(".py"):
            lazy.preflight(lazy.load_config(args.config_file, args.opts), args)
            run, words = lazy.run, (args,)
        else:
            cfg = load_config(args.config_file, args.opts)
            preflight(cfg, args)
            run, words = main, (cfg, args)
        launch(
            run,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=words,
        )
    except UsageError as error:
        sys.exit(f"train_net.py: error: {error}")
