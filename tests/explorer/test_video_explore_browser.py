"""The page of a video model in a real browser: a click, another block, another clip, an upload."""

import pytest
import torch

pytest.importorskip("av", reason="needs PyAV: make setup-video")

from browsers import MISSING, serve, source, wait_for_another
from helpers import randomise
from video_files import picture, write_video

from nl_detectron.engine import load_config
from nl_detectron.modeling import build_model, find_blocks

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not here: {', '.join(MISSING)}"),
]
CONFIG = "configs/Demo/relay_video_c2d_nl.yaml"
WORDS = [
    *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "INPUT.VIDEO.FRAMES", "4"),
    *("TEST.VIDEO.SHORT_SIDE", "48", "MODEL.NONLOCAL.BACKBONE.AFTER", "['res3.0', 'res4.0']"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore")
    torch.manual_seed(0)
    model = build_model(load_config(CONFIG, WORDS))
    for block in find_blocks(model).values():
        randomise(block)
    torch.save({"model": model.state_dict()}, folder / "weights.pth")
    videos = folder / "videos"
    videos.mkdir()
    write_video(videos / "film.mp4", 30, draw=lambda n: picture(n, 96, 128))
    words = ["--config-file", CONFIG, "--videos", str(videos)]
    words += ["--opts", *WORDS, "MODEL.WEIGHTS", str(folder / "weights.pth")]
    with serve(folder, words) as served:
        yield served


def test_a_user_sees_where_a_point_of_a_frame_leads(server, browser, tmp_path):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(60_000)
    page.goto(server.url)
    strip, arrows = (wait_for_another(page, selector) for selector in ("#picture", "#arrows0"))

    def value(name):
        return float(page.locator(f"#{name} input").input_value())

    image = page.locator("#picture img")
    box = image.bounding_box()
    # the third of the frames 11, 13, 15, 17, at 3/8 of its width and half of its height
    image.click(position={"x": (2.375 / 4) * box["width"], "y": 0.5 * box["height"]})
    arrows = wait_for_another(page, "#arrows0", arrows)
    assert value("frame") == 15
    assert value("x") == pytest.approx(48, abs=3) and value("y") == pytest.approx(48, abs=2)
    page.locator("#block0 input").click()
    page.get_by_role("option", name="backbone.res4.nonlocal0").dispatch_event("mousedown")
    arrows = wait_for_another(page, "#arrows0", arrows)
    assert "frame 15, x 48, y 48" in page.locator("#readout0").inner_text()
    page.locator("#frame input").fill("3")
    page.locator("#jump").click()
    wait_for_another(page, "#arrows0", arrows)
    page.get_by_text("Frames 0 to 6: ").wait_for()
    strip = source(page, "#picture")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    page.set_input_files("#upload input[type=file]", tmp_path / "broken.mp4")
    message = page.get_by_role("alert")
    message.wait_for()
    assert message.inner_text().startswith("broken.mp4: it cannot be opened")
    page.set_input_files(
        "#upload input[type=file]",
        write_video(tmp_path / "mine.mp4", 12, draw=lambda n: picture(n)),
    )
    wait_for_another(page, "#picture", strip)
    page.get_by_text("Frames 2 to 8: ").wait_for()
    page.close()
