"""Files from elsewhere: reading them runs nothing unless the user trusts them."""

import datetime
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from marked_files import write_marked_file
from source_checkpoints import caffe2_blobs, slowfast_block

from nl_detectron.convert import read_tensors
from nl_detectron.engine import trust
from nl_detectron.errors import UsageError


@pytest.mark.parametrize("name", ["theirs.pkl", "theirs.pth"])
def test_a_file_runs_nothing(name, tmp_path):
    file = write_marked_file(tmp_path / name, tmp_path / "ran")
    with pytest.raises(UsageError, match="is refused"):
        read_tensors(str(file))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["model_state", "state_dict"])
def test_a_file_with_more_than_tensors_is_read_if_trusted(key, tmp_path):
    file = str(tmp_path / "theirs.pth")
    torch.save({key: slowfast_block(), "best": np.float64(0.75)}, file)
    with pytest.raises(UsageError, match=r"numpy.*multiarray.scalar.*--trust-checkpoint"):
        read_tensors(file)
    with trust(checkpoints=True):
        assert read_tensors(file).keys() == slowfast_block().keys()


def test_a_pickle_with_more_than_arrays_is_read_if_trusted(tmp_path):
    content = {"blobs": caffe2_blobs(), "date": datetime.date(2018, 4, 1)}
    file = tmp_path / "theirs.pkl"
    file.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UsageError, match=r"datetime\.date.*--trust-checkpoint"):
        read_tensors(str(file))
    with trust(checkpoints=True):
        assert "nonlocal_conv4_5_theta_w" in read_tensors(str(file))


def test_files_without_tensors_and_without_anything_are_reported(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(UsageError, match="holds no tensors by name"):
        read_tensors(str(tmp_path / "empty.pth"))
    with pytest.raises(UsageError, match="there is no file"):
        read_tensors(str(tmp_path / "nowhere.pth"))


def test_weights_that_are_not_finite_are_refused(tmp_path):
    file = str(tmp_path / "theirs.pth")
    torch.save({"a": torch.ones(2), "b": torch.tensor([1.0, torch.nan])}, file)
    with pytest.raises(UsageError, match=r"NaN or infinite values in b"):
        read_tensors(file)


def test_safetensors_are_read_by_their_package(tmp_path, monkeypatch):
    def load_file(path):
        if not (tmp_path / path).stat().st_size:
            raise ValueError("header too small")
        return {"a": torch.ones(2)}

    whole, damaged = tmp_path / "whole.safetensors", tmp_path / "damaged.safetensors"
    whole.write_text("made up")
    damaged.write_text("")
    monkeypatch.setitem(sys.modules, "safetensors.torch", SimpleNamespace(load_file=load_file))
    assert read_tensors(str(whole)).keys() == {"a"}
    with pytest.raises(UsageError, match=r"cannot be read \(header too small\); download it again"):
        read_tensors(str(damaged))
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)  # not installed
    with pytest.raises(UsageError, match="needs the package safetensors: pip install safetensors"):
        read_tensors(str(whole))
