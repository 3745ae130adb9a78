"""Makes tables and the growth plot from stored results: ``python -m benchmarks.report``."""

import argparse
import json
from pathlib import Path

from . import summary
from .growth import plot
from .sections import SECTIONS
from .tables import conditions, markdown_table

ROOT = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of the JSON")
    parser.add_argument(
        "--output", type=Path, default=ROOT, help="folder of results.md, growth.png"
    )
    args = parser.parse_args()
    print(f"wrote {write(args.results, args.output)}")


def write(results: Path, output: Path) -> Path:
    """Write results.md, with the benchmarks that have results in the order of SECTIONS, growth.png,
    and the summary into README.md. Returns the path of results.md."""
    parts = [
        "# Results",
        "Made by `make bench-report`; [README.md](README.md) describes the figures.",
    ]
    stored = {
        n: json.loads(p.read_text()) for n in SECTIONS if (p := results / f"{n}.json").exists()
    }
    records = {name: result["records"] for name, result in stored.items()}
    aims = markdown_table([line.cells for line in summary.lines(records)], summary.HEADS)
    parts.append(aims)
    for name, section in SECTIONS.items():
        if name in stored:
            result = stored[name]
            parts += [*filter(None, section(result["records"])), conditions(result)]
            if name == "growth":
                plot(result["records"], output / "growth.png")
                parts.append("![Time and memory against positions](growth.png)")
    target = output / "results.md"
    target.write_text("\n\n".join(parts) + "\n")
    readme = output / "README.md"
    if readme.exists():
        before, begin, rest = readme.read_text().partition("<!-- made by make bench-report -->\n")
        _, end, after = rest.partition("<!-- so far -->\n")
        readme.write_text(f"{before}{begin}\n{aims}\n\n{end}{after}")
    return target


if __name__ == "__main__":
    main()
