"""Every config key of the package, once, with its choices."""

from typing import Any

from detectron2.config import CfgNode, get_cfg


def add_nonlocal_config(cfg: CfgNode) -> None:
    """Add the keys below to a Detectron2 config, in place."""
    node = cfg.MODEL.NONLOCAL = CfgNode()
    # gaussian (Eq. 2), embedded_gaussian (Eq. 3), dot_product (Eq. 4), concatenation (Eq. 5),
    # global_context (Cao et al. 2019)
    node.PAIRWISE = "embedded_gaussian"
    # channels of x over channels of theta, phi and g (Sec. 3.3: 2)
    node.REDUCTION = 2
    # before: pool x, then phi and g (released code); after: phi and g, then pool (Sec. 3.3); none
    node.SUBSAMPLE = "before"
    # divide theta . phi by the root of its channels, in embedded_gaussian only (released code)
    node.USE_SCALE = True
    # after W_z: "" (W_z starts at zero) or BN, SyncBN, naiveSyncBN, naiveSyncBN_N, GN, LN (scale
    # starts at zero)
    node.NORM = ""
    # keep only x of a block for the backward pass, and compute the rest again there
    node.CHECKPOINT = False

    node.BACKBONE = CfgNode()
    # after which residual blocks: "res4.-2" (last but one of res4), "res3.*" (every one), "res3.1"
    node.BACKBONE.AFTER = []

    node.KEYPOINT_HEAD = CfgNode()
    # after which of the head's convs, counted from 1: [2, 4, 6, 8] is Table 6's head
    node.KEYPOINT_HEAD.AFTER = []

    node.MASK_HEAD = CfgNode()
    # after which of the head's convs, counted from 1: [2, 4] is after every 2 of FPN's 4
    node.MASK_HEAD.AFTER = []

    # the blocks' learning rate over that of all the rest
    cfg.SOLVER.NONLOCAL_LR_FACTOR = 1.0
    # times that, for what weighs positions: theta, phi and the pairwise function's own parameters
    cfg.SOLVER.NONLOCAL_PAIRWISE_LR_FACTOR = 1.0
    # SGD is Detectron2's; AdamW suits short runs from scratch (the Demo configs)
    cfg.SOLVER.OPTIMIZER = "SGD"

    # of mixed precision, with SOLVER.AMP.ENABLED: float16 (Detectron2's) or bfloat16
    cfg.SOLVER.AMP.DTYPE = "float16"

    # pictures of validation images for TensorBoard: what is found, and where the blocks look from
    node = cfg.VISUALIZE = CfgNode()
    # iterations from one set of pictures to the next; 0: none
    node.PERIOD = 0
    # how many images: the first of DATASETS.TEST[0]
    node.IMAGES = 4
    # the least score of a detection that is drawn
    node.SCORE = 0.5


def block_options(cfg: CfgNode) -> dict[str, Any]:
    """MODEL.NONLOCAL as the keyword arguments that all blocks of a model share."""
    node = cfg.MODEL.NONLOCAL
    return {
        "pairwise": node.PAIRWISE,
        "reduction": node.REDUCTION,
        "subsample": node.SUBSAMPLE,
        "use_scale": node.USE_SCALE,
        "norm": node.NORM,
        "checkpoint": node.CHECKPOINT,
    }


def default_block() -> dict[str, Any]:
    """Those of a config that says nothing of its blocks: what a LazyConfig starts from."""
    cfg = get_cfg()
    add_nonlocal_config(cfg)
    return block_options(cfg)


def detector_section(cfg: CfgNode) -> CfgNode:
    """Where a detector's NUM_CLASSES and SCORE_THRESH_TEST are."""
    return cfg.MODEL[detector_section_name(cfg)]


def detector_section_name(cfg: CfgNode) -> str:
    """Of that section of MODEL."""
    return "RETINANET" if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" else "ROI_HEADS"
