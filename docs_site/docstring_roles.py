"""An extension of griffe, which reads docstrings: Sphinx roles such as :func:`f` become code."""

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:func|class|meth|attr|data|mod|exc):`~?([^`]+)`")


class DocstringRoles(Extension):
    """Docstrings in this project name functions as Sphinx does; Markdown has no roles."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called for each object that was read."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value)
