"""Tell what is wrong with a data set in COCO's format or of videos, before a training runs into it.

nl-detectron check birds/train.json birds/images --sheet birds.png
nl-detectron check kinetics/train.csv kinetics/train --sheet kinetics.png

The exit code is 0 where nothing is wrong, 1 with warnings alone, 2 with errors: where a run would
stop, or its results would be wrong.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from .. import names
from ..options import make_parser


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code, which is 2 for a file that cannot be checked too."""
    args = parse_arguments(words)
    try:
        return check(args)
    except ValueError as error:
        print(f"{names.short_program_name('check')}: error: {error}", file=sys.stderr)
        return 2


def check(args: argparse.Namespace) -> int:
    """Returns the exit code.

    Raises:
        ValueError: the annotations cannot be read as COCO's format.
    """
    # these take seconds, which --help need not
    from nl_detectron.data.video.lists import ENDINGS

    if args.annotations.suffix in ENDINGS:
        return check_videos(args)
    from nl_detectron.data.coco import read_coco
    from nl_detectron.data.coco_dataset import describe
    from nl_detectron.data.validation.checks import check_content, check_files
    from nl_detectron.data.validation.issues import (
        OUTSIDE,
        SEVERITIES,
        summarize_issues,
        worst_severity,
    )
    from nl_detectron.data.validation.report import format_findings, format_info, report_as_json

    content = read_coco(args.annotations)
    info = describe(content)
    issues = chain(check_content(content), check_files(content, args.images))
    allowed = {OUTSIDE} if args.allow_outside else set()
    findings = summarize_issues(issue for issue in issues if issue[0] not in allowed)
    print(f"{args.annotations}: {format_info(info)}\n\n{format_findings(findings)}")
    if args.json:
        report = report_as_json(args.annotations, args.images, info, findings)
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    if args.sheet:
        draw_sheet(content, args.images, args.sheet)
    return SEVERITIES.index(worst_severity(findings))


def check_videos(args: argparse.Namespace) -> int:
    """Check a list of videos; returns the exit code."""
    from nl_detectron.data.validation import video_checks
    from nl_detectron.data.validation.issues import SEVERITIES, summarize_issues, worst_severity
    from nl_detectron.data.validation.report import findings_as_json, format_findings
    from nl_detectron.data.video.lists import class_names, read_list

    found = read_list(args.annotations)
    allowed = {"video outside its folder"} if args.allow_outside else set()
    issues = chain(
        video_checks.check_list(found),
        video_checks.check_videos(found, args.images, args.span),
    )
    findings = summarize_issues(issue for issue in issues if issue[0] not in allowed)
    classes = class_names([found])
    line = f"{len(found.entries):,} video(s), {len(classes):,} class(es), {found.kind}"
    print(f"{args.annotations}: {line}\n\n{format_findings(findings)}")
    if args.json:
        report = {
            "list": str(args.annotations),
            "video_folder": str(args.images),
            "kind": found.kind,
            "videos": len(found.entries),
            "classes": classes,
            **findings_as_json(findings),
        }
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    if args.sheet:
        from nl_detectron.data.validation.video_sheet import video_sheet

        save_sheet(lambda: video_sheet(found, args.images), args.sheet)
    return SEVERITIES.index(worst_severity(findings))


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(
        __doc__,
        epilog="exit code: 0 where nothing is wrong, 1 with warnings alone, 2 with errors",
    )
    parser.add_argument(
        "annotations",
        metavar="ANNOTATIONS.json",
        type=Path,
        help="or a list of videos, .txt or .csv (docs/video_data.md)",
    )
    parser.add_argument("images", metavar="IMAGE_FOLDER", type=Path, help="or that of the videos")
    parser.add_argument(
        "--sheet",
        metavar="FILE.png",
        type=Path,
        help="draw up to 12 images or videos, of all classes",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the report there too")
    parser.add_argument(
        "--allow-outside",
        action="store_true",
        help="allow image names that lead out of IMAGE_FOLDER, as DATASETS.ALLOW_OUTSIDE_IMAGES",
    )
    parser.add_argument(
        "--span",
        type=int,
        default=64,
        metavar="FRAMES",
        help="frames that a clip spans, INPUT.VIDEO.FRAMES x RATE (default 64)",
    )
    args = parser.parse_args(words)
    for option, file in (("--sheet", args.sheet), ("--json", args.json)):
        if file and (file.is_dir() or not file.parent.is_dir()):
            parser.error(f"{option} {file}: expected a file in a folder that exists")
    if args.sheet and args.sheet.suffix.lower() != ".png":
        parser.error(f"--sheet {args.sheet}: expected a name that ends in .png")
    if not args.images.is_dir():
        parser.error(f"IMAGE_FOLDER {args.images}: there is no such folder")
    return args


def draw_sheet(content: dict, images: Path, file: Path) -> None:
    # imports Matplotlib, which takes a while
    from nl_detectron.data.validation.contact_sheet import contact_sheet

    save_sheet(lambda: contact_sheet(content, images), file)


def save_sheet(draw: Callable[[], Any], file: Path) -> None:
    """Draw a figure and save it, or say why there is nothing to draw."""
    try:
        draw().savefig(file)
        print(f"\nSome of it drawn: {file}")
    except ValueError as error:
        print(f"\nNo --sheet: {error}")
