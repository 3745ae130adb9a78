#!/usr/bin/env python3
"""Open a local page: click into an image and see what each non-local block attends to there.

python tools/explore.py --config-file configs/Demo/relay_mask_rcnn_nl.yaml \
    --opts MODEL.WEIGHTS model_final.pth --images path/to/images

The page is served to this machine alone, and neither it nor the server asks anything of another.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence

from nl_detectron.engine import add_dataset_argument, add_trust_arguments, trust_from_args
from nl_detectron.errors import UsageError
from nl_detectron.explorer.images import find_images, list_dataset_images
from nl_detectron.explorer.models import Explorer, load_explorer_model
from nl_detectron.explorer.page import build_page
from nl_detectron.explorer.server import import_gradio, serve_page


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY VALUE", help="overrides")
    add_dataset_argument(parser)
    add_trust_arguments(parser)
    parser.add_argument("--compare-config", metavar="FILE", help="of a second model, to compare")
    parser.add_argument(
        "--compare-opts", nargs="*", default=[], metavar="KEY VALUE", help="its own"
    )
    parser.add_argument(
        "--images",
        nargs="*",
        default=[],
        metavar="PATH",
        help="files, or folders of them; by default the config's test data set, if it is here",
    )
    parser.add_argument("--port", type=int, help="by default the first free one from 7860")
    args = parser.parse_args(argv)
    if args.compare_opts and not args.compare_config:
        raise UsageError("--compare-opts, but no --compare-config FILE that they would be for")
    # the server keeps every picture and upload in files: here, until it ends
    with tempfile.TemporaryDirectory(prefix="nl_detectron-explore-") as folder:
        gr = import_gradio(folder)
        images = find_images(args.images)
        pairs = [(args.config_file, args.opts)]
        if args.compare_config:
            pairs.append((args.compare_config, args.compare_opts))
        with trust_from_args(args):
            models = [load_explorer_model(file, opts, args.dataset) for file, opts in pairs]
        images = images or list_dataset_images(models[0].data_set)
        serve_page(gr, build_page(gr, Explorer(models), images), args.port)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"explore.py: error: {error}")
