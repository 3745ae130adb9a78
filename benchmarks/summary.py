"""The results in a dozen lines, each beside what we aim at."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .growth import curves, exponent

SOFTMAX = ("gaussian", "embedded_gaussian")
LINEAR = ("dot_product", "concatenation", "global_context")


class Line(NamedTuple):
    """What, the figure, its case, and whether it should be at least or at most the aim."""

    what: str
    value: float
    case: str
    least: bool
    aim: float

    @property
    def cells(self) -> list[str]:
        word = "at least" if self.least else "at most"
        met = "yes" if (self.value >= self.aim) == self.least or self.value == self.aim else "no"
        return [self.what, f"{self.value:.2f}", self.case, f"{word} {self.aim:g}", met]


HEADS = ["", "measured", "case", "aim", "met"]


def lines(results: dict[str, list[dict]]) -> Iterator[Line]:
    """Of the benchmarks that ran: the worst case of each aim."""
    for name, of in {"op": _op, "block": _block, "growth": _growth, "limit": _limit}.items():
        if name in results:
            yield from of(results[name])
    yield from _models(results.get("models", []))


def _op(records: list[dict]) -> Iterator[Line]:
    def speed(r: dict) -> float:
        return r["ratio"]["forward"]["median"]

    records = [r for r in records if "ratio" in r and "fp16" not in r["case"]["mode"]]
    for form, at_res4, at_res3 in (("dot_product", 6, 40), ("concatenation", 6, 12)):
        for shape, aim in (("res4", at_res4), ("res3", at_res3)):
            found = _where(records, form=(form,), shape=(shape,), pooled=(False,), mode=("train",))
            yield from _worst(f"{form} against dense, train, all", found, speed, True, aim)
    for mode, aim in (("forward", 1.5), ("train", 1.15)):
        found = _where(records, form=SOFTMAX, shape=("res4", "res3"), pooled=(False,), mode=(mode,))
        yield from _worst(f"softmax forms against dense, {mode}, all", found, speed, True, aim)
    yield from _worst("every sum against dense", records, speed, True, 0.95)
    found = _where(records, shape=("res3",), pooled=(False,), mode=("train",))
    yield from _worst("peak memory of that of dense, train", found, _memory, False, 0.25)


def _memory(r: dict) -> float:
    return r["peak_bytes"]["forward"] / r["peak_bytes"]["dense"]


def _block(records: list[dict]) -> Iterator[Line]:
    def same(r: dict) -> float:
        return r["ratio"]["after" if r["case"]["pooled"] else "none"]["median"]

    trained = _where([r for r in records if "ratio" in r], mode=("train",))
    yield from _worst("the block against mmcv's, train", trained, same, True, 1.0)
    found = _where(trained, form=("dot_product",), shape=("res4",), pooled=(False,))
    yield from _worst("the block against mmcv's, train", found, same, True, 3.0)
    found = _where(trained, form=("embedded_gaussian",), shape=("res4",), pooled=(True,))
    before = "the block as it is by default against mmcv's pooled, train"
    yield from _worst(before, found, lambda r: r["ratio"]["before"]["median"], True, 1.5)


def _growth(records: list[dict]) -> Iterator[Line]:
    found = []
    for (form, way), curve in curves(records).items():
        if way == "forward":
            sizes = [r["case"]["positions"] for r in curve]
            time = exponent(sizes, [r["seconds"]["median"] for r in curve])
            memory = exponent(sizes, [r["peak_bytes"] for r in curve])
            found.append({"case": {"form": form}, "time": time, "memory": memory})
    linear = _where(found, form=LINEAR)
    yield from _worst("exponent of time", linear, lambda r: r["time"], False, 1.15)
    yield from _worst("exponent of memory", found, lambda r: r["memory"], False, 1.1)


def _limit(records: list[dict]) -> Iterator[Line]:
    def share(r: dict) -> float:
        return r["share"]["forward"]["median"]

    yield from _worst("share of sgemm's rate", records, share, True, 0.6)


def _models(records: list[dict]) -> Iterator[Line]:
    for r in records:
        if "ratio" not in r:
            continue
        more = 1.15 if r["case"]["model"].startswith("Keypoint") else 1.05
        time, peaks = r["ratio"]["baseline"]["median"], r["peak_bytes"]
        case = {"model": r["case"]["model"], "mode": r["case"]["mode"]}
        yield Line("time of the baseline's", time, _say(case), False, more)
        if more == 1.05:
            memory = peaks["nonlocal"] / peaks["baseline"]
            yield Line("peak memory of the baseline's", memory, _say(case), False, 1.03)


def _where(records: Iterable[dict], **wanted: tuple) -> list[dict]:
    return [r for r in records if all(r["case"][k] in values for k, values in wanted.items())]


def _worst(
    what: str, records: list[dict], read: Callable[[dict], float], least: bool, aim: float
) -> Iterator[Line]:
    if records:
        r = (min if least else max)(records, key=read)
        yield Line(what, read(r), _say(r["case"]), least, aim)


def _say(case: dict) -> str:
    words = [case[k] for k in ("shape", "form", "model", "mode") if k in case]
    return ", ".join(
        [*words, *(["pooled" if case["pooled"] else "all"] if "pooled" in case else [])]
    )
