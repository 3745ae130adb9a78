"""Exported blocks, backbones and detectors against the models they were made of, at other sizes."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.ops import batched_nms

from nl_detectron.engine import load_config
from nl_detectron.errors import UsageError
from nl_detectron.export import FORMATS
from nl_detectron.export.comparison import compare_outputs, nms_as_traced
from nl_detectron.export.parts import ExportPart, make_images
from nl_detectron.layers import PAIRWISE, SUBSAMPLES, NonLocalBlock
from nl_detectron.modeling import build_model, find_blocks
from tests.helpers import randomise
from tools.export_model import main

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit"),  # deprecated, as all of TorchScript
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
WITH_ONNX = pytest.mark.skipif(
    any(importlib.util.find_spec(p) is None for p in FORMATS["onnx"].packages),
    reason="needs requirements-export.txt",
)
EACH_FORMAT = ["torchscript", "torch_export", pytest.param("onnx", marks=WITH_ONNX)]


class Several(nn.Module):
    """Modules on one input, an output each."""

    def __init__(self, *modules: nn.Module):
        super().__init__()
        self.each = nn.ModuleList(modules)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(module(x) for module in self.each)


def exported(part: ExportPart, name: str, folder: Path):
    """Written and read again."""
    form = FORMATS[name]
    with torch.no_grad():
        form.write(part, folder / form.file)
    return form.read(folder / form.file)


# --- blocks ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH_FORMAT)
@pytest.mark.parametrize("subsample", SUBSAMPLES)
def test_each_form_is_the_same_at_every_size_whichever_way_it_sums(
    subsample, name, tmp_path, monkeypatch
):
    blocks = [randomise(NonLocalBlock(8, pairwise=f, subsample=subsample)) for f in PAIRWISE]
    images = [torch.randn(1, 8, *size) for size in ((12, 16), (20, 14), (8, 8))]
    part = ExportPart(Several(*blocks).eval(), list(PAIRWISE), images, step=2, min_steps=2)

    def take(fast):
        for block in blocks:
            monkeypatch.setattr(block.pairwise, "prefers_fused", lambda sizes: fast)

    # a traced graph has the way of its example; in an exported one there is no choice
    for example in (False, True) if name == "torchscript" else (False,):
        take(example)
        run = exported(part, name, tmp_path)
        for eager in (False, True):
            take(eager)
            assert len(list(compare_outputs(part, run))) == 3
            assert not any(torch.equal(z, images[0]) for z in run(images[0]))


def test_a_block_on_regions_is_traced_for_any_number_of_them():
    block = randomise(NonLocalBlock(8)).eval()
    traced = torch.jit.trace(block, (torch.randn(3, 8, 6, 6),), check_trace=False)
    for count in (0, 1, 7):
        x = torch.randn(count, 8, 6, 6)
        torch.testing.assert_close(traced(x), block(x))


def test_a_traced_detector_is_held_against_the_suppression_that_it_has():
    corners = torch.rand(3000, 2) * 600
    boxes = torch.cat([corners, corners + 8 + 64 * torch.rand(3000, 2)], dim=1)
    scores, classes = torch.rand(3000).mul(50).round(), torch.randint(80, (3000,))  # many equal
    traced = torch.jit.trace(
        lambda *x: batched_nms(*x, 0.5), (boxes[:9], scores[:9], classes[:9]), check_trace=False
    )
    kept = traced(boxes, scores, classes)
    assert not torch.equal(batched_nms(boxes, scores, classes, 0.5), kept)
    with nms_as_traced():
        assert torch.equal(batched_nms(boxes, scores, classes, 0.5), kept)


# --- models, by the tool ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """The tool's words for a thin model of a Demo config, each with random weights."""
    made = {}

    def of(config, *more) -> list[str]:
        opts = ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "96", *more]
        opts += ["MODEL.RESNETS.DEPTH", "18"]  # of few layers, as each takes its time to export
        opts += ["MODEL.PIXEL_STD", "[1e4, 1e4, 1e4]"]  # features grow from block to block
        key = (config, *more)
        if key not in made:
            torch.manual_seed(1)
            model = build_model(load_config(config, opts))
            for block in find_blocks(model).values():
                randomise(block, std=0.1)
            made[key] = tmp_path_factory.mktemp("weights") / "model.pth"
            torch.save({"model": model.state_dict()}, made[key])
        return ["--config-file", config, "--opts", *opts, "MODEL.WEIGHTS", str(made[key])]

    return of


MASK = str(ROOT / "configs/Demo/relay_mask_rcnn_nl.yaml")
KEYPOINT = str(ROOT / "configs/Demo/relay_keypoint_rcnn_nl.yaml")
HEAD = [
    *("MODEL.ROI_KEYPOINT_HEAD.NAME", "NonLocalKeypointHead"),
    *("MODEL.NONLOCAL.KEYPOINT_HEAD.AFTER", "[2]"),
]


def export(tmp_path, words, name, *more):
    main(["--format", name, "--output", str(tmp_path), *more, *words])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "more", "outputs"),
    [(MASK, [], "pred_masks"), (KEYPOINT, HEAD, "pred_keypoint_heatmaps, pred_keypoints")],
    ids=["mask", "keypoint"],
)
def test_a_whole_detector_is_traced(config, more, outputs, words, tmp_path, capsys):
    export(
        tmp_path, words(config, *more, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.1"), "torchscript"
    )
    first, *sizes = capsys.readouterr().out.splitlines()
    outputs = f"pred_boxes, pred_classes, {outputs}, scores, image_size"
    assert first.endswith(f"detector.ts: (3, H, W), RGB of 0 to 255 -> {outputs}")
    assert [line.split(":")[0].strip() for line in sizes] == ["96 x 128", "120 x 96", "48 x 72"]
    # the graph has PyTorch's 1x1 convs, where eager mode on the CPU has products by BLAS
    differences = [float(line.split("largest difference ")[1]) for line in sizes]
    assert max(differences) < 1e-5
    assert not all(" 0 detections" in line for line in sizes)
    nothing = torch.jit.load(tmp_path / "detector.ts")(torch.zeros(3, 50, 60))
    assert nothing[-1].tolist() == [50, 60]


@pytest.mark.slow
def test_a_traced_detector_masks_the_padding_of_each_size(words, tmp_path, capsys):
    threshold = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.1"]
    found = {}
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, 70, 101))).float()
    for masked in ("True", "False"):
        opts = [*threshold, "MODEL.NONLOCAL.MASK_PADDING", masked]
        export(tmp_path, words(MASK, *opts), "torchscript")  # compares at three sizes
        found[masked] = torch.jit.load(tmp_path / "detector.ts")(image)
    boxes = [found[masked][0] for masked in found]
    assert boxes[0].shape != boxes[1].shape or not torch.allclose(*boxes)


BACKBONE = "(1, 3, H, W), multiples of 32 from 128, RGB of 0 to 255 -> p3, p4, p5, p6"


@pytest.mark.slow
@WITH_ONNX
def test_a_backbone_is_exported_to_onnx(words, tmp_path, capsys):
    export(tmp_path, words(MASK), "onnx")
    first, *sizes = capsys.readouterr().out.splitlines()
    assert first.endswith(f"backbone.onnx: {BACKBONE}") and len(sizes) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["backbone.onnx"]  # its weights in it


@pytest.mark.slow
def test_a_backbone_is_exported_for_the_sizes_that_its_fpn_can_take(words, tmp_path, capsys):
    export(tmp_path, words(MASK), "torch_export")
    first, *sizes = capsys.readouterr().out.splitlines()
    assert first.endswith(f"backbone.pt2: {BACKBONE}") and len(sizes) == 3
    # PyTorch's error, which torch 2.8 had another kind and message for
    with pytest.raises((AssertionError, RuntimeError), match=r"Guard failed|to be of the form 32"):
        FORMATS["torch_export"].read(tmp_path / "backbone.pt2")(torch.rand(1, 3, 160, 230))


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_detector_that_found_nothing_was_not_checked(words, tmp_path):
    with pytest.raises(UsageError, match="nothing to compare; give --image"):
        export(tmp_path, words(MASK, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "1.0"), "torchscript")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z: z + 2e-4 * z.abs().max(), r"z differs from the model's by 2\.0e-04 of its"),
        (lambda z: z * float("nan"), "z differs from the model's by nan"),
        (lambda z: z[..., :2], r"z is \(1, 8, 4, 2\), but the model's is \(1, 8, 4, 4\)"),
    ],
)
def test_another_output_is_an_error(change, message):
    part = ExportPart(Several(nn.Identity()), ["z"], [torch.randn(1, 8, 4, 4)])
    assert len(list(compare_outputs(part, lambda x: (x * (1 + 5e-5),)))) == 1
    with pytest.raises(UsageError, match=f"at 4 x 4 {message}"):
        list(compare_outputs(part, lambda x: (change(x),)))


FIRST = ["MODEL.NONLOCAL.BACKBONE.AFTER", "['res2.0']"]


@pytest.mark.slow
def test_a_form_that_cannot_be_written_down_says_why(words, tmp_path, monkeypatch):
    form = PAIRWISE["embedded_gaussian"]
    monkeypatch.setattr(form, "weights", lambda self, a, b, valid: a @ b.mT if a.sum() > 0 else b)
    with pytest.raises(UsageError, match="this model cannot be exported as torch_export: "):
        export(tmp_path, words(MASK, *FIRST), "torch_export")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "opts", "message"),
    [
        ("torchscript", ["MODEL.WEIGHTS", ""], "MODEL.WEIGHTS is empty"),
        ("torchscript", ["MODEL.MASK_ON", "False", "MODEL.KEYPOINT_ON", "True"], "lacks"),
        (
            "torchscript",
            ["MODEL.META_ARCHITECTURE", "ProposalNetwork"],
            "this is ProposalNetwork with .* take the backbone of any model",
        ),
    ],
)
def test_what_cannot_be_exported_says_so(name, opts, message, words, tmp_path):
    with pytest.raises(UsageError, match=message):
        export(tmp_path / "new", [*words(MASK), *opts], name)
    assert not (tmp_path / "new").exists()


def test_a_missing_package_is_named(words, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs onnx and .* -r requirements-export\.txt"):
        export(tmp_path, words(MASK), "onnx")


@pytest.mark.parametrize("form", ["RGB", "BGR"])
def test_an_image_is_checked_on_at_three_sizes_in_the_models_format(form, tmp_path):
    Image.new("RGB", (60, 40), (200, 100, 50)).save(tmp_path / "image.png")
    cfg = load_config(MASK, ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "96"])
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.FORMAT = form
    images = make_images(cfg, str(tmp_path / "image.png"))
    assert [tuple(image.shape) for image in images] == [(3, 96, 128), (3, 120, 96), (3, 48, 72)]
    colour = torch.tensor([200.0, 100, 50] if form == "RGB" else [50.0, 100, 200])
    for image in images:
        torch.testing.assert_close(image, colour[:, None, None].expand_as(image), rtol=1e-4, atol=0)


@pytest.mark.slow
def test_an_image_that_is_none_is_reported(words, tmp_path):
    (tmp_path / "image.png").write_text("text")
    with pytest.raises(UsageError, match=r"image\.png: cannot be read"):
        export(tmp_path, words(MASK), "torchscript", "--image", str(tmp_path / "image.png"))
