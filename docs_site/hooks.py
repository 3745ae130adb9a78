"""What MkDocs calls (mkdocs.yml): adds pages, and rewrites links."""

import logging
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from docs_site.pages import OUTSIDE, ROOT, reference_pages, render_page

log = logging.getLogger("mkdocs.docs_site")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the repository's pages outside docs/, and those of the reference."""
    for file, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / file).read_bytes()))
    for page, text in reference_pages().items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite a page's links; one that leads nowhere is a warning, which fails a strict build."""
    if page.file.src_uri.startswith("reference/"):
        return markdown
    try:
        return render_page(markdown, page.file.src_uri, (config.repo_url or "").rstrip("/"))
    except FileNotFoundError as error:
        log.warning("%s", error)
        return markdown
