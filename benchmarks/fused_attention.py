"""Measure up to how many pairs of positions fused attention is faster than dense weights.

python -m benchmarks.fused_attention            # measure, and print the rules that follow
python -m benchmarks.fused_attention --write    # also write them into nl_detectron/layers/choice.py

A case is a forward and a backward pass of the embedded Gaussian's sum as in a block, with inputs of
one dtype. It needs a CUDA device.
"""

import argparse
import json
import statistics
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
INF = float("inf")
CHANNELS = (64, 128, 256, 512, 1024)
BUDGET, QUICK_BUDGET = Budget(seconds=0.3, at_least=5), Budget(seconds=0.0, at_least=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the rules into choice.py")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("expected a CUDA device, but torch sees none; run this on a machine with one")
    follow_train_net()
    results = ROOT / "results" / "fused_attention.json"
    write(results, "fused_attention", records(quick=False), quick=False)
    result = json.loads(results.read_text())
    rules = rules_from(result["records"], "{device}, torch {torch}".format(**result["machine"]))
    print(as_code(rules))
    if args.write:
        CHOICE.write_text(with_rules(CHOICE.read_text(), rules))
        print(f"wrote {CHOICE}")


def records(quick: bool) -> Iterator[dict]:
    """Comparisons from 2^14 to 2^26 pairs of one image, and of RoIs; phi and g are pooled.

    2^26 is KEPT_PAIRS, beyond which a dense sum keeps no weights.
    """
    shapes = [(1, 4 * m, m) for m in (64, 128, 256, 512, 1024, 2048, 4096)]
    shapes += [(images, 256, 64) for images in (4, 16, 64, 256)]
    channels = CHANNELS
    if quick:
        shapes, channels = [(1, 16, 4), (3, 16, 4)], (8, 16)
    for d, precision, (images, n, m) in product(channels, cases.DTYPES, shapes):
        case = {"images": images, "n": n, "m": m, "channels": d, "mode": f"train, {precision}"}
        yield compare(__name__, case, WAYS, QUICK_BUDGET if quick else BUDGET, memory=False)


def build(way: str, *, images: int, n: int, m: int, channels: int, mode: str, **_) -> Call:
    """Build the call of a case; ``way`` is a method of the softmax forms, "tiled" or "sdpa"."""
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
    """Derive rules: a sum is fused up to the number of pairs below which fused was never slower.

    The number of pairs is that of one image. Ratios are medians over the numbers of images and over
    the dtypes of a group.

    Args:
        records: comparisons, as of :func:`records`.
        measured_on: card and versions, for the reasons.

    Raises:
        ValueError: there is no comparison in one of the groups of dtypes.
    """
    rules = []
    for dtypes, precisions in ((HALF, ("fp16", "bf16")), (SINGLE, ("fp32",))):
        ratios: dict[int, dict[int, list[float]]] = {}
        for record in records:
            case = record["case"]
            if "ratio" in record and case["mode"].rsplit(", ")[-1] in precisions:
                by_pairs = ratios.setdefault(case["channels"], {})
                values = by_pairs.setdefault(case["n"] * case["m"], [])
                values.append(record["ratio"]["sdpa"]["median"])
        if not ratios:
            raise ValueError(f"expected measurements in {' or '.join(precisions)}, got none")
        group: list[Rule] = []
        for channels, by_pairs in sorted(ratios.items()):
            speeds = sorted((pairs, statistics.median(r)) for pairs, r in by_pairs.items())
            pairs, reason = _limit(speeds)
            if group and group[-1].pairs == pairs:
                group.pop()  # one rule for both
            reason = f"{reason} of {channels} channels ({measured_on})"
            group.append(Rule(channels, dtypes, pairs, reason))
        rules += [*group[:-1], group[-1]._replace(channels=INF)]
    return tuple(rules)


def _limit(speeds: Sequence[tuple[int, float]]) -> tuple[float, str]:
    """Return the most pairs up to which fused is never slower than dense, and a reason.

    Args:
        speeds: numbers of pairs, in increasing order, each with the time of dense over fused.
    """
    slower = next((i for i, (_, ratio) in enumerate(speeds) if ratio < 1), len(speeds))
    most, ratio = speeds[slower - 1] if slower else (0, 0.0)
    fused = f"fused is {ratio:.2f} times as fast at {most:,}"
    if slower == len(speeds):
        return INF, f"{fused} pairs, the most measured,"
    pairs, ratio = speeds[slower]
    dense = f"dense is {1 / ratio:.2f} times as fast at {pairs:,} pairs"
    return most, f"{fused} and {dense}" if slower else f"{dense}, the fewest measured,"


def as_code(rules: Sequence[Rule]) -> str:
    """The lines between the two markers of choice.py."""
    lines = ["RULES = ("]
    for rule in rules:
        channels, pairs = _number(rule.channels), _number(rule.pairs)
        *parts, last = textwrap.wrap(rule.reason, 86)
        reason = [json.dumps(part + " ") for part in parts] + [json.dumps(last) + ","]
        dtypes = "HALF" if rule.dtypes == HALF else "SINGLE"
        entries = [f"{channels},", f"{dtypes},", f"{pairs},", *reason]
        lines += ["    Rule(", *(f"        {entry}" for entry in entries), "    ),"]
    return "\n".join([*lines, ")\n"])


def _number(value: float) -> str:
    if value == INF:
        return 'float("inf")'
    power = int(value).bit_length() - 1
    return f"2**{power}" if value > 1024 and value == 2**power else str(value)


def with_rules(source: str, rules: Sequence[Rule]) -> str:
    """Replace the rules in the source of choice.py.

    Raises:
        ValueError: the source lacks the markers.
    """
    before, begin, rest = source.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"expected the lines {BEGIN.strip()!r} and {END.strip()!r} in the source")
    return f"{before}{begin}{as_code(rules)}{end}{after}"


if __name__ == "__main__":
    main()
