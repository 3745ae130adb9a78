"""All config keys of the package, with their choices."""

from typing import Any

from detectron2.config import CfgNode, get_cfg


def add_nonlocal_config(cfg: CfgNode) -> None:
    """Add the keys below to a Detectron2 config, in place."""
    node = cfg.MODEL.NONLOCAL = CfgNode()
    # the pairwise function, by its name in PAIRWISE of layers/pairwise.py
    node.PAIRWISE = "embedded_gaussian"
    # channels of x divided by channels of theta, phi and g (Sec. 3.3: 2)
    node.REDUCTION = 2
    # before: pool x, then phi and g (released code); after: phi and g, then pool (Sec. 3.3); none
    node.SUBSAMPLE = "before"
    # divide theta . phi by the square root of its channels (released code), in the embedded
    # softmax functions only
    node.USE_SCALE = True
    # norm after W_z: "" (W_z starts at zero), or BN, SyncBN, naiveSyncBN, naiveSyncBN_N, GN, LN
    # (the norm's scale starts at zero)
    node.NORM = ""
    # keep only the input of a block for the backward pass and compute the rest again
    node.CHECKPOINT = False
    # leave the positions that pad an image to its batch's size out of the backbone's blocks
    node.MASK_PADDING = False

    node.BACKBONE = CfgNode()
    # residual blocks to insert a block after: "res4.-2" (last but one of res4), "res3.*" (all),
    # "res3.1"
    node.BACKBONE.AFTER = []

    node.KEYPOINT_HEAD = CfgNode()
    # convs of the head to insert a block after, counted from 1: [2, 4, 6, 8] is Table 6's head
    node.KEYPOINT_HEAD.AFTER = []

    node.MASK_HEAD = CfgNode()
    # convs of the head to insert a block after, counted from 1: [2, 4] is after every second of
    # FPN's four
    node.MASK_HEAD.AFTER = []

    # learning rate of the blocks, relative to that of all other parameters
    cfg.SOLVER.NONLOCAL_LR_FACTOR = 1.0
    # a further factor for theta, phi and the pairwise function's own parameters
    cfg.SOLVER.NONLOCAL_PAIRWISE_LR_FACTOR = 1.0
    # SGD (Detectron2's), or AdamW for short runs from scratch (the Demo configs)
    cfg.SOLVER.OPTIMIZER = "SGD"

    # number of periodic checkpoints to keep, the newest ones, besides model_best.pth and
    # model_final.pth; 0 keeps all
    cfg.SOLVER.CHECKPOINTS_TO_KEEP = 0

    # dtype of mixed precision (SOLVER.AMP.ENABLED): float16 (Detectron2's) or bfloat16
    cfg.SOLVER.AMP.DTYPE = "float16"

    # training samples that may be replaced because they cannot be read; 0 stops at the first one
    cfg.DATALOADER.MAX_BAD_SAMPLES = 0

    # whether annotation files of --dataset may name images outside their image folder
    cfg.DATASETS.ALLOW_OUTSIDE_IMAGES = False

    # TensorBoard pictures of validation images: detections and attention maps
    node = cfg.VISUALIZE = CfgNode()
    # iterations between two sets of pictures; 0 draws none
    node.PERIOD = 0
    # number of images, the first ones of DATASETS.TEST[0]
    node.IMAGES = 4
    # lowest score of a detection to draw
    node.SCORE = 0.5


def block_options(cfg: CfgNode) -> dict[str, Any]:
    """The options of MODEL.NONLOCAL that all blocks of a model share: keyword arguments of
    ``make_block``, and ``mask_padding`` of the backbone's."""
    node = cfg.MODEL.NONLOCAL
    return {
        "pairwise": node.PAIRWISE,
        "reduction": node.REDUCTION,
        "subsample": node.SUBSAMPLE,
        "use_scale": node.USE_SCALE,
        "norm": node.NORM,
        "checkpoint": node.CHECKPOINT,
        "mask_padding": node.MASK_PADDING,
    }


def default_block() -> dict[str, Any]:
    """Block options with their default values, for a LazyConfig."""
    cfg = get_cfg()
    add_nonlocal_config(cfg)
    return block_options(cfg)


def detector_section(cfg: CfgNode) -> CfgNode:
    """Section of MODEL with the detector's NUM_CLASSES and SCORE_THRESH_TEST."""
    return cfg.MODEL[detector_section_name(cfg)]


def detector_section_name(cfg: CfgNode) -> str:
    """Name of the section that :func:`detector_section` returns."""
    return "RETINANET" if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" else "ROI_HEADS"
