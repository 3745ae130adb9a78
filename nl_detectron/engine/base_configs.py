"""Reads YAML files with their ``_BASE_``, which may be a URL only if the user allows it."""

import re
from typing import Any

from detectron2.config import CfgNode

from ..errors import UsageError
from .trust import trusts_remote_bases


class _LocalCfgNode(CfgNode):
    @classmethod
    def _open_cfg(cls, filename: str) -> Any:
        url = re.search(r"\w+://.*", filename)  # Detectron2 puts a folder before unknown schemes
        if url and not trusts_remote_bases():
            raise UsageError(
                f"_BASE_: {url[0]} would be fetched from another machine: download it and name "
                "the file, or add --allow-remote-base (in Python: with "
                "engine.trust(remote_bases=True))"
            )
        return super()._open_cfg(filename)


def read_yaml(config_file: str) -> dict[str, Any]:
    """Read a YAML file and the files of its ``_BASE_`` into one dict.

    Raises:
        UsageError: a file is missing, is not YAML of plain values, or is a URL and not allowed.
    """
    source = f"config file {config_file!r}"
    try:
        written = _LocalCfgNode.load_yaml_with_base(config_file, allow_unsafe=False)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error
    except Exception as error:  # yaml's own errors have several lines
        reason = " ".join(str(error).split())
        raise UsageError(f"{source} cannot be read: {reason}") from error
    if not isinstance(written, dict):
        raise UsageError(f"{source} cannot be read: it has no KEY: VALUE lines")
    return written
