#!/usr/bin/env python3
"""Train or evaluate a detector: Detectron2's command line, with non-local models.

    python train_net.py --config-file configs/COCO-Keypoints/keypoint_rcnn_R_50_FPN_nl_1x.yaml \
        --num-gpus 8
"""

from argparse import Namespace

from detectron2.config import CfgNode

from nl_detectron import engine
from nl_detectron.engine import distributed, lazy


def main(cfg: CfgNode, args: Namespace) -> None:
    """Train or evaluate in one process."""
    engine.start_run(cfg, args)
    if args.eval_only:
        engine.evaluate(cfg, resume=args.resume)
        return
    trainer = engine.Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()


if __name__ == "__main__":
    args = engine.argument_parser().parse_args()
    with distributed.one_message():
        distributed.follow_torchrun(args)
        if args.config_file.endswith(".py"):
            cfg = lazy.load_config(args.config_file, args.opts)
            check, entry, launch_args = lazy.preflight, lazy.run, (args,)
            device = cfg.train.device
        else:
            cfg = engine.configured(args)
            check, entry, launch_args = engine.preflight, main, (cfg, args)
            device = cfg.MODEL.DEVICE
        if distributed.is_first_on_machine():
            check(cfg, args)
        distributed.launch(entry, launch_args, args, device)
