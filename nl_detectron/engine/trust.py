"""What the user trusts beyond the default: checkpoints that run code, base configs of a server."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

_checkpoints: ContextVar[bool] = ContextVar("trust_checkpoints", default=False)
_remote_bases: ContextVar[bool] = ContextVar("trust_remote_bases", default=False)


def add_trust_arguments(parser: ArgumentParser, *, checkpoints: bool = True) -> None:
    """Add ``--allow-remote-base`` and, for a program that reads weights, ``--trust-checkpoint``."""
    from nl_detectron_cli import options

    options.add_trust_arguments(parser, checkpoints=checkpoints)


def add_checkpoint_argument(parser: ArgumentParser) -> None:
    """Add ``--trust-checkpoint``."""
    from nl_detectron_cli import options

    options.add_checkpoint_argument(parser)


def trust_from_args(args: Namespace) -> AbstractContextManager[None]:
    """Return the :func:`trust` that a parsed command line asks for."""
    asked = vars(args)
    return trust(
        checkpoints=asked.get("trust_checkpoint", False),
        remote_bases=asked.get("allow_remote_base", False),
    )


@contextmanager
def trust(*, checkpoints: bool = False, remote_bases: bool = False) -> Iterator[None]:
    """Trust these within a ``with`` statement.

    Args:
        checkpoints: read weight files that hold more than tensors, arrays and plain values. This
            runs any code in them.
        remote_bases: fetch the ``_BASE_`` of a YAML file that is a URL.
    """
    tokens = _checkpoints.set(checkpoints), _remote_bases.set(remote_bases)
    try:
        yield
    finally:
        _checkpoints.reset(tokens[0])
        _remote_bases.reset(tokens[1])


def trusts_checkpoints() -> bool:
    """Whether weight files may run code."""
    return _checkpoints.get()


def trusts_remote_bases() -> bool:
    """Whether a ``_BASE_`` may be a URL."""
    return _remote_bases.get()
