"""Files from elsewhere: reading them runs nothing, and what cannot be read comes with advice."""

import datetime
import pickle
import re

import numpy as np
import pytest
import torch
from source_checkpoints import caffe2_blobs, slowfast_block

from nl_detectron.convert import read_tensors
from nl_detectron.errors import UsageError


class Runs:
    """A pickle of it runs something."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


@pytest.mark.parametrize("name", ["theirs.pkl", "theirs.pth"])
def test_a_file_runs_nothing(name, tmp_path):
    content = {"blobs": {"a": np.ones(2)}, "more": Runs(tmp_path / "ran")}
    (tmp_path / name).write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UsageError, match="cannot be read"):
        read_tensors(str(tmp_path / name))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["model_state", "state_dict"])
def test_the_advice_on_a_file_with_more_than_tensors_works(key, tmp_path):
    torch.save({key: slowfast_block(), "best": np.float64(0.75)}, tmp_path / "theirs.pth")
    with pytest.raises(UsageError, match=r"numpy.*multiarray.scalar") as caught:
        read_tensors(str(tmp_path / "theirs.pth"))
    message = str(caught.value)
    assert message.isprintable()  # without a terminal's colour codes
    assert repr(key) in message
    command = re.search(r"torch\.save\(.*?, OTHER\)", message)[0]
    files = {"FILE": tmp_path / "theirs.pth", "OTHER": tmp_path / "theirs2.pth"}
    exec(command, {"torch": torch, "KEY": key, **files})
    assert read_tensors(str(files["OTHER"])).keys() == slowfast_block().keys()


def test_the_advice_on_a_pickle_with_more_than_arrays_works(tmp_path):
    content = {"blobs": caffe2_blobs(), "date": datetime.date(2018, 4, 1)}
    (tmp_path / "theirs.pkl").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UsageError, match=r"datetime\.date is no array") as caught:
        read_tensors(str(tmp_path / "theirs.pkl"))
    command = re.search(r"pickle\.dump\(.*, OTHER\)", str(caught.value))[0]
    with open(tmp_path / "theirs2.pkl", "wb") as other, open(tmp_path / "theirs.pkl", "rb") as file:
        exec(command, {"pickle": pickle, "FILE": file, "OTHER": other})
    assert "nonlocal_conv4_5_theta_w" in read_tensors(str(tmp_path / "theirs2.pkl"))


def test_files_without_tensors_and_without_anything_are_reported(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(UsageError, match="holds no tensors by name"):
        read_tensors(str(tmp_path / "empty.pth"))
    with pytest.raises(UsageError, match="there is no file"):
        read_tensors(str(tmp_path / "nowhere.pth"))
