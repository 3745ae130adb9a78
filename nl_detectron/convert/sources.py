"""How other projects name and compute a non-local block: one table per source.

The keys of a table are patterns of the source's names, the values are this package's names. All
sources compute Eq. 6 of Wang et al. with an eps of 1e-5 in norms. The fields of :class:`Source`
describe their differences.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Table = Mapping[str, str | Callable[[re.Match], str]]

ALIKE = ("embedded_gaussian", "dot_product")  # which have the same tensors
STATISTICS = "(weight|bias|running_mean|running_var)"
# what may stand before the names of torchvision's ResNet
_BEFORE = r"(?:module\.)?(?:encoder_q\.|base_encoder\.|backbone\.body\.)?"


@dataclass(frozen=True)
class Source:
    """A codebase that blocks come from.

    Attributes:
        block: names in ``NonLocalBlock``, by names within the source's block.
        place: residual blocks such as ``res4.4``, by the names of the blocks that follow them.
        known_from: by property, the setting of the source's config that states it.
        trunk: pattern of the names of its ResNet's tensors, without blocks.
        inside: reasons, by the names of blocks that have no place in a model of this package.
        separator: between the names of a block and of its tensors.
        pairwise, subsample: what the source can compute.
        pools: ``subsample`` by supported kernels (T,H,W), for sources whose config states a kernel.
        scale: scale of theta . phi before the softmax: ``divided`` or ``multiplied`` by sqrt(D), or
            ``none``.
        pooled: pattern of a name that only a subsampling block has, if there is one.
        out_bias: whether the last conv lacks a bias only if a norm follows.
        without_statistics: meaning of a norm with scale and shift only, ``GN`` or ``affine``.
        resnet: Detectron2's names, by the names of the ResNet's tensors; empty if
            ``resnet_differs`` gives the reason.
        resnet_differs: why the ResNet cannot be converted.
        resnet_told_by: where the source's config states what the ResNet's tensors do not show.
        resnet_config: config keys that all ResNets of the source share, nested as in YAML.
    """

    block: dict[str, str]
    place: Table
    known_from: dict[str, str]
    trunk: str
    inside: dict[str, str] = field(default_factory=dict)
    separator: str = "."
    pairwise: tuple[str, ...] = ALIKE
    subsample: tuple[str, ...] = ()
    pools: dict[tuple[int, ...], str] = field(default_factory=dict)
    scale: tuple[str, ...] = ("divided", "none")
    pooled: str = ""
    out_bias: bool = True
    without_statistics: str = ""
    resnet: Table = field(default_factory=dict)
    resnet_differs: str = ""
    resnet_told_by: str = ""
    resnet_config: dict[str, dict] = field(default_factory=dict)


def renamed(name: str, table: Table) -> str | None:
    """This package's name for a source's name, or None if the table has none."""
    for pattern, ours in table.items():
        if match := re.fullmatch(pattern, name):
            return ours(match) if callable(ours) else match.expand(ours)
    return None


def _of_layer(rest: str) -> Callable[[re.Match], str]:
    """Map layerN of torchvision and OpenMMLab to res(N+1)."""
    return lambda match: f"res{int(match[1]) + 1}." + match.expand(rest)


def _torchvision_names(prefix: str) -> dict[str, str | Callable[[re.Match], str]]:
    """Detectron2's names by those of torchvision's ResNet, which has a pattern before its names."""
    return {
        rf"{prefix}conv1\.weight": "stem.conv1.weight",
        rf"{prefix}bn1\.{STATISTICS}": r"stem.conv1.norm.\1",
        rf"{prefix}layer(\d)\.(\d+)\.(conv\d)\.weight": _of_layer(r"\2.\3.weight"),
        rf"{prefix}layer(\d)\.(\d+)\.bn(\d)\.{STATISTICS}": _of_layer(r"\2.conv\3.norm.\4"),
        rf"{prefix}layer(\d)\.(\d+)\.downsample\.0\.weight": _of_layer(r"\2.shortcut.weight"),
        rf"{prefix}layer(\d)\.(\d+)\.downsample\.1\.{STATISTICS}": _of_layer(
            r"\2.shortcut.norm.\3"
        ),
    }


# open-mmlab/mmcv: mmcv/cnn/bricks/non_local.py (NonLocal1d to NonLocal3d), conv_module.py, norm.py.
# open-mmlab/mmdetection's own block before its #1528 (mmdet/models/plugins/non_local.py), which
# GCNet copied, has the same names and multiplies by sqrt(D) where use_scale divides now.
MMCV = Source(
    block={
        r"(theta|phi|g)(?:\.0)?\.conv\.(weight|bias)": r"\1.\2",  # .0: before a pool
        r"conv_out\.conv\.(weight|bias)": r"w_z.\1",
        r"concat_project\.conv\.weight": "pairwise.w_f",
        rf"conv_out\.bn\.({STATISTICS}|num_batches_tracked)": r"norm.\1",
        r"conv_out\.gn\.(weight|bias)": r"norm.\1",
    },
    place={
        # open-mmlab/mmaction2: mmaction/models/backbones/resnet3d.py and resnet_tsm.py, which run
        # it on what the residual block gives
        r"(?:.+\.)?layer(\d)\.(\d+)\.non_local_block": _of_layer(r"\2"),
    },
    inside={
        # open-mmlab/mmdetection: mmdet/models/backbones/resnet.py, plugins
        r"(?:.+\.)?layer\d\.\d+\.nonlocal_block\w*": "it is an mmdetection plugin inside a "
        "residual block, before the shortcut is added; blocks here follow residual blocks",
        # mmdet/models/necks/bfp.py
        r"(?:.+\.)?neck\.(?:\d+\.)?refine": "it is the refinement of Libra R-CNN's BFP, which sees "
        "the mean of all levels of the pyramid; there is no such place here",
    },
    pairwise=(*ALIKE, "gaussian", "concatenation"),
    subsample=("after", "none"),
    scale=("divided", "none", "multiplied"),
    pooled=r"g\.0\.conv\.weight",
    without_statistics="GN",
    known_from={
        "pairwise": "its mode",
        "scale": "use_scale: False is none; True is divided, but multiplied in GCNet and in "
        "mmdetection before #1528",
        "groups": "norm_cfg's num_groups; a GroupNorm here has 32 groups",
    },
    trunk=r"(module\.)?backbone\.",
    # mmdet/models/backbones/resnet.py, which has torchvision's names
    resnet=_torchvision_names(r"(?:module\.)?backbone\."),
    resnet_told_by="style ('pytorch' is STRIDE_IN_1X1 False), dilations, mean, std, to_rgb",
)

# facebookresearch/SlowFast: slowfast/models/nonlocal_helper.py, resnet_helper.py, stem_helper.py;
# facebookresearch/pytorchvideo: pytorchvideo/layers/nonlocal_net.py, which calls the norm "norm"
SLOWFAST = Source(
    block={
        r"conv_(theta|phi|g)\.(weight|bias)": r"\1.\2",
        r"conv_out\.(weight|bias)": r"w_z.\1",
        rf"(?:bn|norm)\.({STATISTICS}|num_batches_tracked)": r"norm.\1",
    },
    place={r"(?:.+\.)?s(\d)\.pathway0_nonlocal(\d+)": r"res\1.\2"},
    pools={(1, 2, 2): "before", (1, 1, 1): "none"},
    scale=("divided",),
    known_from={
        "pairwise": "NONLOCAL.INSTANTIATION: softmax is embedded_gaussian",
        "pool": "NONLOCAL.POOL, or PyTorchVideo's pool_size, where None is 1,1,1; other pools are "
        "not supported",
    },
    trunk=r"s\d+(_fuse)?\.",
    resnet={
        r"s1\.pathway0_stem\.conv\.weight": "stem.conv1.weight",
        rf"s1\.pathway0_stem\.bn\.{STATISTICS}": r"stem.conv1.norm.\1",
        r"s(\d)\.pathway0_res(\d+)\.branch1\.weight": r"res\1.\2.shortcut.weight",
        rf"s(\d)\.pathway0_res(\d+)\.branch1_bn\.{STATISTICS}": r"res\1.\2.shortcut.norm.\3",
        **{
            pattern: ours
            for letter, conv in zip("abc", ("conv1", "conv2", "conv3"), strict=True)
            for pattern, ours in (
                (
                    rf"s(\d)\.pathway0_res(\d+)\.branch2\.{letter}\.weight",
                    rf"res\1.\2.{conv}.weight",
                ),
                (
                    rf"s(\d)\.pathway0_res(\d+)\.branch2\.{letter}_bn\.{STATISTICS}",
                    rf"res\1.\2.{conv}.norm.\3",
                ),
            )
        },
    },
    resnet_told_by="RESNET.STRIDE_1X1, RESNET.SPATIAL_DILATIONS, DATA.MEAN and DATA.STD (of pixels "
    "from 0 to 1; here 0 to 255), DATA.REVERSE_INPUT_CHANNEL",
)

# facebookresearch/video-nonlocal-net, the authors' own: lib/models/nonlocal_helper.py,
# resnet_helper.py, model_builder_video.py. The names are those of SlowFast's older files too.
# _bn_riv is the running variance and not its inverse: lib/utils/bn_helper.py. Its eps, 1.0000001e-5
# because of cuDNN, differs by less than the resolution of float32.
CAFFE2 = Source(
    block={
        r"(theta|phi|g)_w": r"\1.weight",
        r"(theta|phi|g)_b": r"\1.bias",
        r"out_w": "w_z.weight",
        r"out_b": "w_z.bias",
        r"bn_s": "norm.weight",
        r"bn_b": "norm.bias",
        r"bn_rm": "norm.running_mean",
        r"bn_riv": "norm.running_var",
    },
    place={r"nonlocal_conv(\d)_(\d+)": r"res\1.\2"},
    separator="_",
    subsample=("before", "none"),
    out_bias=False,  # NONLOCAL.NO_BIAS
    without_statistics="affine",  # NONLOCAL.USE_AFFINE
    known_from={
        "pairwise": "NONLOCAL.USE_SOFTMAX: True, the default, is embedded_gaussian",
        "subsample": "NONLOCAL.USE_MAXPOOL: True, the default, is before",
        "scale": "NONLOCAL.USE_SCALE: True, the default, is divided",
    },
    trunk=r"(t_)?(conv1|res_conv1|res\d)_",
    # lib/models/resnet_video.py
    resnet_differs="its first max pool is not padded and Detectron2's is, so its features would "
    "differ",
)

# pytorch/vision: torchvision/models/resnet.py, with the same names in its detectors (after
# "backbone.body") and in MoCo (facebookresearch/moco: detection/convert-pretrain.py);
# huggingface/pytorch-image-models: timm/models/resnet.py. Both have no non-local blocks. Images are
# RGB from 0 to 1, less a mean and divided by a standard deviation; here they are from 0 to 255.
TORCHVISION = Source(
    block={},
    place={},
    known_from={},
    trunk=rf"{_BEFORE}(conv\d|bn\d|layer\d)\.",
    resnet=_torchvision_names(_BEFORE),
    resnet_told_by="code: a blurred or average pool in place of a stride (BlurPool, aa) and a "
    "dilation (output_stride) have no tensors, and are not converted",
    resnet_config={
        "MODEL": {
            "PIXEL_MEAN": [123.675, 116.28, 103.53],
            "PIXEL_STD": [58.395, 57.12, 57.375],
            "RESNETS": {"STRIDE_IN_1X1": False},
        },
        "INPUT": {"FORMAT": "RGB"},
    },
)

SOURCES = {
    "mmcv": MMCV,
    "mmaction2": MMCV,
    "slowfast": SLOWFAST,
    "pytorchvideo": SLOWFAST,
    "caffe2": CAFFE2,
    "torchvision": TORCHVISION,
    "timm": TORCHVISION,
}
