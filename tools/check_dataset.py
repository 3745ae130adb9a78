#!/usr/bin/env python3
"""Tell what is wrong with a data set in COCO's format, before a training runs into it.

python tools/check_dataset.py birds/train.json birds/images --sheet birds.png

The exit code is 0 where nothing is wrong, 1 with warnings alone, 2 with errors: where a run would
stop, or its results would be wrong.
"""

import argparse
import json
import sys
from itertools import chain
from pathlib import Path

from tabulate import tabulate

from nl_detectron.data.coco import read_coco
from nl_detectron.data.coco_dataset import DatasetInfo, describe
from nl_detectron.data.validation.checks import check_content, check_files
from nl_detectron.data.validation.issues import (
    ISSUE_TYPES,
    SEVERITIES,
    Finding,
    summarize_issues,
    worst_severity,
)


def main(words: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        epilog="exit code: 0 where nothing is wrong, 1 with warnings alone, 2 with errors",
    )
    parser.add_argument("annotations", metavar="ANNOTATIONS.json", type=Path)
    parser.add_argument("images", metavar="IMAGE_FOLDER", type=Path)
    parser.add_argument(
        "--sheet", metavar="FILE.png", type=Path, help="draw up to 12 images that show all classes"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the report there too")
    args = parser.parse_args(words)
    for option, file in (("--sheet", args.sheet), ("--json", args.json)):
        if file and (file.is_dir() or not file.parent.is_dir()):
            parser.error(f"{option} {file}: expected a file in a folder that exists")
    if args.sheet and args.sheet.suffix.lower() != ".png":
        parser.error(f"--sheet {args.sheet}: expected a name that ends in .png")
    if not args.images.is_dir():
        parser.error(f"IMAGE_FOLDER {args.images}: there is no such folder")
    content = read_coco(args.annotations)
    info = describe(content)
    findings = summarize_issues(chain(check_content(content), check_files(content, args.images)))
    print(f"{args.annotations}: {format_summary(info)}\n\n{table(findings)}")
    if args.json:
        args.json.write_text(json.dumps(as_json(args, info, findings), indent=2) + "\n")
    if args.sheet:
        draw(content, args.images, args.sheet)
    return SEVERITIES.index(worst_severity(findings))


def format_summary(info: DatasetInfo) -> str:
    return (
        f"{info.images:,} image(s), {info.annotations:,} annotation(s), {len(info.classes):,} "
        f"class(es), {'masks' if info.masks else 'no masks'}, {len(info.keypoints)} keypoint(s)"
    )


def table(findings: list[Finding]) -> str:
    if not findings:
        return "Nothing is wrong."
    rows = [
        (
            f.severity,
            f.kind,
            f"{f.count:,}",
            ISSUE_TYPES[f.kind].meaning,
            "\n".join(f.examples) + f.more,
        )
        for f in findings
    ]
    heads = ("", "problem", "count", "", "first")
    return tabulate(rows, heads, colalign=("left", "left", "right", "left", "left"))


def as_json(args: argparse.Namespace, info: DatasetInfo, findings: list[Finding]) -> dict:
    return {
        "annotations": str(args.annotations),
        "image_folder": str(args.images),
        "images": info.images,
        "annotations_in_all": info.annotations,
        "classes": info.classes,
        "keypoints": info.keypoints,
        "worst": worst_severity(findings),
        "problems": [
            {
                "problem": finding.kind,
                "severity": finding.severity,
                "count": finding.count,
                "meaning": ISSUE_TYPES[finding.kind].meaning,
                "first": finding.examples,
            }
            for finding in findings
        ],
    }


def draw(content: dict, images: Path, file: Path) -> None:
    from nl_detectron.data.validation.contact_sheet import (
        contact_sheet,  # brings Matplotlib, for a while
    )

    try:
        contact_sheet(content, images).savefig(file)
        print(f"\nSome of it drawn: {file}")
    except ValueError as error:
        print(f"\nNo --sheet: {error}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        print(f"check_dataset.py: error: {error}", file=sys.stderr)
        sys.exit(2)
