"""The model zoo's video models of other projects: entries, fetching, converting, the cache."""

import logging
import pickle
import re
from pathlib import Path

import pytest
import torch
import yaml
from fast_part import first_cases
from video_networks import FIVE, Network

from nl_detectron import model_zoo
from nl_detectron.convert import VIDEO_SOURCES
from nl_detectron.engine import load_config
from nl_detectron.engine.checkpoint_files import digest
from nl_detectron.errors import UsageError
from nl_detectron.model_zoo import page
from nl_detectron.model_zoo.converted import convert_config
from nl_detectron.model_zoo.index import OWN, entries, shipped
from nl_detectron.model_zoo.zoo import CONFIGS

CONVERTED = {name: e["converted"] for name, e in shipped().items() if "converted" in e}
NLN = "Kinetics/i3d_R_50_nl5_8x8_slowfast"


@pytest.fixture
def own_index(tmp_path, monkeypatch):
    """Writes an index of one's own; the cache is a folder of the test."""
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(tmp_path / "cache"))

    def write(index) -> None:
        (tmp_path / "index.yaml").write_text(yaml.safe_dump(index))
        monkeypatch.setenv(OWN, str(tmp_path / "index.yaml"))

    return write


def network_of(name, width=64, classes=400):
    """The network whose weights an entry names, by the parts of the name."""
    arch, blocks, form, clip, project = re.fullmatch(
        r"Kinetics/(c2d|i3d)_R_50_(nl5_)?((?:gaussian|dot_product)_)?(\d+x\d)_(\w+)", name
    ).groups()
    pool2 = name != "Kinetics/c2d_R_50_8x8_slowfast"
    return Network(
        "slowfast" if project == "pytorchvideo" else project,
        {"slowfast": "caffe2"}.get(project, ""),
        i3d=arch == "i3d",
        stride=2 if clip in ("32x2", "128x1") else 1,
        pool2=pool2,
        places=FIVE if blocks else (),
        form=(form or "embedded_gaussian_")[:-1],
        affine=clip in ("32x4", "128x1"),
        width=width,
        classes=classes,
    )


# --- entries ---------------------------------------------------------------------------------


def test_the_models_of_four_projects_are_there():
    projects = [entry["source"] for entry in CONVERTED.values()]
    counts = {name: projects.count(name) for name in VIDEO_SOURCES}
    assert counts == {"caffe2": 12, "slowfast": 3, "pytorchvideo": 2, "mmaction2": 4}
    urls = [entry["checkpoint"] for entry in CONVERTED.values()]
    assert len(set(urls)) == len(urls) and all(url.startswith("https://") for url in urls)


@first_cases(1, "name", CONVERTED)
def test_an_entrys_config_is_that_of_its_weights(name):
    """With tensors of the published model's names and shapes, which have no values."""
    network, source = network_of(name), CONVERTED[name]["source"]
    with torch.device("meta"):
        tensors = network.make()
        if source == "pytorchvideo":
            tensors = {pytorchvideo_name(key): tensor for key, tensor in tensors.items()}
        convert_config(tensors, source, load_config(str(CONFIGS / f"{name}.yaml")), name)


def pytorchvideo_name(name):
    """PyTorchVideo's name of a tensor of SlowFast."""
    name = name.replace("s1.pathway0_stem.conv", "blocks.0.conv")
    name = name.replace("s1.pathway0_stem.bn", "blocks.0.norm")
    name = name.replace("head.projection", "blocks.6.proj")
    name = re.sub(r"branch2\.([abc])_bn", r"branch2.norm_\1", name)
    name = re.sub(r"branch2\.([abc])\.", r"branch2.conv_\1.", name)
    name = name.replace("branch1_bn", "branch1_norm").replace("branch1.", "branch1_conv.")
    number = re.match(r"s([2-5])\.pathway0_res(\d)", name)
    if not number:
        return name
    block = {"2": 1, "3": 3, "4": 4, "5": 5}[number[1]]
    return f"blocks.{block}.res_blocks.{number[2]}{name[number.end() :]}"


def test_the_digits_that_mmaction2_states_are_those_in_its_files_names():
    for entry in CONVERTED.values():
        stated = re.search(r"_\d{8}-([0-9a-f]{8})\.pth$", entry["checkpoint"])
        assert entry["sha256"] == (stated[1] if stated else "unknown")
        assert (entry["source"] == "mmaction2") == bool(stated)


def test_the_page_says_whose_accuracy_it_is():
    line = page.line(NLN, shipped()[NLN])
    start = f"| [i3d_R_50_nl5_8x8_slowfast](configs/{NLN}.yaml) | 74.0 / 91.1 | [PySlowFast]("
    assert line.startswith(start) and line.endswith(" | Apache-2.0 |")
    heading = list(page.columns("converted"))
    assert heading[1].startswith("Published by others") and not any("Ours" in h for h in heading)
    licences = {e["source"]: e["licence"] for e in CONVERTED.values()}
    assert licences["caffe2"] == "CC BY-NC 4.0"


# --- fetching and converting -----------------------------------------------------------------


def write_caffe2(network, file):
    """The pickle of a network with random weights, and these."""
    torch.manual_seed(0)
    tensors = network.make()
    blobs = {name: tensor.numpy() for name, tensor in tensors.items()}
    file.write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    return tensors


@pytest.mark.slow
def test_a_published_model_is_fetched_converted_and_kept(tmp_path, own_index, caplog):
    network = network_of(NLN)
    tensors = write_caffe2(network, tmp_path / "I3D_NLN_8x8_R50.pkl")
    own_index({NLN: {"converted": {"checkpoint": "I3D_NLN_8x8_R50.pkl"}}})
    sha256 = digest(str(tmp_path / "I3D_NLN_8x8_R50.pkl"))
    with caplog.at_level(logging.INFO):
        model = model_zoo.get(NLN, trained=True, device="cpu")
    said = caplog.text
    assert "licence: Apache-2.0" in said
    assert f"{{{NLN}: {{converted: {{sha256: {sha256}}}}}}}" in said
    clips = torch.randint(0, 256, (1, 3, 8, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        found, expected = model.eval().scores(clips), network.scores(tensors, clips, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    (tmp_path / "I3D_NLN_8x8_R50.pkl").unlink()  # what is kept is enough
    path = model_zoo.fetch_checkpoint(NLN)
    assert path == str(tmp_path / "cache" / "converted" / f"{NLN.replace('/', '-')}.pth")
    assert model_zoo.get_config(NLN, trained=True).MODEL.WEIGHTS == path


@pytest.fixture
def thin(tmp_path, own_index):
    """An own entry of a thin model of PySlowFast's, with other keys of ``converted``."""
    write_caffe2(network_of(NLN, width=8, classes=5), tmp_path / "theirs.pkl")
    keys = {"WIDTH_PER_GROUP": 8, "STEM_OUT_CHANNELS": 8, "RES2_OUT_CHANNELS": 32}
    model = {"RESNETS": keys, "VIDEO": {"NUM_CLASSES": 5}}
    config = {"_BASE_": str(CONFIGS / f"{NLN}.yaml"), "MODEL": model}
    (tmp_path / "thin.yaml").write_text(yaml.safe_dump(config))

    def write(**converted) -> None:
        entry = {"source": "slowfast", "checkpoint": "theirs.pkl", "sha256": "unknown"}
        own_index({"own/thin": {"config": "thin.yaml", "converted": entry | converted}})

    return write


def test_a_stated_checksum_is_checked_in_the_cache_too(tmp_path, thin, caplog):
    sha256 = digest(str(tmp_path / "theirs.pkl"))
    for known in (sha256, sha256[:8]):
        thin(sha256=known)
        path = model_zoo.fetch_checkpoint("own/thin")
    assert "do not state its SHA-256" not in caplog.text
    written = Path(path).stat().st_mtime_ns
    thin(sha256="unknown")
    assert Path(model_zoo.fetch_checkpoint("own/thin")).stat().st_mtime_ns == written
    thin(sha256=64 * "0")
    with pytest.raises(UsageError, match=f"SHA-256 is {sha256}, not 0000"):
        model_zoo.fetch_checkpoint("own/thin")


def test_another_model_is_refused_and_not_kept(tmp_path, thin):
    thin()
    write_caffe2(Network("slowfast", "caffe2", places=(), classes=5), tmp_path / "theirs.pkl")
    said = "this is no checkpoint of own/thin: there are no non-local blocks"
    with pytest.raises(UsageError, match=said):
        model_zoo.get("own/thin", trained=True, device="cpu")
    assert not list((tmp_path / "cache").rglob("*.pth"))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"sha256": "0123"}, "expected 64 hexadecimal digits, the first ones, at least 8, or unkn"),
        ({"checkpoint": "../theirs.pkl"}, "leaves its folder, which is refused"),
        ({"checkpoint": "none.pkl"}, "none.pkl' does not exist"),
        ({"checkpoint": "http://127.0.0.1:9/theirs.pkl"}, "cannot be downloaded"),
        ({"source": "torchvision"}, "no whole video models of torchvision are known"),
    ],
)
def test_a_wrong_entry_is_reported(keys, said, thin):
    thin(**keys)
    with pytest.raises(UsageError, match=said):
        model_zoo.fetch_checkpoint("own/thin")


def test_ones_own_keys_are_laid_over_the_packages(own_index):
    own_index({NLN: {"converted": {"sha256": 64 * "1"}}})
    found = entries()[NLN]["converted"]
    assert found == CONVERTED[NLN] | {"sha256": 64 * "1"}
    assert model_zoo.get_checkpoint_url(NLN) == CONVERTED[NLN]["checkpoint"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"converted": None}, "converted has no keys"),
        ({"converted": {"sha256": "unknown"}}, "converted of other lacks checkpoint, source"),
    ],
)
def test_an_entry_without_a_checkpoint_is_reported(entry, said, own_index, tmp_path):
    (tmp_path / "other.yaml").write_text("MODEL: {META_ARCHITECTURE: VideoClassifier}")
    own_index({"other": {"config": "other.yaml", **entry}})
    with pytest.raises(UsageError, match=said):
        model_zoo.fetch_checkpoint("other")
