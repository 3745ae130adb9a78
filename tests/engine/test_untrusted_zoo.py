"""A zoo's index is data: its code does not run, and its files are held against their SHA-256."""

from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest
import torch
import yaml
from marked_files import assert_refused, write_marked_file

from nl_detectron import model_zoo
from nl_detectron.errors import UsageError


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """Writes an index of a zoo with one entry, "theirs/model"."""
    folder = tmp_path / "zoo"
    folder.mkdir()

    def write(entry):
        (folder / "index.yaml").write_text(yaml.safe_dump({"theirs/model": entry}))
        monkeypatch.setenv("NL_DETECTRON_ZOO", str(folder / "index.yaml"))
        return folder

    return write


def test_a_python_config_of_an_index_does_not_run(zoo, marker):
    folder = zoo({"config": "model.py"})
    (folder / "model.py").write_text(f"open({str(marker)!r}, 'w')\nmodel = train = {{}}\n")
    for name in ("theirs/model.py", "theirs/model"):
        with pytest.raises(UsageError, match=r"model\.py.*is Python code"):
            model_zoo.get_config(name)


@pytest.mark.parametrize("place", ["../{}", "/{}", "sub/../../{}"])
@pytest.mark.parametrize("key", ["config", "checkpoint"])
def test_a_path_that_leaves_the_folder_of_an_index_is_refused(zoo, key, place):
    path = place.format("model.yaml" if key == "config" else "model.pth")
    zoo({"config": path} if key == "config" else {"trained": {"checkpoint": path}})
    with pytest.raises(UsageError, match=f"theirs/model.*{path}.*leaves its folder"):
        model_zoo.get_config("theirs/model")


def test_a_link_out_of_the_folder_of_an_index_is_refused(zoo, tmp_path):
    folder = zoo({"config": "model.yaml"})
    (tmp_path / "secret.yaml").write_text("MODEL: {}\n")
    (folder / "model.yaml").symlink_to(tmp_path / "secret.yaml")
    with pytest.raises(UsageError, match="leaves its folder"):
        model_zoo.get_config("theirs/model")


URL = "https://there/theirs/model-12345678.pth"


def weights_in_bytes(value: float) -> bytes:
    buffer = BytesIO()
    torch.save({"model": {"a": torch.full((2,), value)}}, buffer)
    return buffer.getvalue()


def test_a_checkpoint_is_held_against_its_sha256_after_fetching_and_from_the_cache(
    zoo, server, tmp_path
):
    expected = server(weights_in_bytes(1.0))
    zoo({"config": "model.yaml", "trained": {"checkpoint": URL, "sha256": expected}})
    (tmp_path / "zoo/model.yaml").write_text("MODEL: {DEVICE: cpu}\n")
    server(weights_in_bytes(2.0))  # replaced on the server
    for _ in range(2):
        with pytest.raises(UsageError, match=f"{URL}.*not {expected}.*removed from the cache"):
            model_zoo.get_config("theirs/model", trained=True)
        assert not list((tmp_path / "cache").rglob("*.pth"))
    server(weights_in_bytes(1.0))  # mended
    (cached,) = {model_zoo.fetch_checkpoint("theirs/model") for _ in range(2)}
    assert model_zoo.get_config("theirs/model", trained=True).MODEL.WEIGHTS == cached
    Path(cached).write_bytes(weights_in_bytes(3.0))  # replaced in the cache
    with pytest.raises(UsageError, match="removed from the cache"):
        model_zoo.get("theirs/model", trained=True)
    assert not Path(cached).exists()


def test_a_wrong_file_in_the_folder_of_an_index_is_refused_and_kept(zoo):
    folder = zoo({"trained": {"checkpoint": "model.pth", "sha256": 64 * "0"}, "config": "m.yaml"})
    (folder / "m.yaml").write_text("MODEL: {DEVICE: cpu}\n")
    (folder / "model.pth").write_bytes(weights_in_bytes(1.0))
    with pytest.raises(UsageError, match=r"model\.pth'.*damaged or was replaced$"):
        model_zoo.get_config("theirs/model", trained=True)
    assert (folder / "model.pth").exists()


@pytest.mark.parametrize("sha256", [None, "", "12345678", 64 * "g"])
def test_a_checkpoint_without_its_sha256_is_refused(zoo, sha256):
    zoo({"trained": {"checkpoint": URL, "sha256": sha256}})
    with pytest.raises(UsageError, match="needs sha256"):
        model_zoo.get_checkpoint_url("theirs/model")


@pytest.mark.slow
def test_weights_of_a_zoo_run_nothing(zoo, marker, tmp_path):
    folder = tmp_path / "zoo"
    file = write_marked_file(folder / "model.pkl", marker)
    digest = sha256(file.read_bytes()).hexdigest()
    text = yaml.safe_dump({"MODEL": {"DEVICE": "cpu", "WEIGHTS": ""}})
    zoo({"config": "model.yaml", "trained": {"checkpoint": "model.pkl", "sha256": digest}})
    (folder / "model.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        model_zoo.get("theirs/model", trained=True)
    assert_refused(str(caught.value), file)
