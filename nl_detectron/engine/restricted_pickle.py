"""Reads pickles of NumPy arrays and plain containers, and runs none of the code in them.

A pickle names the functions that rebuild its objects, and ``pickle.load`` calls whatever it names.
The unpickler here knows a fixed table of names. The functions below rebuild arrays and dtypes,
because NumPy's own believe what a crafted dtype says about memory.
"""

import pickle
from collections import OrderedDict
from typing import IO, Any

import numpy as np

KINDS = "biufcSU"  # of dtypes: numbers and text, but neither objects ("O") nor records ("V")


class ForbiddenGlobalError(pickle.UnpicklingError):
    """A pickle asks for more than arrays and containers; the text is what it asks for."""


def load_arrays(file: IO[bytes]) -> Any:
    """Read a pickle of arrays and containers; those of Python 2 have text in latin1.

    Raises:
        ForbiddenGlobalError: it asks for anything else.
        Exception: it is damaged. The type depends on where.
    """
    return _ArrayUnpickler(file, encoding="latin1").load()


class _DType:
    """Stands for a dtype until its array is built: a pickle may change its byte order only."""

    def __init__(self, code: Any, *_: Any):
        self.dtype = np.dtype(code)
        if self.dtype.kind not in KINDS:
            raise ForbiddenGlobalError(f"numpy.dtype({str(code)[:40]!r})")

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array whose pickled state must have a :class:`_DType`."""

    def __setstate__(self, state: tuple) -> None:
        version, shape, dtype, is_fortran, data = state
        super().__setstate__((version, shape, dtype.dtype, is_fortran, data))


def _make_dtype(*args: Any) -> _DType:
    return _DType(*args)


def _make_empty_array(*_: Any) -> np.ndarray:
    return np.ndarray.__new__(_Array, (0,), "b")


def _make_array(data: bytes, dtype: _DType, shape: tuple, order: Any) -> np.ndarray:
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order).copy()


def _make_scalar(dtype: _DType, data: bytes | str) -> np.generic:
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, dtype.dtype, count=1)[0]


def _encode_latin1(text: str, *_: Any) -> bytes:
    return text.encode("latin1")


def _make_bytes() -> bytes:
    return b""


# What takes the place of NumPy's and Python's names in a pickle: functions, and no class whose
# attributes a pickle could replace.
GLOBALS = {
    "numpy.ndarray": "ndarray",  # an argument of _reconstruct
    "numpy.dtype": _make_dtype,
    "numpy._core.multiarray._reconstruct": _make_empty_array,
    "numpy._core.multiarray.scalar": _make_scalar,
    "numpy._core.numeric._frombuffer": _make_array,  # from protocol 5 on
    "_codecs.encode": _encode_latin1,  # how protocol 2 has bytes
    "collections.OrderedDict": OrderedDict,
    "detectron2.structures.boxes.BoxMode": int,  # in files of proposals
    "builtins.bytes": _make_bytes,  # protocol 2, if empty
    "builtins.complex": complex,
    "builtins.frozenset": frozenset,
    "builtins.set": set,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # their names in NumPy 1 and in Python 2
        known = module.replace("numpy.core", "numpy._core").replace("__builtin__", "builtins")
        if f"{known}.{name}" not in GLOBALS:
            raise ForbiddenGlobalError(f"{module}.{name}")
        return GLOBALS[f"{known}.{name}"]
