"""What the explorer's server refuses: other sites' pages, files, URLs and too large uploads.

The probes go to the real page's ASGI application, without a browser or a port.
"""

import importlib.util
import socket
import sys
import zlib

import numpy as np
import pytest
from PIL import Image
from thin_models import make_explorer

from nl_detectron.errors import UsageError
from nl_detectron.explorer.images import read_small_image
from nl_detectron.explorer.page import build_page
from nl_detectron.explorer.request_guard import MAX_UPLOAD_MIB
from nl_detectron.explorer.server import APP_OPTIONS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gradio") is None, reason="needs gradio: make explore"
    ),
]
SECRET = "nobody may read this"
HOST = "127.0.0.1:7860"
API = "/gradio_api"
EVIL = "http://evil.example"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """An HTTP client of the page, which may ask the network nothing."""
    from gradio.routes import App
    from starlette.testclient import TestClient

    folder = tmp_path_factory.mktemp("explorer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "gradio"))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        patch.setattr(socket, "getaddrinfo", lambda *args, **_: pytest.fail(f"looked up {args}"))
        pixels = np.zeros((64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "image.png")
        page = build_page(sys.modules["gradio"], make_explorer(), [folder / "image.png"])
        page.max_file_size = MAX_UPLOAD_MIB * 2**20
        app = App.create_app(page, app_kwargs=dict(APP_OPTIONS))
        page.server_app = page.app = app
        page._queue.set_server_app(app)
        with TestClient(app, base_url=f"http://{HOST}", raise_server_exceptions=False) as client:
            yield client


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "secret.txt").write_text(SECRET)
    return tmp_path / "secret.txt"


def join(session="s", **file) -> dict:
    """An event of the page whose data are a file."""
    data = [{**file, "meta": {"_type": "gradio.FileData"}}]
    return {"fn_index": 2, "session_hash": session, "data": data, "trigger_id": None}


# --- what the page itself does ------------------------------------------------------------------


@pytest.mark.parametrize("host", [HOST, "localhost:7860", "[::1]:7860", "localhost:8000"])
def test_the_page_is_served_by_every_name_of_this_machine(client, host):
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 200 and "Where non-local blocks look" in answer.text


def test_its_own_requests_pass(client):
    page = f"http://{HOST}"
    own = {"origin": page, "referer": f"{page}/", "sec-fetch-site": "same-origin"}
    assert client.get("/config", headers=own).status_code == 200
    joined = client.post(f"{API}/queue/join", json={**join(), "data": []}, headers=own)
    assert joined.status_code == 200
    sent = client.post(f"{API}/upload", files={"files": ("a.png", b"small")}, headers=own)
    assert sent.status_code == 200
    assert client.get(f"{API}/file={sent.json()[0]}", headers=own).content == b"small"


def test_a_link_from_another_site_opens_the_page(client):
    headers = {"referer": f"{EVIL}/", "sec-fetch-site": "cross-site"}
    headers |= {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/", headers=headers).status_code == 200


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
    "port of another server": {"origin": "http://127.0.0.1:8888"},
    "origin that starts alike": {"origin": f"http://{HOST}.evil.example"},
    "referer": {"referer": f"{EVIL}/?{HOST}"},
    "image": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    "frame": {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "iframe",
    },
}


@pytest.mark.parametrize("probe", FOREIGN)
def test_another_sites_page_gets_nothing(client, probe):
    headers = FOREIGN[probe]
    for answer in (
        client.get("/config", headers=headers),
        client.post(f"{API}/queue/join", json={**join(), "data": []}, headers=headers),
        client.post(f"{API}/upload", files={"files": ("a.png", b"x")}, headers=headers),
    ):
        assert answer.status_code == 403
        assert answer.text.startswith("explore.py: ") and "component" not in answer.text
        assert answer.headers.get("access-control-allow-origin") != EVIL


def test_a_form_of_another_site_without_an_origin_is_refused(client):
    form = {"navigate": "same-site"}
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.post("/login", data=form, headers=headers).status_code == 403


# --- files --------------------------------------------------------------------------------------

FILES = """
/file=/etc/passwd
/static/../../../../../../etc/passwd
/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd
/assets/..%2f..%2f..%2fetc/passwd
/svelte/..%2f..%2fetc/passwd
/pwa_icon/..%2f..%2fetc%2fpasswd
/gradio_api/file/etc/passwd
/gradio_api/file=/etc/passwd
/gradio_api/file=../../../../etc/passwd
/gradio_api/file=%2e%2e/%2e%2e/%2e%2e/etc/passwd
/gradio_api/file=%2Fetc%2Fpasswd
/gradio_api/file=%252Fetc%252Fpasswd
/gradio_api/file=//etc/passwd
/gradio_api/file=file:///etc/passwd
/gradio_api/file=/proc/self/environ
/gradio_api/custom_component/a/client/b/..%2f..%2fetc%2fpasswd
/gradio_api/stream/a/b/c/playlist-file
""".split()


@pytest.mark.parametrize("path", FILES)
def test_no_file_of_this_machine_is_served(client, path):
    answer = client.get(path)
    assert answer.status_code >= 400
    assert "root:" not in answer.text and "PATH=" not in answer.text


def test_no_file_beside_the_uploads_is_served_or_read(client, secret):
    assert client.get(f"{API}/file={secret}").status_code >= 400
    event = join(session="secret", path=str(secret), orig_name="a.png")
    client.post(f"{API}/queue/join", json=event)
    with client.stream("GET", f"{API}/queue/data?session_hash=secret") as stream:
        told = "".join(stream.iter_text())
    assert SECRET not in told and '"success":true' not in told.replace(" ", "")


# --- URLs ---------------------------------------------------------------------------------------

URLS = """
/gradio_api/file=http://evil.example/a.png
/gradio_api/file=https://169.254.169.254/
/gradio_api/file=%68ttp://evil.example/a
/gradio_api/file=HTTP://evil.example/a
/gradio_api/file=//evil.example/a
/gradio_api/file=ftp://evil.example/a
/gradio_api/proxy=http://evil.example/a
/gradio_api/proxy=https://a.hf.space/b
/file=http://evil.example/a.png
/proxy=http://evil.example/a
""".split()


@pytest.mark.parametrize("path", URLS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_url_is_fetched(client, path, method):
    assert client.request(method, path, follow_redirects=False).status_code == 403


@pytest.mark.parametrize("url", [f"{EVIL}/a.png", "https://127.0.0.1:1/a.png"])
def test_no_url_in_an_event_is_fetched(client, url):
    answer = client.post(f"{API}/queue/join", json=join(path=url, orig_name="a.png"))
    assert answer.status_code == 403 and "nothing is fetched" in answer.text


# --- sizes --------------------------------------------------------------------------------------


def test_a_large_upload_is_refused_by_its_length_with_its_size(client):
    headers = {"content-length": str(300 * 2**20), "content-type": "multipart/form-data"}
    answer = client.post(f"{API}/upload", content=b"--b", headers=headers)
    assert answer.status_code == 413
    assert answer.text == "explore.py: an upload has 300 MiB; at most 100 MiB are taken"


def test_a_body_of_unknown_length_is_refused(client):
    answer = client.post(f"{API}/upload", content=iter([b"a", b"b"]))
    assert answer.status_code == 411


BODIES = {"deep": b"[" * 100_000, "text": b"no json", "byte": b"\xff"}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_json_is_refused(client, body):
    headers = {"content-type": "application/json"}
    answer = client.post(f"{API}/queue/join", content=body, headers=headers)
    assert answer.status_code == 400


def test_an_image_of_too_many_pixels_is_told(tmp_path):
    def chunk(kind, data):
        checksum = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + checksum

    side = (60_000).to_bytes(4, "big")
    parts = [chunk(b"IHDR", 2 * side + b"\x08\x02\x00\x00\x00"), chunk(b"IDAT", b"")]
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(UsageError, match=r"bomb\.png cannot be read.*DecompressionBombError"):
        read_small_image(tmp_path / "bomb.png", 100)
