"""Weight files: every format of Detectron2's loads, old private ones if trusted, and no others."""

import datetime
import logging
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from helpers import tiny_cfg
from marked_files import Marker, write_marked_file

from nl_detectron.engine import Checkpointer, trust
from nl_detectron.engine.checkpoint import read_checkpoint
from nl_detectron.engine.restricted_pickle import ForbiddenGlobalError, load_arrays
from nl_detectron.engine.weight_files import read_weight_file
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
ARRAYS = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_endian": np.arange(4, dtype=">i4"),
    "half": np.ones((2, 1, 3), np.float16),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "text": np.array(["a", "bc"]),
    "empty": np.empty((0, 3), np.float32),
    "scalar": np.float64(0.75),
    "no_dimension": np.array(3),
}
PLAIN = {"b": b"\xff\x00", "none": None, "set": {1, 2}, "list": [1, (2.5, "x")], "empty": b""}


def unpickle(content, tmp_path, protocol=2):
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(content, protocol))
    with open(tmp_path / "file.pkl", "rb") as file:
        return load_arrays(file)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_and_plain_containers_are_read_as_pickle_reads_them(protocol, tmp_path):
    content = OrderedDict(**ARRAYS, plain=PLAIN, complex_number=1j, frozen=frozenset("ab"))
    loaded = unpickle(content, tmp_path, protocol)
    assert loaded["plain"] == PLAIN and loaded["frozen"] == {"a", "b"}
    usual = pickle.loads(pickle.dumps(ARRAYS, protocol))  # may be of another byte order
    for name, array in usual.items():
        assert loaded[name].dtype == array.dtype and loaded[name].shape == array.shape
        assert np.array_equal(loaded[name], array)


def test_text_of_python_2_is_read(tmp_path):
    # {'w': numpy.array([1., 2.], 'f4')} of Python 2 with NumPy 1: its bytes are text in latin1
    content = (
        b"\x80\x02}q\x01U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        b"U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff"
        b"\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08\x00\x00\x80?\x00\x00\x00@tbs."
    )
    (tmp_path / "two.pkl").write_bytes(content)
    with open(tmp_path / "two.pkl", "rb") as file:
        assert load_arrays(file)["w"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("value", "asked"),
    [
        (datetime.date(2018, 4, 1), "datetime.date"),
        (torch.ones(1), "torch._utils._rebuild_tensor_v2"),
        (np.array([{}]), "numpy.dtype('O8')"),
        (np.zeros(1, [("a", "f4")]), "numpy.dtype('V4')"),
        (getattr, "builtin__?s?.getattr"),
        (np.load, "numpy.load"),
        (np.ma.masked_array([1]), "numpy.ma.*"),
    ],
)
def test_anything_else_is_refused_by_name(value, asked, tmp_path):
    with pytest.raises(ForbiddenGlobalError, match=asked.replace("(", r"\(").replace(")", r"\)")):
        unpickle({"a": value}, tmp_path)


@pytest.mark.parametrize(
    "state",
    [
        (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0),  # a record of objects
        (3, "|", (np.dtype("f8"), (9,)), None, None, 72, 8, 0),  # larger than the array's bytes
        (3, "no order", None, None, None, -1, -1, 0),
    ],
)
def test_a_crafted_dtype_does_not_reach_numpy(state, tmp_path):
    class Crafted:
        def __reduce__(self):
            return np.dtype, ("f8", False, True), state

    class Array:
        def __reduce__(self):
            empty = np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b")
            return *empty, (1, (1,), Crafted(), False, b"\x01" * 8)

    try:
        loaded = unpickle({"a": Array()}, tmp_path)
    except (ForbiddenGlobalError, ValueError):
        return
    assert loaded["a"].dtype == np.float64 and loaded["a"].nbytes == 8


def test_a_pickle_cannot_replace_the_functions_that_read_it(tmp_path):
    # BUILD with a tuple sets attributes: here, on what numpy.dtype stands for
    content = b"\x80\x02cnumpy\ndtype\nN}U\x08__init__c__builtin__\nset\ns\x86b."
    (tmp_path / "file.pkl").write_bytes(content)
    with open(tmp_path / "file.pkl", "rb") as file:
        load_arrays(file)
    assert unpickle(ARRAYS, tmp_path)["half"].dtype == np.float16


# --- files of weights --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet():
    """A thin ResNet's model and tensors as arrays, with Detectron2's names."""
    model = build_model(tiny_cfg()).backbone.bottom_up
    return model, {name: tensor.numpy() for name, tensor in model.state_dict().items()}


CONTENTS = {
    "zoo.pkl": lambda model: {"model": model, "__author__": "someone", "matching_heuristics": True},
    "bare.pkl": lambda model: dict(model, res_conv1_w_momentum=np.ones(2)),
    "blobs.pkl": lambda model: {"blobs": dict(model), "cfg": "MODEL:\n  TYPE: x\n"},
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", CONTENTS)
def test_pickles_of_model_zoos_load_as_in_detectron2(name, protocol, resnet, tmp_path):
    _, arrays = resnet
    caffe2 = {"conv1_w": arrays["stem.conv1.weight"], "res_conv1_bn_s": np.ones(8, np.float32)}
    content = CONTENTS[name](arrays if name == "zoo.pkl" else caffe2)
    (tmp_path / name).write_bytes(pickle.dumps(content, protocol))
    model = build_model(tiny_cfg()).backbone.bottom_up
    Checkpointer(model).load(str(tmp_path / name))
    loaded = model.state_dict()
    assert np.array_equal(loaded["stem.conv1.weight"], arrays["stem.conv1.weight"])
    if name == "zoo.pkl":
        assert all(np.array_equal(loaded[key], array) for key, array in arrays.items())
    else:
        assert read_checkpoint(str(tmp_path / name))["model"].keys() == caffe2.keys()


def test_files_of_torch_save_load_as_in_detectron2(resnet, tmp_path):
    model, _ = resnet
    state = model.state_dict()
    torch.save(state, tmp_path / "bare.pth")
    torch.save({"model": state, "iteration": 3}, tmp_path / "run.pth")
    torch.save({"model_state": state}, tmp_path / "pycls.pyth")
    torch.save({"model": state, "__author__": "me"}, tmp_path / "zip.pkl")
    for name in ("bare.pth", "run.pth", "pycls.pyth", "zip.pkl"):
        loaded = read_checkpoint(str(tmp_path / name))
        assert all(torch.equal(loaded["model"][key], tensor) for key, tensor in state.items())
    assert read_checkpoint(str(tmp_path / "pycls.pyth"))["__author__"] == "pycls"
    assert read_checkpoint(f"{tmp_path}/run.pth?matching_heuristics=True")["matching_heuristics"]
    with pytest.raises(UsageError, match="unknown query 'heuristics=1'"):
        read_checkpoint(f"{tmp_path}/run.pth?heuristics=1")


@pytest.mark.slow
def test_the_real_imagenet_weights_load_as_pth_and_as_pkl(shared, tmp_path):
    content = torch.load(shared / "weights/R-50.pth", weights_only=True)
    tensors = content.get("model", content)
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    zoo = {"model": arrays, "__author__": "Caffe2", "matching_heuristics": True}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(zoo, protocol=2))
    for path in (shared / "weights/R-50.pth", tmp_path / "R-50.pkl"):
        loaded = read_checkpoint(str(path))["model"]
        assert len(loaded) == len(tensors) > 200
        assert all(np.array_equal(loaded[name], array) for name, array in arrays.items())


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}, {"blobs": {"a": 1}}, "text"], ids=str)
@pytest.mark.parametrize("name", ["file.pkl", "file.pth", "file.pyth"])
def test_a_file_without_weights_is_reported(name, content, tmp_path):
    path = tmp_path / name
    if name == "file.pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(UsageError, match="holds no model weights"):
        read_checkpoint(str(path))


@pytest.mark.parametrize("name", ["file.pkl", "file.pth", "file.pyth"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02}q\x00", b"\x80\x04\x95"])
def test_a_damaged_file_is_reported(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=r"cannot be read \(\w+: .*damaged or of another format"):
        read_checkpoint(str(tmp_path / name))


# --- trust -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["old.pkl", "old.pth"])
def test_a_trusted_file_loads_with_a_warning(name, tmp_path, caplog):
    path = write_marked_file(tmp_path / name, tmp_path / "ran")
    with trust(checkpoints=True), caplog.at_level(logging.WARNING):
        assert "stem.conv1.weight" in read_checkpoint(str(path))["model"]
    assert (tmp_path / "ran").exists()
    (record,) = (r for r in caplog.records if r.name.startswith("nl_detectron"))
    assert f"--trust-checkpoint: reading {path} runs any code in it" in record.message
    with pytest.raises(UsageError, match="is refused"):
        read_checkpoint(str(path))


def test_a_file_of_weights_alone_needs_no_trust_and_no_warning(tmp_path, caplog):
    torch.save({"model": {"a": torch.ones(1)}}, tmp_path / "new.pth")
    with trust(checkpoints=True):
        read_checkpoint(str(tmp_path / "new.pth"))
    assert not caplog.records


def test_trust_in_remote_bases_is_none_in_checkpoints(tmp_path):
    path = write_marked_file(tmp_path / "old.pkl", tmp_path / "ran")
    with trust(remote_bases=True), pytest.raises(UsageError, match="is refused"):
        read_checkpoint(str(path))
    assert not (tmp_path / "ran").exists()


def test_a_plain_pickle_by_the_name_of_a_torch_file_runs_nothing(tmp_path):
    (tmp_path / "file.pth").write_bytes(pickle.dumps(Marker(tmp_path / "ran"), protocol=2))
    with pytest.raises(UsageError, match=r"cannot be read|is refused"):
        read_checkpoint(str(tmp_path / "file.pth"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("url", ["https://there/../../x/weights.pth", "http://there/a/../b.pkl"])
def test_a_url_that_leaves_the_cache_is_refused(url):
    for read in (read_checkpoint, Checkpointer(torch.nn.Identity()).load):
        with pytest.raises(UsageError, match=r"a URL with '\.\.' in its path"):
            read(url)


@pytest.mark.parametrize("name", ["weights.pth", "weights.pkl"])
def test_a_damaged_file_is_reported_also_where_it_is_trusted(name, tmp_path):
    (tmp_path / name).write_bytes(b"not a checkpoint")
    with trust(checkpoints=True), pytest.raises(UsageError, match="cannot be read"):
        read_weight_file(str(tmp_path / name))
