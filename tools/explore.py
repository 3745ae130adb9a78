#!/usr/bin/env python3
"""Open a local page: click into an image and see where each non-local block looks from there.

python tools/explore.py --config-file configs/Demo/relay_mask_rcnn_nl.yaml \
    --opts MODEL.WEIGHTS model_final.pth --images path/to/images

The page is served to this machine alone, and neither it nor the server asks anything of another.
"""

import argparse
import os
import signal
import sys
import tempfile
from types import ModuleType

from explore_models import Explorer, find_images, load, of_data_set
from explore_page import CSS, page

from nl_detectron.engine import add_dataset_argument
from nl_detectron.errors import UsageError

HOST = "127.0.0.1"


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY VALUE", help="overrides")
    add_dataset_argument(parser)
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
    args = parser.parse_args(words)
    if args.compare_opts and not args.compare_config:
        raise UsageError("--compare-opts, but no --compare-config FILE that they would be for")
    # the server writes every picture and upload into files: here, until it ends
    with tempfile.TemporaryDirectory(prefix="nl_detectron-explore-") as folder:
        gr = import_gradio(folder)
        images = find_images(args.images)
        models = [load(args.config_file, args.opts, args.dataset)]
        if args.compare_config:
            models.append(load(args.compare_config, args.compare_opts, args.dataset))
        serve(gr, page(gr, Explorer(models), images or of_data_set(models[0])), args.port)


def import_gradio(folder: str) -> ModuleType:
    """Gradio, told to stay on this machine and to keep its files in a folder.

    Raises:
        UsageError: it is not installed, or does not import.
    """
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_RUN_HISTORY="False",
        GRADIO_TEMP_DIR=folder,
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_OFFLINE="1",
    )
    for name in ("no_proxy", "NO_PROXY"):  # it asks itself whether it is up
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), HOST]))
    try:
        import gradio
    except ImportError as error:
        raise UsageError(
            f"the page needs gradio ({error}): pip install -r requirements-explore.txt"
        ) from error
    return gradio


def serve(gr: ModuleType, demo, port: int | None) -> None:
    """On this machine alone, until it is interrupted.

    Raises:
        UsageError: a port that is taken.
    """
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # that ends it as Ctrl+C does
    try:
        _, url, _ = demo.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            enable_monitoring=False,
            footer_links=[],
            theme=theme.set(block_info_text_color="*body_text_color"),
            css=CSS,
        )
    except OSError as error:
        raise UsageError(
            f"port {port or '7860 and those after it'}: taken; name a free one with --port"
        ) from error
    print(f"Open {url} in a browser; Ctrl+C ends it", flush=True)
    demo.block_thread()


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"explore.py: error: {error}")
