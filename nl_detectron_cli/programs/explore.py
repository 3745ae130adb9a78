"""Open a local page: click into an image or a video's frame and see what blocks attend to there.

nl-detectron explore --config-file Demo/relay_mask_rcnn_nl.yaml \
    --opts MODEL.WEIGHTS model_final.pth --images path/to/images

The page is served to this machine alone, and neither it nor the server asks anything of another.
"""

import argparse
import tempfile
from collections.abc import Sequence

from .. import options


def main(words: Sequence[str] | None = None) -> None:
    args = parse_arguments(words)
    # these take seconds, which --help need not
    from nl_detectron.engine import trust_from_args
    from nl_detectron.errors import UsageError
    from nl_detectron.explorer.first_image import find_telling_image
    from nl_detectron.explorer.images import find_images, list_dataset_images
    from nl_detectron.explorer.models import Explorer, load_explorer_model
    from nl_detectron.explorer.page import build_page
    from nl_detectron.explorer.server import import_gradio, serve_page
    from nl_detectron.explorer.video_page import build_video_page
    from nl_detectron.explorer.videos import VideoExplorer

    if args.compare_opts and not args.compare_config:
        raise UsageError("--compare-opts, but no --compare-config FILE that they would be for")
    # the server keeps every picture and upload in files: here, until it ends
    with tempfile.TemporaryDirectory(prefix="nl_detectron-explore-") as folder:
        gr = import_gradio(folder)
        pairs = [(args.config_file, args.opts)]
        if args.compare_config:
            pairs.append((args.compare_config, args.compare_opts))
        with trust_from_args(args):
            models = [load_explorer_model(file, opts, args.dataset) for file, opts in pairs]
        video = any(model.views for model in models)
        if video and len(models) > 1:
            raise UsageError("--compare-config: expected two models of images, one is of videos")
        files = find_images(args.images, video)
        listed = files or list_dataset_images(models[0].data_set)
        if video:
            page = build_video_page(gr, VideoExplorer(models[0]), listed)
        else:
            explorer = Explorer(models)
            first = None if files else find_telling_image(explorer, listed)
            page = build_page(gr, explorer, listed, first)
        serve_page(gr, page, args.port)


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    options.add_config_file(parser)
    options.add_dataset_argument(parser)
    options.add_trust_arguments(parser)
    parser.add_argument("--compare-config", metavar="FILE", help="of a second model, to compare")
    parser.add_argument(
        "--compare-opts", nargs="*", default=[], metavar="KEY VALUE", help="its own overrides"
    )
    parser.own_overrides = ("--compare-opts",)
    parser.add_argument(
        "--images",
        "--videos",
        nargs="*",
        default=[],
        metavar="PATH",
        help="files, or folders of them; by default the config's test data set, if it is here",
    )
    parser.add_argument("--port", type=int, help="by default the first free one from 7860")
    options.add_overrides(parser)
    return parser.parse_args(words)
