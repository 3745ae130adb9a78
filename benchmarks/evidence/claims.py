"""What the tables should show, each claim beside what was measured."""

from collections.abc import Iterator

from .results import Results, aps, bands, mean, row, spread
from .runs import TABLES

GAIN = 20  # points of AP, and no run of the one may be as bad as any of the other
NEAR_CHANCE = 5  # points of AP
KEPT = 0.9  # of its near-band AP
AT_FIRST = 0.001  # of a loss: rounding
WITHIN = "ranges overlap, or above"

Line = list[str]  # what, measured, aim, met


def claims(results: Results) -> Iterator[Line]:
    for against in ("baseline", "control"):
        for task in ("box", "mask"):
            yield gain(results, "A", "embedded_gaussian", against, task)
    for label in ("+1 in backbone", "+4 in head, +1 in backbone"):
        yield gain(results, "E-far", label, "baseline", "keypoint")
    yield from distance(results)
    for letter in ("H", "H-long"):
        for form in TABLES[letter]:
            if form not in ("baseline", "global_context"):
                yield gain(results, letter, form, "global_context", "mask", least=0)
    yield from photographs(results)


def gain(
    results: Results, letter: str, label: str, against: str, task: str, least: float = GAIN
) -> Line:
    """Of one row over another: the means' difference, where the ranges are apart."""
    what = f"{letter}: {label} over {against}, {task} AP"
    aim = f"at least {least}, ranges apart" if least else "ranges apart"
    ours, theirs = (aps(row(results, letter, name), task) for name in (label, against))
    if not (ours and theirs):
        return [what, "not run yet", aim, "–"]
    more, apart = mean(ours) - mean(theirs), min(ours) > max(theirs)
    measured = f"{more:+.1f}, ranges {'apart' if apart else 'overlap'}"
    return [what, f"{measured} ({runs(letter, label, ours)})", aim, yes(more >= least and apart)]


def runs(letter: str, label: str, values: list[float]) -> str:
    return f"{len(values)} of {len(TABLES[letter][label][1])} runs"


def distance(results: Results) -> Iterator[Line]:
    """Mask AP at the farthest band: the baseline's above chance, the block's of its nearest."""
    ours, theirs = (row(results, "F", label) for label in ("embedded_gaussian", "baseline"))
    far = bands(theirs)[-1] if theirs else []
    above = [b["ap"]["mask"] - b["chance"]["mask"] for b in far]
    met = yes(abs(mean(above)) <= NEAR_CHANCE) if above else "–"
    what = "F: baseline in the farthest band, mask AP above chance"
    yield [what, spread(above), f"within {NEAR_CHANCE}", met]

    near, far = (aps(bands(ours)[i], "mask") if ours else [] for i in (0, -1))
    kept = [b / max(a, 1e-9) for a, b in zip(near, far, strict=True)]
    met = yes(mean(kept) >= KEPT) if kept else "–"
    what = "F: embedded_gaussian in the farthest band, of its mask AP in the nearest"
    yield [what, spread(kept, 2), f"at least {KEPT}", met]


def photographs(results: Results) -> Iterator[Line]:
    """Twins on real images: equal at first, and AP within noise of the baseline's or above."""
    ours, theirs = (
        list(results.get(name, {}).values()) for name in ("real_embedded_gaussian", "real_baseline")
    )
    pairs = [(a, b) for a in ours for b in theirs if a["seed"] == b["seed"]]
    more = [a["first"]["total_loss"] - b["first"]["total_loss"] for a, b in pairs]
    met = yes(max(more) <= AT_FIRST) if more else "–"
    what = "Photographs: the block's first loss over its twin's"
    yield [what, spread(more, 4), f"at most {AT_FIRST}", met]
    for task in ("box", "mask"):
        what = f"Photographs: the block's {task} AP over its twin's"
        a, b = aps(ours, task), aps(theirs, task)
        if not (a and b):
            yield [what, "not run yet", WITHIN, "–"]
            continue
        measured = f"{mean(a) - mean(b):+.1f} ({len(a)} and {len(b)} runs)"
        yield [what, measured, WITHIN, yes(max(a) >= min(b))]


def yes(met: bool) -> str:
    return "yes" if met else "no"
