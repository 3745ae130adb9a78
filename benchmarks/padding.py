"""What MODEL.NONLOCAL.MASK_PADDING changes and costs: ``python -m benchmarks.padding``.

An image is computed alone and in a batch with a larger one, by blocks and by the demo's detector,
all with random weights. The table of blocks has the largest difference between the two results over
the largest |z - x|, and the time of a training step of a block with the key on over that with it
off, on the same padded batch. A second table counts the kernels of a block on a GPU.
"""

import argparse
import time
from itertools import product

import torch
from detectron2.structures import ImageList
from torch import nn

from nl_detectron.engine import load_config
from nl_detectron.layers import PAIRWISE
from nl_detectron.modeling import build_model, find_blocks

from .bench_padding import CHANNELS, HEIGHT, WAYS, WIDTH, build, kernels, random_block
from .timing import Budget, spread, take_turns

# Maps of res4: of an image of 800 x 1000 pixels, in a batch with one of 800 x 1333.
IMAGE, MATE = (HEIGHT, 63), (HEIGHT, WIDTH)
DEMO = "configs/Demo/relay_mask_rcnn_nl.yaml"


def block_row(form: str, seconds: float, device: str) -> str:
    block = random_block(form).to(device)
    sizes = [IMAGE, MATE]
    alone, mate = (torch.randn(CHANNELS, *s, device=device).relu() for s in sizes)
    x = ImageList.from_tensors([alone, mate]).tensor
    with torch.no_grad():
        expected = block(alone[None])[0]
        scale = (expected - alone).abs().max()
        changes = {
            on: (
                (block(x, on and sizes)[0, :, : IMAGE[0], : IMAGE[1]] - expected).abs().max()
                / scale
            )
            for on in (None, True)
        }
    calls = {way: build(way, form=form, mode="train", device=device) for way in WAYS}
    clock = time.process_time if device == "cpu" else time.perf_counter
    turns, _ = take_turns(calls, Budget(seconds, at_least=5), clock)
    ratio = spread([turn["on"] / turn["off"] for turn in turns])
    return (
        f"| {changes[None]:.2g} | {changes[True]:.1g} | {ratio['median']:.3f} "
        f"({ratio['q1']:.3f} to {ratio['q3']:.3f}) |"
    )


def kernels_row(form: str) -> str:
    counts = (kernels(form, mode, n) for mode, n in product(("forward", "train"), (2, 8)))
    return "| " + " | ".join(f"{off} / {on}" for off, on in counts) + " |"


def detector_changes() -> dict[str, float]:
    """Largest difference of the backbone's features of an image, over their largest value, in the
    corner that is farthest from the padding."""
    changes = {}
    for name, opts in {
        "no block": ["MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", PLACES, "[]"],
        "off": [],
        "on": ["MODEL.NONLOCAL.MASK_PADDING", "True"],
    }.items():
        torch.manual_seed(0)
        model = build_model(load_config(DEMO, ["MODEL.DEVICE", "cpu", *opts])).eval()
        for block in find_blocks(model).values():
            nn.init.normal_(block.w_z.weight, std=0.05)
        image, mate = (torch.rand(3, *size) * 255 for size in ((192, 256), (384, 448)))
        found = []
        for batch in ([image], [image, mate]):
            images = model.preprocess_image([{"image": one} for one in batch])
            with torch.no_grad():
                found.append(model.backbone(images.tensor)["p4"][0, :, :4, :4])
        changes[name] = ((found[0] - found[1]).abs().max() / found[0].abs().max()).item()
    return changes


PLACES = "MODEL.NONLOCAL.BACKBONE.AFTER"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--device", default="cpu", help="device of the blocks (cpu)")
    parser.add_argument("--seconds", type=float, default=30.0, help="for each function (30)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| function | change, off | change, on | time of on / off (quartiles) |")
    print("|---|---|---|---|")
    for form in PAIRWISE:
        print(f"| `{form}`", block_row(form, args.seconds, args.device), flush=True)
    print("\nKernels with the key off / on, by mode and number of images:\n")
    print("| function | forward, 2 | forward, 8 | train, 2 | train, 8 |\n|---|---|---|---|---|")
    for form in PAIRWISE:
        print(f"| `{form}`", kernels_row(form), flush=True)
    print(f"\np4 of {DEMO} at random weights, far from the padding:")
    for name, change in detector_changes().items():
        print(f"  {name}: {change:.2g}")


if __name__ == "__main__":
    main()
