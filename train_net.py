#!/usr/bin/env python3
"""Train or evaluate a detector: Detectron2's command line, with non-local models.

    python train_net.py --config-file configs/COCO-Keypoints/keypoint_rcnn_R_50_FPN_nl_1x.yaml \
        --num-gpus 8
"""

from argparse import Namespace

from nl_detectron_cli.options import make_training_parser
from nl_detectron_cli.program import ignore_known_warnings, run


def main(args: Namespace) -> None:
    """Train or evaluate in one process, trusting what the command line says."""
    from nl_detectron import engine

    ignore_known_warnings()  # in processes that were started for this
    with engine.trust_from_args(args):
        train_or_evaluate(args)


def train_or_evaluate(args: Namespace) -> None:
    """Train or evaluate in one process.

    Each reads the config for itself: what a LazyConfig defines in its own file cannot be sent to
    another process.
    """
    from nl_detectron import engine

    cfg = engine.config_from_args(args)
    engine.start_run(cfg, args)
    if args.eval_only:
        engine.evaluate(cfg, resume=args.resume)
        return
    trainer = engine.Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()


def start() -> None:
    """Check the command line and the run, and start its processes."""
    args = make_training_parser().parse_args()
    # these take seconds, which --help need not
    from nl_detectron import engine
    from nl_detectron.engine import distributed

    with distributed.one_message():
        distributed.follow_torchrun(args)
        with engine.trust_from_args(args):
            cfg = engine.config_from_args(args)
            if distributed.is_first_on_machine():
                print(engine.announce(cfg, args), flush=True)
                engine.preflight(cfg, args)
        distributed.launch(main, (args,), args, engine.describe_run(cfg).device)


if __name__ == "__main__":
    run(start)
