"""Links of a Markdown page that is shown away from the repository."""

import posixpath
import re
from collections.abc import Callable

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)


def rewrite_links(text: str, rewrite: Callable[[str], str | None]) -> str:
    """Return a page with other targets of its relative links, which code blocks have none of.

    Args:
        text: Markdown.
        rewrite: returns a target's replacement, or None: then a link becomes its text, and an image
            is left out.
    """

    def replace(match: re.Match) -> str:
        image, label, target = match.groups()
        if "://" in target or target.startswith("#"):
            return match[0]
        replacement = rewrite(target)
        if replacement is None:
            return "" if image else label
        return f"{image}[{label}]({replacement})"

    parts = FENCE.split(text)
    parts[::2] = (LINK.sub(replace, part) for part in parts[::2])
    return "".join(parts)


def link_to_repository(text: str, url: str, folder: str = "") -> str:
    """Return a page whose relative links lead to the files of a repository on GitHub.

    Args:
        text: Markdown.
        url: of the repository; "" if it is unknown, which leaves out pictures and takes links for
            their text.
        folder: of the page in the repository.
    """

    def rewrite(target: str) -> str | None:
        if not url:
            return None
        path = posixpath.normpath(posixpath.join(folder, target))
        kind = "raw" if path.endswith((".png", ".jpg", ".svg")) else "blob"
        return f"{url}/{kind}/main/{path}"

    return rewrite_links(text, rewrite)
