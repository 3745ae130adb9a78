"""What the explorer's server refuses: other sites' pages, files, URLs and too large uploads.

The probes go to the real server with the real page, as raw requests.
"""

import importlib.util
import json
import os
import socket
import zlib
from http.client import HTTPConnection
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from thin_models import make_explorer

from nl_detectron.errors import UsageError
from nl_detectron.explorer.images import read_small_image
from nl_detectron.explorer.page import build_page
from nl_detectron.explorer.request_guard import LOCAL_HOSTS
from nl_detectron.explorer.server import import_gradio, start_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gradio") is None, reason="needs gradio: make explore"
    ),
]
SECRET = "nobody may read this"
API = "/gradio_api"
EVIL = "http://evil.example"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The explorer's server: ``ask(method, path, body, headers)`` and the ``origin`` of its page.

    A test fails if it looks another host up.
    """
    folder = tmp_path_factory.mktemp("explorer")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "image.png")
    look_up, looked_up = socket.getaddrinfo, []

    def watch(host, *args, **keys):
        if host not in LOCAL_HOSTS:
            looked_up.append(host)
            raise OSError(f"a test looks {host} up")
        return look_up(host, *args, **keys)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        gr = import_gradio(str(folder / "gradio"))
        patch.setattr(socket, "getaddrinfo", watch)
        page = build_page(gr, make_explorer(), [folder / "image.png"])
        host = urlsplit(start_server(gr, page, None)).netloc

        def ask(method, path, body=None, headers=()):
            connection = HTTPConnection(host, timeout=60)
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            connection.close()
            return SimpleNamespace(status=answer.status, text=text, headers=answer.headers)

        yield SimpleNamespace(ask=ask, origin=f"http://{host}", looked_up=looked_up)
        page.close(verbose=False)


@pytest.fixture(autouse=True)
def looks_nothing_up(request):
    yield
    if "server" in request.fixturenames:
        assert request.getfixturevalue("server").looked_up == []


def make_upload(content=b"small") -> tuple[bytes, dict[str, str]]:
    """Body and headers of a form with a file."""
    head = b'--b\r\ncontent-disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    return head + content + b"\r\n--b--\r\n", {"content-type": "multipart/form-data; boundary=b"}


def make_event(session="s", number=0, **file) -> str:
    """An event of the page; its data are a file, in every place."""
    data = [{**file, "meta": {"_type": "gradio.FileData"}}] * 5 if file else []
    event = {"fn_index": number, "session_hash": session, "data": data, "trigger_id": None}
    return json.dumps(event)


# --- what the page itself does ------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "[::1]:7860", "LOCALHOST:8000"])
def test_the_page_is_served_by_every_name_of_this_machine(server, host):
    answer = server.ask("GET", "/", headers={"host": host})
    assert answer.status == 200 and "Where non-local blocks look" in answer.text


def test_its_own_requests_pass(server):
    own = {"origin": server.origin, "referer": f"{server.origin}/"}
    own["sec-fetch-site"] = "same-origin"
    assert server.ask("GET", "/config", headers=own).status == 200
    assert server.ask("POST", f"{API}/queue/join", make_event(), own | JSON).status == 200
    body, headers = make_upload()
    (path,) = json.loads(server.ask("POST", f"{API}/upload", body, own | headers).text)
    assert server.ask("GET", f"{API}/file={path}", headers=own).text == "small"


def test_a_link_from_another_site_opens_the_page(server):
    headers = {"referer": f"{EVIL}/", "sec-fetch-site": "cross-site"}
    headers |= {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert server.ask("GET", "/", headers=headers).status == 200


# --- other sites' pages -------------------------------------------------------------------------

FOREIGN = {
    "rebound name": {"host": "evil.example:7860"},
    "name that starts alike": {"host": "127.0.0.1.evil.example:7860"},
    "user name": {"host": "127.0.0.1:7860@evil.example"},
    "malformed": {"host": "[::1"},
    "other address": {"host": "169.254.169.254"},
    "origin": {"origin": EVIL},
    "no origin": {"origin": "null"},
    "malformed origin": {"origin": "http://[::1"},
    "port of another server": {"origin": "http://127.0.0.1:1"},
    "origin that starts alike": {"origin": "http://127.0.0.1.evil.example"},
    "referer": {"referer": f"{EVIL}/?http://127.0.0.1"},
    "image": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    "frame": {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "iframe",
    },
}


@pytest.mark.parametrize("probe", FOREIGN)
def test_another_sites_page_gets_nothing(server, probe):
    headers = FOREIGN[probe]
    body, form = make_upload()
    for answer in (
        server.ask("GET", "/config", headers=headers),
        server.ask("POST", f"{API}/queue/join", make_event(), headers | JSON),
        server.ask("POST", f"{API}/upload", body, headers | form),
    ):
        assert answer.status == 403
        assert answer.text.startswith("explore.py: ") and "component" not in answer.text
        assert answer.headers.get("access-control-allow-origin") != EVIL


def test_a_form_of_another_site_without_an_origin_is_refused(server):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert server.ask("POST", "/login", "a=b", headers).status == 403


# --- files --------------------------------------------------------------------------------------

FILES = [
    "/file=/etc/passwd",
    "/static/../../../../../../etc/passwd",
    "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/assets/..%2f..%2f..%2fetc/passwd",
    "/svelte/..%2f..%2fetc/passwd",
    "/pwa_icon/..%2f..%2fetc%2fpasswd",
    "/gradio_api/file/etc/passwd",
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=../../../../etc/passwd",
    "/gradio_api/file=%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/gradio_api/file=%2Fetc%2Fpasswd",
    "/gradio_api/file=%252Fetc%252Fpasswd",
    "/gradio_api/file=//etc/passwd",
    "/gradio_api/file=file:%2F%2F%2Fetc%2Fpasswd",
    "/gradio_api/file=/proc/self/environ",
    "/gradio_api/custom_component/a/client/b/..%2f..%2fetc%2fpasswd",
    "/gradio_api/stream/a/b/c/playlist-file",
]


@pytest.mark.parametrize("path", FILES)
def test_no_file_of_this_machine_is_served(server, path):
    answer = server.ask("GET", path)
    assert answer.status >= 400
    assert "root:" not in answer.text and "PATH=" not in answer.text


def test_no_file_beside_the_uploads_is_served_or_read(server, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    assert server.ask("GET", f"{API}/file={secret}").status >= 400
    for number in range(3):  # the events that take an image
        event = make_event("secret", number, path=str(secret), orig_name="a.png")
        assert server.ask("POST", f"{API}/queue/join", event, JSON).status == 200
    text = server.ask("GET", f"{API}/queue/data?session_hash=secret").text
    assert text.count('"success":false') == 3 and SECRET not in text


# --- URLs ---------------------------------------------------------------------------------------

URLS = [
    "/gradio_api/file=http://evil.example/a.png",
    "/gradio_api/file=https://169.254.169.254/",
    "/gradio_api/file=%68ttp://evil.example/a",
    "/gradio_api/file=HTTP://evil.example/a",
    "/gradio_api/file=//evil.example/a",
    "/gradio_api/file=ftp://evil.example/a",
    "/gradio_api/file/http://evil.example/a",
    "/gradio_api/file/HTTPS://evil.example/a",
    "/file/http://evil.example/a",
    "/gradio_api/proxy=http://evil.example/a",
    "/gradio_api/proxy=https://a.hf.space/b",
    "/file=http://evil.example/a.png",
    "/proxy=http://evil.example/a",
]


@pytest.mark.parametrize("path", URLS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_url_is_fetched(server, path, method):
    assert server.ask(method, path).status == 403


@pytest.mark.parametrize("url", [f"{EVIL}/a.png", "https://127.0.0.1:1/a.png"])
def test_no_url_in_an_event_is_fetched(server, url):
    event = make_event(path=url, orig_name="a.png")
    answer = server.ask("POST", f"{API}/queue/join", event, JSON)
    assert answer.status == 403 and "nothing is fetched" in answer.text


# --- sizes --------------------------------------------------------------------------------------


def test_a_large_upload_is_refused_by_its_length_with_its_size(server):
    _, headers = make_upload()
    headers["content-length"] = str(300 * 2**20)
    answer = server.ask("POST", f"{API}/upload", b"--b", headers)
    assert answer.status == 413
    assert answer.text == "explore.py: an upload has 300 MiB; at most 100 MiB are taken"


def test_a_body_of_unknown_length_is_refused(server):
    _, headers = make_upload()
    headers["transfer-encoding"] = "chunked"
    answer = server.ask("POST", f"{API}/upload", b"1\r\na\r\n0\r\n\r\n", headers)
    assert answer.status == 411


BODIES = {"deep": b"[" * 100_000, "text": b"no json", "byte": b"\xff"}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_json_is_refused(server, body):
    assert server.ask("POST", f"{API}/queue/join", body, JSON).status == 400


def test_an_image_of_too_many_pixels_is_reported(tmp_path):
    def chunk(kind, data):
        checksum = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + checksum

    side = (60_000).to_bytes(4, "big")
    parts = [chunk(b"IHDR", 2 * side + b"\x08\x02\x00\x00\x00"), chunk(b"IDAT", b"")]
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(UsageError, match=r"bomb\.png cannot be read.*DecompressionBombError"):
        read_small_image(tmp_path / "bomb.png", 100)
