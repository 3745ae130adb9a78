"""Measure from how many pairs of positions on fused attention is faster than dense weights.

python -m benchmarks.fused_attention            # measure, and print the rules that follow
python -m benchmarks.fused_attention --write    # and put them into nl_detectron/layers/choice.py

A case is a forward and a backward pass of the embedded Gaussian's sum as a block does it, over
inputs in one dtype. It needs a CUDA device.
"""

import argparse
import json
import textwrap
from collections.abc import Iterator, Sequence
from itertools import product

import torch

from nl_detectron.layers.choice import HALF, SINGLE, Rule
from nl_detectron.layers.pairwise import EmbeddedGaussian

from . import cases
from .comparison import compare
from .machine import follow_train_net
from .run import ROOT, write
from .timing import Budget, Call

CHOICE = ROOT.parent / "nl_detectron" / "layers" / "choice.py"
BEGIN, END = "# begin: rules\n", "# end: rules\n"
WAYS = ("tiled", "sdpa")
CHANNELS = (64, 128, 256, 512, 1024)
BUDGET, QUICK_BUDGET = Budget(seconds=0.3, at_least=5), Budget(seconds=0.0, at_least=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="the rules, into choice.py")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("expected a CUDA device, and torch sees none; run this on a machine with one")
    follow_train_net()
    results = ROOT / "results" / "fused_attention.json"
    write(results, "fused_attention", records(quick=False), quick=False)
    found = json.loads(results.read_text())
    rules = rules_from(found["records"], "{device}, torch {torch}".format(**found["machine"]))
    print(as_code(rules))
    if args.write:
        CHOICE.write_text(with_rules(CHOICE.read_text(), rules))
        print(f"wrote {CHOICE}")


def records(quick: bool) -> Iterator[dict]:
    """From 2^14 pairs to 2^26 (KEPT_PAIRS, beyond which a dense sum keeps no weights), of one image
    and of RoIs, pooled both."""
    shapes = [(1, 4 * m, m) for m in (64, 128, 256, 512, 1024, 2048, 4096)]
    shapes += [(images, 256, 64) for images in (4, 16, 64, 256)]
    channels = CHANNELS
    if quick:
        shapes, channels = [(1, 16, 4), (3, 16, 4)], (8, 16)
    for d, precision, (images, n, m) in product(channels, cases.DTYPES, shapes):
        case = {"images": images, "n": n, "m": m, "channels": d, "mode": f"train, {precision}"}
        yield compare(__name__, case, WAYS, QUICK_BUDGET if quick else BUDGET, memory=False)


def build(way: str, *, images: int, n: int, m: int, channels: int, mode: str, **_) -> Call:
    """``way`` is a method of the softmax forms, ``tiled`` or ``sdpa``."""
    torch.manual_seed(0)
    pairwise = EmbeddedGaussian(channels)
    pairwise.remakes_weights = True  # as in a block
    compute = getattr(pairwise, way)
    options = {"device": cases.DEVICE, "dtype": cases.dtype({"mode": mode})}
    theta, phi, g, dy = (torch.randn(images, rows, channels, **options) for rows in (n, m, m, n))

    def forward():
        with torch.no_grad():
            return (compute(theta, phi, g),)

    def train():
        y = compute(theta, phi, g)
        return (y.detach(), *torch.autograd.grad(y, inputs, dy))

    if not cases.trains({"mode": mode}):
        return forward
    inputs = [t.requires_grad_() for t in (theta, phi, g)]
    return train


def small(case: dict) -> dict:
    return {**case, "images": 1, "n": 16, "m": 4}


def rules_from(records: Sequence[dict], measured_on: str) -> tuple[Rule, ...]:
    """Rules by which a sum is fused where that is faster at so many pairs and at all more.

    Args:
        records: of :func:`records`.
        measured_on: card and versions, for the reasons.

    Raises:
        ValueError: no comparison in one of the groups of dtypes.
    """
    rules = []
    for dtypes, precisions in ((HALF, ("fp16", "bf16")), (SINGLE, ("fp32",))):
        measured = [
            (r["case"], r["ratio"]["sdpa"]["median"])
            for r in records
            if "ratio" in r and r["case"]["mode"].rsplit(", ")[-1] in precisions
        ]
        if not measured:
            raise ValueError(f"expected measurements in {' or '.join(precisions)}, got none")
        of_group: list[Rule] = []
        for channels in sorted({case["channels"] for case, _ in measured}):
            speeds = [
                (case["images"] * case["n"] * case["m"], ratio)
                for case, ratio in measured
                if case["channels"] == channels
            ]
            pairs, reason = _limit(speeds, channels)
            if of_group and of_group[-1].pairs == pairs:
                of_group.pop()  # one rule for both
            of_group.append(Rule(channels, dtypes, pairs, f"{reason} ({measured_on})"))
        rules += [*of_group[:-1], of_group[-1]._replace(channels=float("inf"))]
    return tuple(rules)


def _limit(speeds: list[tuple[int, float]], channels: int) -> tuple[int, str]:
    """Return the largest number of pairs at which dense is faster, and by how much, as a reason.

    Args:
        speeds: numbers of pairs, each with the time of dense over that of fused.
    """
    limit = max((pairs for pairs, ratio in speeds if ratio < 1), default=0)
    above = [(pairs, ratio) for pairs, ratio in speeds if pairs > limit]
    fused = "fused is {1:.2f} times as fast at {0:,} pairs".format(*min(above)) if above else ""
    if not limit:
        return 0, f"{fused} of {channels} channels, the fewest measured"
    dense = 1 / min(ratio for pairs, ratio in speeds if pairs == limit)
    reason = f"dense is {dense:.2f} times as fast at {limit:,} pairs of {channels} channels"
    return limit, f"{reason}, {fused or 'the most measured'}"


def as_code(rules: Sequence[Rule]) -> str:
    """What choice.py has between its two markers."""
    lines = ["RULES = ("]
    for rule in rules:
        channels = 'float("inf")' if rule.channels == float("inf") else str(rule.channels)
        power = rule.pairs.bit_length() - 1
        pairs = f"2**{power}" if rule.pairs > 1 and rule.pairs == 2**power else str(rule.pairs)
        *parts, last = textwrap.wrap(rule.reason, 86)
        reason = [json.dumps(part + " ") for part in parts] + [json.dumps(last) + ","]
        dtypes = "HALF" if rule.dtypes == HALF else "SINGLE"
        entries = [f"{channels},", f"{dtypes},", f"{pairs},", *reason]
        lines += ["    Rule(", *(f"        {entry}" for entry in entries), "    ),"]
    return "\n".join([*lines, ")\n"])


def with_rules(source: str, rules: Sequence[Rule]) -> str:
    """The source of choice.py with other rules.

    Raises:
        ValueError: the markers are not there.
    """
    before, begin, rest = source.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"expected the lines {BEGIN.strip()!r} and {END.strip()!r} in the source")
    return f"{before}{begin}{as_code(rules)}{end}{after}"


if __name__ == "__main__":
    main()
