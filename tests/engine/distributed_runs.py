"""Functions that the processes of test_distributed.py import and run."""

import multiprocessing
import sys
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage
from helpers import build, make_batch, randomise, randomise_norms, tiny_cfg, with_blocks
from omegaconf import DictConfig
from torch import Tensor, nn

from nl_detectron.config import default_block
from nl_detectron.engine import Trainer, evaluate, lazy, load_config
from nl_detectron.engine.distributed import distribute_model
from nl_detectron.layers import NORMS, PAIRWISE
from nl_detectron.modeling import NonLocalKeypointHead, NonLocalMaskHead, find_blocks
from nl_detectron.relay import Relay, files, register_split

CONFIGS = Path(__file__).parents[2] / "configs"
DATA = {
    "five": Relay(keypoints=True, train=2, val=5, height=64, width=128, signal=9),
    "one": Relay(keypoints=True, train=2, val=1, height=64, width=128, signal=9),
}
KINDS = ("yaml", "lazy")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

# --- whole runs ------------------------------------------------------------------------------

# A thin model of boxes, masks and keypoints with a block in the backbone and in both heads. It has
# no norm with statistics of a batch. Losses count all anchors and all proposals, so that none are
# sampled, and only the annotated boxes are foreground: each image with one object then adds as many
# RoIs to each loss as every other, and it does not matter which images a process has.
YAML = [
    *("MODEL.DEVICE", "cpu", "MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.FPN.OUT_CHANNELS", "16"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.NORM", "FrozenBN"),
    *("MODEL.RESNETS.OUT_FEATURES", "['res3', 'res4', 'res5']"),  # as in the LazyConfig
    *("MODEL.FPN.IN_FEATURES", "['res3', 'res4', 'res5']"),
    *("MODEL.ROI_HEADS.IN_FEATURES", "['p3', 'p4', 'p5']"),
    *("MODEL.FPN.NORM", "", "MODEL.ROI_BOX_HEAD.NORM", "", "MODEL.ROI_BOX_HEAD.CONV_DIM", "8"),
    *("MODEL.MASK_ON", "True", "MODEL.ROI_MASK_HEAD.NAME", "NonLocalMaskHead"),
    *("MODEL.ROI_MASK_HEAD.NUM_CONV", "2", "MODEL.ROI_MASK_HEAD.CONV_DIM", "8"),
    *("MODEL.ROI_KEYPOINT_HEAD.NAME", "NonLocalKeypointHead"),
    *("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", "(8, 8)"),
    *("MODEL.NONLOCAL.MASK_HEAD.AFTER", "[1]", "MODEL.NONLOCAL.KEYPOINT_HEAD.AFTER", "[2]"),
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", "5000", "MODEL.RPN.POSITIVE_FRACTION", "1.0"),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", "20", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "100"),
    *("MODEL.ROI_HEADS.POSITIVE_FRACTION", "1.0", "MODEL.ROI_HEADS.IOU_THRESHOLDS", "[0.95]"),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "TEST.DETECTIONS_PER_IMAGE", "20"),
    *("DATASETS.TRAIN", "('five_train',)", "DATASETS.TEST", "('five_val', 'one_val')"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64", "INPUT.RANDOM_FLIP", "none"),
    *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()"),
    *("SOLVER.WARMUP_ITERS", "0", "SOLVER.CLIP_GRADIENTS.ENABLED", "False"),
]


def yaml_config(folder: Path) -> CfgNode:
    words = ["MODEL.WEIGHTS", str(folder / "yaml.pth"), "OUTPUT_DIR", str(folder / "yaml")]
    return load_config(str(CONFIGS / "Demo" / "relay_keypoint_rcnn_nl.yaml"), [*YAML, *words])


def lazy_config(folder: Path) -> DictConfig:
    cfg = lazy.load_config(str(CONFIGS / "Demo" / "relay_mask_rcnn_nl.py"), ["train.device=cpu"])
    model, heads, data, block = cfg.model, cfg.model.roi_heads, cfg.dataloader, default_block()
    model.backbone.backbone.norm = ""
    model.backbone.backbone.bottom_up.stem.norm = "FrozenBN"
    for stage in model.backbone.backbone.bottom_up.stages:
        stage.norm = "FrozenBN"
    model.proposal_generator.update(batch_size_per_image=5000, positive_fraction=1.0)
    model.proposal_generator.post_nms_topk = (20, 20)
    heads.update(batch_size_per_image=100, positive_fraction=1.0, num_classes=1)
    heads.proposal_matcher.thresholds = [0.95]
    heads.box_head.conv_norm = ""
    heads.box_predictor.update(test_score_thresh=0.0, test_topk_per_image=20)
    heads.mask_head.update(_target_=NonLocalMaskHead, conv_dims=[16, 16, 16], after=[1])
    heads.mask_head.block = block
    heads.keypoint_in_features = heads.mask_in_features
    heads.keypoint_pooler = L(ROIPooler)(
        output_size=7, scales=(1 / 8, 1 / 16, 1 / 32), sampling_ratio=0,
        pooler_type="ROIAlignV2",
    )  # fmt: skip
    heads.keypoint_head = L(NonLocalKeypointHead)(
        input_shape=L(ShapeSpec)(channels=64, width=7, height=7),
        num_keypoints=3, conv_dims=[16, 16], after=[2], block=block, loss_normalizer="visible",
    )  # fmt: skip
    data.train.update(total_batch_size=2)
    data.train.dataset.names, data.test.dataset.names = "five_train", "five_val"
    data.train.mapper.update(use_keypoint=True)
    data.train.mapper.augmentations = data.train.mapper.augmentations[:1]  # no flips
    data.train.mapper.augmentations[0].short_edge_length = [64]
    data.test.mapper.augmentations[0].short_edge_length = 64
    data.evaluator.update(tasks=["bbox", "segm", "keypoints"], kpt_oks_sigmas=[0.1] * 3)
    cfg.optimizer.norm = 1e9  # clips nothing
    cfg.lr_multiplier.update(warmup_length=0.0)
    cfg.train.update(max_iter=1, output_dir=str(folder / "lazy"))
    cfg.train.init_checkpoint = str(folder / "lazy.pth")
    return cfg


def write_weights(folder: Path) -> None:
    """Weights for both kinds of config. Their blocks are no identities: all parts get gradients."""
    torch.manual_seed(0)
    for kind, model in (
        ("yaml", Trainer.build_model(yaml_config(folder))),
        ("lazy", Trainer.build_model(lazy_config(folder))),
    ):
        randomise_norms(model)
        for block in find_blocks(model).values():
            randomise(block, std=0.03)  # a saturated softmax would amplify rounding
        torch.save({"model": model.state_dict()}, folder / f"{kind}.pth")


def register_data() -> None:
    for name, relay in DATA.items():
        for split in ("train", "val"):
            register_split(f"{name}_{split}", relay, split)


def run_and_evaluate(weights: Path, folder: Path) -> None:
    """Train a step and keep its gradients; evaluate the weights that it started from."""
    for kind in KINDS:
        seed_all_rng(1 + comm.get_rank())
        cfg = yaml_config(weights) if kind == "yaml" else lazy_config(weights)
        trainer = Trainer(with_output(cfg, folder / kind / "train"))
        trainer.resume_or_load(resume=False)
        trainer.train()
        evaluate(with_output(cfg, folder / kind))
        save(gradients(trainer.model), folder / kind / "gradients")


def with_output(cfg: CfgNode | DictConfig, folder: Path) -> CfgNode | DictConfig:
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(cfg, CfgNode):
        cfg.defrost()
        cfg.OUTPUT_DIR = str(folder)
    else:
        cfg.train.output_dir = str(folder)
    return cfg


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """By name; every parameter that is not frozen has one."""
    learnt = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    return {name.removeprefix("module."): grad.clone() for name, grad in learnt.items()}


def save(what: object, path: Path) -> None:
    torch.save(what, f"{path}.rank{comm.get_rank()}")


# --- processes that do not count alike -------------------------------------------------------

COUNTS = [(1, 3), (1, 0)]  # objects in the images of the two processes


def images(counts: tuple[int, int]) -> list[dict]:
    torch.manual_seed(0)
    batch = make_batch([(64, 64), (64, 64)])
    for image, count in zip(batch, counts, strict=True):
        image["instances"] = image["instances"][torch.zeros(count, dtype=torch.long)]
    return batch


def uneven_model(norm: str = "") -> nn.Module:
    cfg = tiny_cfg("FPN", "keypoint")
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.ROI_MASK_HEAD.NAME = "NonLocalMaskHead"
    cfg.MODEL.NONLOCAL.MASK_HEAD.AFTER = [1]
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = [8, 8]
    cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 5000
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 100
    cfg.MODEL.RPN.POSITIVE_FRACTION = cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION = 1.0
    cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS = [0.95]
    model = build(with_blocks(cfg, head=(1,), NORM=norm), seed=3)
    for block in find_blocks(model).values():
        # Larger ones give features whose mean is a hundred times their deviation. Their variance,
        # which naiveSyncBN_N takes from the mean of squares, rounds to less than zero.
        randomise(block, std=0.1)
    return model.train()


def backward(model: nn.Module, batch: list[dict]) -> dict[str, Tensor]:
    """The gradients of the sum of losses."""
    model.zero_grad()
    with EventStorage():
        sum(model(batch).values()).backward()
    return gradients(model)


def step_unevenly(folder: Path) -> None:
    rank = comm.get_rank()
    for counts in COUNTS:
        model = distribute_model(uneven_model())
        save(backward(model, images(counts)[rank : rank + 1]), folder / f"uneven{counts}")
    model = distribute_model(uneven_model("naiveSyncBN_N"))
    for _ in range(2):  # the second step would find parameters that the first left out
        found = backward(model, images((1, 0))[rank : rank + 1])
    save(found, folder / "uneven_norm")
    save(dict(model.module.named_buffers()), folder / "uneven_buffers")


# --- RoI heads -------------------------------------------------------------------------------

# PyTorch has SyncBN for GPUs only, and naiveSyncBN is refused in heads.
HEADS = [
    (kind, norm, form)
    for kind, forms in ((NonLocalMaskHead, tuple(PAIRWISE)), (NonLocalKeypointHead, ("gaussian",)))
    for norm in NORMS
    if norm not in ("SyncBN", "naiveSyncBN")
    for form in forms
]
SPLITS = [(2, 1), (3, 0)]  # RoIs in the two processes


class Layers(nn.Module):
    """A head without its loss."""

    def __init__(self, kind: type, norm: str, form: str):
        super().__init__()
        torch.manual_seed(5)
        block = {**default_block(), "norm": norm, "pairwise": form}
        shape, more = ShapeSpec(channels=32, height=4, width=4), {"after": [1], "block": block}
        if kind is NonLocalMaskHead:
            self.head = kind(shape, num_classes=1, conv_dims=[32, 32], **more)
        else:
            self.head = kind(shape, num_keypoints=2, conv_dims=[32, 32], **more)
        for found in find_blocks(self).values():
            randomise(found)

    def forward(self, x: Tensor) -> Tensor:
        return self.head.layers(x)


def split_rois(folder: Path) -> None:
    """The gradients of a weighted sum over three RoIs, by how many each process has."""
    rank, found = comm.get_rank(), {}
    for kind, norm, form in HEADS:
        for split in SPLITS:
            model = distribute_model(Layers(kind, norm, form), broadcast_buffers=False)
            torch.manual_seed(7)
            x = torch.randn(3, 32, 4, 4)
            weights = torch.randn_like(model.module(x).detach())
            mine = slice(0, split[0]) if rank == 0 else slice(split[0], 3)
            for _ in range(2):
                model.zero_grad()
                (model(x[mine]) * weights[mine]).sum().backward()
            assert all(buffer.isfinite().all() for buffer in model.buffers())
            found[kind.__name__, norm, form, split] = gradients(model)
    save(found, folder / "heads")


# --- the relay data set ----------------------------------------------------------------------


def load_relay(folder: Path) -> None:
    """Load a data set whose files are not there yet, and tell how many images were drawn."""
    drawn, draw = [], files.draw_image
    files.draw_image = lambda *words: drawn.append(words) or draw(*words)
    relay = Relay(train=3, val=2, height=64, width=128, signal=9, seed=comm.shared_random_seed())
    register_split("late", relay, "train")
    records = DatasetCatalog.get("late")
    files.draw_image = draw
    save((len(records), len(drawn)), folder / "drawn")


def compare(weights: Path, folder: Path) -> None:
    """All that the tests compare, in one start of processes."""
    torch.set_num_threads(1)
    register_data()
    run_and_evaluate(weights, folder)
    (folder / f"start_method.rank{comm.get_rank()}").write_text(multiprocessing.get_start_method())
    if comm.get_world_size() > 1:
        step_unevenly(folder)
        split_rois(folder)
        load_relay(folder)
