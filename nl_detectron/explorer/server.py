"""Gradio, which serves the explorer's page to this machine alone."""

import os
import signal
from types import ModuleType
from typing import Any

from nl_detectron_cli.names import install_command

from ..errors import UsageError
from .page import CSS
from .request_guard import MAX_UPLOAD_MIB, RequestGuard

HOST = "127.0.0.1"


def import_gradio(folder: str) -> ModuleType:
    """Import Gradio, set to ask nothing of other machines and to keep its files in a folder.

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
    for name in ("no_proxy", "NO_PROXY"):  # Gradio requests its own page to see that it is up
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), HOST]))
    try:
        import gradio  # pyright: ignore[reportMissingImports]  # optional
    except ImportError as error:
        raise UsageError(
            f"the page needs gradio ({error}): {install_command('explore')}"
        ) from error
    return gradio


def serve_page(gr: ModuleType, page: Any, port: int | None) -> None:
    """Serve a page of Gradio's to this machine alone, until it is interrupted.

    Arguments and errors are those of :func:`start_server`.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the server as Ctrl+C does
    url = start_server(gr, page, port)
    print(f"Open {url} in a browser; Ctrl+C ends it", flush=True)
    page.block_thread()


def start_server(gr: ModuleType, page: Any, port: int | None) -> str:
    """Serve a page of Gradio's to this machine alone, in a thread; return its URL.

    :class:`RequestGuard` refuses requests that other sites' pages make.

    Args:
        page: of :func:`build_page`.
        port: by default the first free one from 7860.

    Raises:
        UsageError: a port that is taken.
    """
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    try:
        _, url, _ = page.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            enable_monitoring=False,
            num_workers=0,  # they would be processes with ports of their own
            max_file_size=MAX_UPLOAD_MIB * 2**20,
            # the class of a middleware with its arguments, as Starlette unpacks its Middleware
            app_kwargs={"middleware": [(RequestGuard, (), {})]},
            footer_links=[],
            theme=theme.set(block_info_text_color="*body_text_color"),
            css=CSS,
        )
    except OSError as error:
        raise UsageError(
            f"port {port or '7860 and those after it'}: taken; name a free one with --port"
        ) from error
    return url
