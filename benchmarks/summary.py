"""The summary of the results: the worst case of each aim."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .growth import curves, exponent

SOFTMAX = ("gaussian", "embedded_gaussian")
LINEAR = ("dot_product", "concatenation", "global_context")


class Line(NamedTuple):
    """A row of the summary."""

    what: str
    value: float
    case: str
    least: bool  # whether the value should be at least, rather than at most, the aim
    aim: float

    @property
    def cells(self) -> list[str]:
        bound = "at least" if self.least else "at most"
        met = "yes" if (self.value >= self.aim) == self.least or self.value == self.aim else "no"
        return [self.what, f"{self.value:.2f}", self.case, f"{bound} {self.aim:g}", met]


HEADS = ["", "measured", "case", "aim", "met"]


def lines(results: dict[str, list[dict]]) -> Iterator[Line]:
    """The worst case of each aim, for the benchmarks that have results."""
    summaries = {"op": _op, "block": _block, "growth": _growth, "limit": _limit}
    for name, summarize in summaries.items():
        if name in results:
            yield from summarize(results[name])
    yield from _models(results.get("models", []))


def _op(records: list[dict]) -> Iterator[Line]:
    def speed(r: dict) -> float:
        return r["ratio"]["forward"]["median"]

    records = [r for r in records if "ratio" in r and "fp16" not in r["case"]["mode"]]
    for form, at_res4, at_res3 in (("dot_product", 6, 40), ("concatenation", 6, 12)):
        for shape, aim in (("res4", at_res4), ("res3", at_res3)):
            cases = _where(records, form=(form,), shape=(shape,), pooled=(False,), mode=("train",))
            yield from _worst(f"{form} against dense, train, unpooled", cases, speed, True, aim)
    for mode, aim in (("forward", 1.5), ("train", 1.15)):
        cases = _where(records, form=SOFTMAX, shape=("res4", "res3"), pooled=(False,), mode=(mode,))
        yield from _worst(f"softmax forms against dense, {mode}, unpooled", cases, speed, True, aim)
    yield from _worst("every sum against dense", records, speed, True, 0.95)
    cases = _where(records, shape=("res3",), pooled=(False,), mode=("train",))
    yield from _worst("peak memory over dense's, train", cases, _memory, False, 0.25)


def _memory(r: dict) -> float:
    return r["peak_bytes"]["forward"] / r["peak_bytes"]["dense"]


def _block(records: list[dict]) -> Iterator[Line]:
    def same(r: dict) -> float:
        return r["ratio"]["after" if r["case"]["pooled"] else "none"]["median"]

    trained = _where([r for r in records if "ratio" in r], mode=("train",))
    yield from _worst("the block against mmcv's, train", trained, same, True, 1.0)
    cases = _where(trained, form=("dot_product",), shape=("res4",), pooled=(False,))
    yield from _worst("the block against mmcv's, train", cases, same, True, 3.0)
    cases = _where(trained, form=("embedded_gaussian",), shape=("res4",), pooled=(True,))
    before = "the default block against mmcv's pooled one, train"
    yield from _worst(before, cases, lambda r: r["ratio"]["before"]["median"], True, 1.5)


def _growth(records: list[dict]) -> Iterator[Line]:
    exponents = []
    for (form, way), curve in curves(records).items():
        if way == "forward":
            sizes = [r["case"]["positions"] for r in curve]
            time = exponent(sizes, [r["seconds"]["median"] for r in curve])
            memory = exponent(sizes, [r["peak_bytes"] for r in curve])
            exponents.append({"case": {"form": form}, "time": time, "memory": memory})
    linear = _where(exponents, form=LINEAR)
    yield from _worst("exponent of time", linear, lambda r: r["time"], False, 1.15)
    yield from _worst("exponent of memory", exponents, lambda r: r["memory"], False, 1.1)


def _limit(records: list[dict]) -> Iterator[Line]:
    def share(r: dict) -> float:
        return r["share"]["forward"]["median"]

    yield from _worst("share of sgemm's rate", records, share, True, 0.6)


def _models(records: list[dict]) -> Iterator[Line]:
    for r in records:
        if "ratio" not in r:
            continue
        most = 1.15 if r["case"]["model"].startswith("Keypoint") else 1.045
        time, peaks = r["ratio"]["baseline"]["median"], r["peak_bytes"]
        case = {"model": r["case"]["model"], "mode": r["case"]["mode"]}
        yield Line("model's time over the baseline's", time, _describe(case), False, most)
        if most == 1.045:
            memory = peaks["nonlocal"] / peaks["baseline"]
            what = "model's peak memory over the baseline's"
            yield Line(what, memory, _describe(case), False, 1.04)


def _where(records: Iterable[dict], **wanted: tuple) -> list[dict]:
    return [r for r in records if all(r["case"][k] in values for k, values in wanted.items())]


def _worst(
    what: str, records: list[dict], read: Callable[[dict], float], least: bool, aim: float
) -> Iterator[Line]:
    if records:
        r = (min if least else max)(records, key=read)
        yield Line(what, read(r), _describe(r["case"]), least, aim)


def _describe(case: dict) -> str:
    parts = [case[k] for k in ("shape", "form", "model", "mode") if k in case]
    if "pooled" in case:
        parts.append("pooled" if case["pooled"] else "unpooled")
    return ", ".join(parts)
