"""The relay data sets in Detectron2's catalogs."""

import json
from dataclasses import replace

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from relay_variants import TINY, ends

from nl_detectron.relay import SPLITS, cache_folder, register_split
from nl_detectron.relay.spec import KEYPOINTS


@pytest.fixture
def name():
    yield "relay_of_a_test"
    if "relay_of_a_test" in DatasetCatalog.list():
        DatasetCatalog.remove("relay_of_a_test")
        MetadataCatalog.remove("relay_of_a_test")


def test_importing_the_package_registers_both_variants():
    import nl_detectron  # noqa: F401

    expected = {f"{n}_{split}" for n in ("relay", "relay_keypoints") for split in SPLITS}
    assert expected <= set(DatasetCatalog.list())


def test_a_registered_split_is_written_when_first_loaded(name):
    relay = replace(TINY, keypoints=True)
    register_split(name, relay, "val")
    register_split(name, relay, "val")  # a second import does no harm
    assert not cache_folder(relay).exists()
    records = DatasetCatalog.get(name)
    assert len(records) == relay.val
    meta = MetadataCatalog.get(name)
    assert meta.thing_classes == ["thing"]
    assert meta.keypoint_names == list(KEYPOINTS)
    content = json.loads((cache_folder(relay) / "val.json").read_text())
    expected = ends(content["annotations"][0])
    loaded = np.reshape(records[0]["annotations"][0]["keypoints"], (3, 3))[:, :2]
    np.testing.assert_allclose(loaded, expected)


def test_a_registered_split_loads_after_the_cache_folder_was_changed(name, monkeypatch, tmp_path):
    register_split(name, TINY, "val")
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(tmp_path / "elsewhere"))
    assert len(DatasetCatalog.get(name)) == TINY.val
