#!/usr/bin/env python3
"""Train or evaluate a detector: Detectron2's command line, with non-local models.

    python train_net.py --config-file configs/COCO-Keypoints/keypoint_rcnn_R_50_FPN_nl_1x.yaml \
        --num-gpus 8
"""

import sys
from argparse import Namespace

from detectron2.config import CfgNode
from detectron2.engine import launch

from nl_detectron import engine
from nl_detectron.engine import lazy


def main(cfg: CfgNode, args: Namespace) -> None:
    """What each process runs."""
    engine.start_run(cfg, args)
    if args.eval_only:
        engine.evaluate(cfg, resume=args.resume)
        return
    trainer = engine.Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()


if __name__ == "__main__":
    args = engine.argument_parser().parse_args()
    try:
        if args.config_file.endswith(".py"):
            lazy.preflight(lazy.load_config(args.config_file, args.opts), args)
            run, words = lazy.run, (args,)
        else:
            cfg = engine.configured(args)
            engine.preflight(cfg, args)
            run, words = main, (cfg, args)
        launch(
            run,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=words,
        )
    except engine.UsageError as error:
        sys.exit(f"train_net.py: error: {error}")
