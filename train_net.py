#!/usr/bin/env python3
"""Train or evaluate a detector: Detectron2's command line, with non-local models.

    python train_net.py --config-file configs/COCO-Keypoints/keypoint_rcnn_R_50_FPN_nl_1x.yaml \
        --num-gpus 8
"""

from nl_detectron_cli.program import run
from nl_detectron_cli.programs.train import main

if __name__ == "__main__":
    run(main)
