"""Links of a Markdown page that is shown away from the repository."""

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
        label = LINK.sub(replace, label)  # a picture that is a link
        if "://" in target or target.startswith("#"):
            return f"{image}[{label}]({target})"
        replacement = rewrite(target)
        if replacement is None:
            return "" if image else label
        return f"{image}[{label}]({replacement})"

    parts = FENCE.split(text)
    parts[::2] = (LINK.sub(replace, part) for part in parts[::2])
    return "".join(parts)


def link_to_repository(text: str, url: str) -> str:
    """Return a page, of the repository's top folder, whose relative links lead to files on GitHub.

    Args:
        text: Markdown.
        url: as in :func:`repository_link`.
    """
    return rewrite_links(text, lambda target: repository_link(target, url))


def repository_link(file: str, url: str) -> str | None:
    """Address of a file on GitHub.

    Args:
        file: path in the repository.
        url: of the repository; "" if it is unknown: then there is no link.
    """
    kind = "raw" if file.endswith((".png", ".jpg", ".svg")) else "blob"
    return f"{url}/{kind}/main/{file}" if url else None
