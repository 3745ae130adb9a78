"""What the site has besides docs/: pages of the repository, and a reference from docstrings."""

import posixpath
from pathlib import Path

from docs_site.page_links import repository_link, rewrite_links

ROOT = Path(__file__).resolve().parents[1]
# files of the repository outside docs/, and where the site has them
OUTSIDE = {
    "README.md": "index.md",
    "MODEL_ZOO.md": "model_zoo.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/results.md": "benchmark_results.md",
    "benchmarks/growth.png": "growth.png",
}
# packages and modules with a page of their own, in the order of the site
REFERENCE = (
    "nl_detectron",
    "nl_detectron.layers",
    "nl_detectron.modeling",
    "nl_detectron.model_zoo",
    "nl_detectron.engine",
    "nl_detectron.data",
    "nl_detectron.relay",
    "nl_detectron.video_relay",
    "nl_detectron.attention",
    "nl_detectron.analysis",
    "nl_detectron.convert",
    "nl_detectron.export",
    "nl_detectron.curves",
    "nl_detectron.reproduce",
    "nl_detectron.errors",
)


def reference_pages() -> dict[str, str]:
    """Markdown of the reference by page, for mkdocstrings."""
    pages = {f"reference/{name}.md": f"# {name}\n\n::: {name}\n" for name in REFERENCE}
    rows = "\n".join(f"- [{name}]({name}.md)" for name in REFERENCE)
    pages["reference/index.md"] = f"# Reference\n\nMade from the docstrings.\n\n{rows}\n"
    return pages


def repository_path(page: str) -> str:
    """The file of the repository that a page of the site is from."""
    return {site: file for file, site in OUTSIDE.items()}.get(page, f"docs/{page}")


def site_path(file: str) -> str | None:
    """Where the site has a file of the repository; None if nowhere."""
    if file in OUTSIDE:
        return OUTSIDE[file]
    return file.removeprefix("docs/") if file.startswith("docs/") else None


def render_page(text: str, page: str, url: str) -> str:
    """A page's Markdown with the links that it needs on the site.

    Args:
        text: its Markdown in the repository.
        page: its path on the site.
        url: of the repository; "" if it is unknown, which leaves such links out.

    Raises:
        FileNotFoundError: a link leads to no file of the repository.
    """
    folder = posixpath.dirname(repository_path(page))

    def rewrite(target: str) -> str | None:
        path, hash_sign, anchor = target.partition("#")
        file = posixpath.normpath(posixpath.join(folder, path))
        if not (ROOT / file).exists():
            raise FileNotFoundError(f"{repository_path(page)}: no file {file}, to which it links")
        on_site = site_path(file)
        if on_site is None:
            return repository_link(file, url)
        here = posixpath.dirname(page) or "."
        return posixpath.relpath(on_site, here) + hash_sign + anchor

    return rewrite_links(text, rewrite)
