"""Changes valid inputs at random and gives them to everything that reads them.

python -m benchmarks.fuzz --annotations 10000 --images 10000 --configs 2000 --checkpoints 2000

An input is taken, or refused by a message: a ValueError, as this package's errors are, or an error
of the data check. Anything else is a fault: another exception, a process that dies, a hang of over
two seconds of CPU time, and a data set that the check passes without an error but the loader or
mapper does not take. Each case has its own seed, so that ``--only PART CASE`` repeats it.
"""

import argparse
import faulthandler
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .fuzz_targets import TARGETS, quiet
from .machine import machine
from .tables import markdown_table

ROOT = Path(__file__).parent
HANG_SECONDS = 2  # of CPU time
STUCK_SECONDS = 120  # of any time
FAULTS_KEPT = 20


def main() -> int:
    """Returns the exit code: 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in TARGETS:
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N", help="number of cases")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "fuzz.json")
    parser.add_argument("--only", nargs=2, metavar=("PART", "CASE"), help="repeat a single case")
    args = parser.parse_args()
    if args.only:
        return repeat(args.only[0], int(args.only[1]), args.seed)
    parts = {name: run(name, n, args.seed) for name in TARGETS if (n := getattr(args, name))}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    result = {"benchmark": "fuzz", "seed": args.seed, "machine": machine(), "parts": parts}
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(format_parts(parts))
    return int(any(part["faults"] for part in parts.values()))


def run(name: str, count: int, seed: int) -> dict:
    """Try a number of cases of one part. Returns counts, faults, seconds and memory growth."""
    began, counts, faults, memory = time.perf_counter(), Counter(), [], []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for case, outcome, kib in _outcomes(name, count, seed, Path(folder)):
            kind = outcome.split(":")[0]
            counts[kind] += 1
            memory.append(kib)
            if kind not in ("taken", "refused"):
                faults.append({"case": case, "what": outcome[:400]})
                print(f"{name} {case}: {outcome[:200]}", file=sys.stderr, flush=True)
    settled = np.array(memory[len(memory) // 3 :])
    settled = settled[settled > 0]
    slope = np.polyfit(np.arange(len(settled)), settled, 1)[0] if len(settled) > 2 else 0.0
    return {
        "cases": count,
        "taken": counts["taken"],
        "refused": counts["refused"],
        "faults": count - counts["taken"] - counts["refused"],
        "by_kind": dict(counts),
        "seconds": round(time.perf_counter() - began, 1),
        "kib_per_100_cases": round(100 * slope, 1),
        "examples": faults[:FAULTS_KEPT],
    }


def repeat(name: str, case: int, seed: int) -> int:
    """Try one case here, with its traceback."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, quiet():
        logging.disable(logging.CRITICAL)
        print(TARGETS[name](Path(folder))(np.random.default_rng((seed, case))))
    return 0


def _outcomes(name: str, count: int, seed: int, folder: Path) -> Iterator[tuple[int, str, int]]:
    """Case, outcome and resident memory in KiB of all cases, which a child process tries; a child
    that dies is replaced by another one, which begins at the next case."""
    case = 0
    while case < count:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _try_cases(name, range(case, count), seed, folder, writer)
        os.close(writer)
        with open(reader) as lines:
            for line in lines:
                outcome, kib = json.loads(line)
                yield case, outcome, kib
                case += 1
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            hang = number in (signal.SIGPROF, signal.SIGALRM)
            yield case, "hang" if hang else f"died: {signal.Signals(number).name}", 0
            case += 1
        elif case < count:
            raise RuntimeError(f"the process of {name} ended with status {status}")


def _try_cases(name: str, cases: range, seed: int, folder: Path, writer: int) -> None:
    """Try cases in this process, which then ends. A hang ends it by the signal of a timer, also
    where C code hangs."""
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    logging.disable(logging.CRITICAL)
    faulthandler.disable()  # the parent counts the signal
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)  # C libraries write messages of their own
    status = 1
    try:
        with quiet():
            target = TARGETS[name](folder)
            for case in cases:
                outcome = try_case(target, np.random.default_rng((seed, case)))
                os.write(writer, (json.dumps([outcome, _resident_kib()]) + "\n").encode())
        status = 0
    finally:
        os._exit(status)


def try_case(target, rng: np.random.Generator) -> str:
    """Outcome of one case: "taken", "refused: message" or "the error's type: message"."""
    signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, STUCK_SECONDS)
    try:
        return target(rng)
    except ValueError as error:
        message = str(error).strip()
        plain = message and "\n" not in message and "Traceback" not in message
        return f"refused: {message}" if plain else f"ValueError without a message: {message}"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def format_parts(parts: dict[str, dict]) -> str:
    """A Markdown table with a row for each part."""
    columns = {
        "cases": "cases",
        "taken": "taken",
        "refused": "refused by a message",
        "faults": "faults",
        "seconds": "seconds",
        "kib_per_100_cases": "memory, KiB per 100 cases",
    }
    rows = [[name, *(part[key] for key in columns)] for name, part in parts.items()]
    return markdown_table(rows, ("input", *columns.values()))


if __name__ == "__main__":
    sys.exit(main())
