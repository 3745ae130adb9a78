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
    # which positions a position of a clip sees: spacetime, space (of its frame) or time (of its
    # place); Table 2d
    node.AXES = "spacetime"
    # frames of a clip that the blocks in res2 to res5 see at a time, in groups; 0 is all (released
    # models of long clips: 4 in res3)
    node.FRAMES_PER_GROUP = [0, 0, 0, 0]

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

    _add_video_config(cfg)

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


def _add_video_config(cfg: CfgNode) -> None:
    node = cfg.MODEL.VIDEO = CfgNode()
    # c2d, i3d_3x1x1 or i3d_3x3x3 (Sec. 4)
    node.ARCH = "c2d"
    # strides in time: paper (conv1 2, pool1 2, pool2 2: Table 1), 8x8 (pool2 2 alone: the released
    # models of 8 frames at rate 8, and of 32 at rate 4) or none (no pool2: PySlowFast's C2D_NOPOOL)
    node.STRIDES = "paper"
    # pool1 and pool2: text (3x3x3 and 3x1x1, padded: Table 1), released (2x3x3 and 2x1x1, without
    # padding: the released code) or slowfast (1x3x3, padded in space, and 2x1x1: PySlowFast,
    # PyTorchVideo and mmaction2)
    node.POOL1 = "text"
    node.NUM_CLASSES = 400
    # share of the features that training leaves out before the classifier
    node.DROPOUT = 0.5
    # classes do not exclude each other, as in Charades: sigmoid and binary cross-entropy
    node.MULTI_LABEL = False

    node = cfg.INPUT.VIDEO = CfgNode()
    # frames of a clip, and the step between them in frames of the video
    node.FRAMES = 32
    node.RATE = 2
    # side in pixels of the square that training crops
    node.CROP_SIZE = 224

    node = cfg.TEST.VIDEO = CfgNode()
    # clips of a video, evenly in time, and crops of each clip along its longer side
    node.CLIPS = 10
    node.CROPS = 3
    # side of a crop, and the shorter side that frames are scaled to, in pixels
    node.CROP_SIZE = 256
    node.SHORT_SIDE = 256
    # what is done with the scores of a video's views: average or max
    node.ENSEMBLE = "average"
    # average the probabilities of windows of the size of training's crops (Sec. 4); otherwise the
    # features of the whole map, as mmaction2 does
    node.FULLY_CONV = True
    # views in a forward pass
    node.BATCH = 6
    # evaluate one view alone, the centre crop of the middle clip
    node.ONE_VIEW = False
    # the same in evaluations before the last iteration of a training
    node.ONE_VIEW_IN_TRAINING = True


def block_options(cfg: CfgNode) -> dict[str, Any]:
    """The options of MODEL.NONLOCAL that all blocks of a model share: keyword arguments of
    ``make_block``, and ``mask_padding`` of the backbone's. Those of video are not among them."""
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
    """Section of MODEL with the model's NUM_CLASSES, and a detector's SCORE_THRESH_TEST."""
    return cfg.MODEL[detector_section_name(cfg)]


def detector_section_name(cfg: CfgNode) -> str:
    """Name of the section that :func:`detector_section` returns."""
    return {"RetinaNet": "RETINANET", "VideoClassifier": "VIDEO"}.get(
        cfg.MODEL.META_ARCHITECTURE, "ROI_HEADS"
    )


def is_video(cfg: CfgNode) -> bool:
    """Whether a config describes a model of videos, rather than of images."""
    return cfg.MODEL.META_ARCHITECTURE == "VideoClassifier"
