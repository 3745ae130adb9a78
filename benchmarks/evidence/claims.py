"""The claims that the tables are to support, each with the measured value."""

from collections.abc import Iterator

from .results import Results, aps, bands, mean, row, spread
from .runs import TABLES

GAIN = 20  # points of AP; the ranges of the runs must not overlap either
NEAR_CHANCE = 5  # points of AP
KEPT = 0.9  # share of the AP in the nearest band
FIRST_LOSS = 0.001  # difference of first losses by rounding
WITHIN = "ranges overlap, or above"

Line = list[str]  # claim, measured, aim, met


def claims(results: Results) -> Iterator[Line]:
    for against in ("baseline", "control"):
        for task in ("box", "mask"):
            yield gain(results, "A", "embedded_gaussian", against, task)
    for label in ("+1 in backbone", "+4 in head, +1 in backbone"):
        yield gain(results, "E-far", label, "baseline", "keypoint")
    yield from distance(results)
    for form in TABLES["H"]:
        if form not in ("baseline", "global_context"):
            yield gain(results, "H", form, "global_context", "mask", least=0)
    yield from photographs(results)


def gain(
    results: Results, letter: str, label: str, against: str, task: str, least: float = GAIN
) -> Line:
    """The gain of one row over another: the difference of means, and whether ranges are apart."""
    what = f"{letter}: {label} over {against}, {task} AP"
    aim = f"at least {least}, ranges apart" if least else "ranges apart"
    values, reference = (aps(row(results, letter, name), task) for name in (label, against))
    if not (values and reference):
        return [what, "not run yet", aim, "–"]
    more, apart = mean(values) - mean(reference), min(values) > max(reference)
    measured = f"{more:+.1f}, ranges {'apart' if apart else 'overlap'}"
    count = count_runs(letter, label, values)
    return [what, f"{measured} ({count})", aim, yes_or_no(more >= least and apart)]


def count_runs(letter: str, label: str, values: list[float]) -> str:
    return f"{len(values)} of {len(TABLES[letter][label][1])} runs"


def distance(results: Results) -> Iterator[Line]:
    """Mask AP in the farthest band: that of the baseline above chance, and that of the block as a
    share of its AP in the nearest band."""
    block, baseline = (row(results, "F", label) for label in ("embedded_gaussian", "baseline"))
    far = bands(baseline)[-1] if baseline else []
    above = [b["ap"]["mask"] - b["chance"]["mask"] for b in far]
    met = yes_or_no(abs(mean(above)) <= NEAR_CHANCE) if above else "–"
    what = "F: baseline, mask AP above chance in the farthest band"
    yield [what, spread(above), f"within {NEAR_CHANCE}", met]

    near, far = (aps(bands(block)[i], "mask") if block else [] for i in (0, -1))
    kept = [b / max(a, 1e-9) for a, b in zip(near, far, strict=True)]
    met = yes_or_no(mean(kept) >= KEPT) if kept else "–"
    what = "F: embedded_gaussian, mask AP in the farthest band as a share of the nearest band's"
    yield [what, spread(kept, 2), f"at least {KEPT}", met]


def photographs(results: Results) -> Iterator[Line]:
    """Real images: the block has the baseline's first loss, and its AP within noise, or more."""
    block, baseline = (
        list(results.get(name, {}).values()) for name in ("real_embedded_gaussian", "real_baseline")
    )
    pairs = [(a, b) for a in block for b in baseline if a["seed"] == b["seed"]]
    more = [a["first"]["total_loss"] - b["first"]["total_loss"] for a, b in pairs]
    met = yes_or_no(max(more) <= FIRST_LOSS) if more else "–"
    what = "Photographs: embedded_gaussian over baseline, first loss"
    yield [what, spread(more, 4), f"at most {FIRST_LOSS}", met]
    for task in ("box", "mask"):
        what = f"Photographs: embedded_gaussian over baseline, {task} AP"
        a, b = aps(block, task), aps(baseline, task)
        if not (a and b):
            yield [what, "not run yet", WITHIN, "–"]
            continue
        measured = f"{mean(a) - mean(b):+.1f} ({len(a)} and {len(b)} runs)"
        yield [what, measured, WITHIN, yes_or_no(max(a) >= min(b))]


def yes_or_no(met: bool) -> str:
    return "yes" if met else "no"
