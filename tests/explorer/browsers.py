"""The tool itself, and a browser: Debian's Chromium, without a screen."""

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
MISSING = [
    what
    for what, there in (
        ("gradio (make setup-browser)", importlib.util.find_spec("gradio")),
        ("playwright (make setup-browser)", importlib.util.find_spec("playwright")),
        ("chromium (apt-get install chromium)", CHROMIUM),
    )
    if not there
]
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# Python runs this first, so that the server's own connections are seen.
WATCH = """
import sys
def watch(event, args):
    if event == "socket.connect" and isinstance(args[1], tuple):
        host = args[1][0]
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    with open({file!r}, "a") as log:
        print(host, file=log)
sys.addaudithook(watch)
"""
ANOTHER = """([selector, before]) => {
    const image = document.querySelector(selector);
    return image && image.src !== before && image.complete && image.naturalWidth > 0;
}"""


@contextmanager
def serve(folder: Path, words: Sequence[str]) -> Iterator[SimpleNamespace]:
    """Run tools/explore.py: its ``url``, and the hosts it ``asked``."""
    (folder / "sitecustomize.py").write_text(WATCH.format(file=str(folder / "asked")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "log.txt"
    path = os.pathsep.join(map(str, (folder, ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder)}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "tools" / "explore.py"), *words, "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 120
        while not (ready := re.search(r"^Open (\S+) in a browser", log.read_text(), re.MULTILINE)):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        assert ready[1] == f"http://127.0.0.1:{port}/"
        yield SimpleNamespace(
            url=ready[1], asked=lambda: set((folder / "asked").read_text().split())
        )
    finally:
        process.terminate()
        process.wait(timeout=20)
    assert "Traceback" not in log.read_text()
    assert not list(folder.glob("nl_detectron-explore-*")), "the server left files behind"


def wait_for_another(page, selector, before=None):
    """The URL of the picture that replaces the one at URL ``before``."""
    page.wait_for_function(ANOTHER, arg=[f"{selector} img", before], polling=10)
    return source(page, selector)


def source(page, selector):
    return page.locator(f"{selector} img").evaluate("image => image.src")
