"""What pyproject.toml cannot say: configs/ is installed as nl_detectron/configs/, and README.md
becomes a page that reads well away from the repository.

The repository's address is that of the environment variable NL_DETECTRON_URL, such as
https://github.com/OWNER/nl_detectron. Without it, links to files become plain text.
"""

import os
import sys
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "docs_site"))

from page_links import link_to_repository  # noqa: E402

URL = os.environ.get("NL_DETECTRON_URL", "").rstrip("/")
PAGES = {
    "Documentation": "/blob/main/docs",
    "Repository": "",
    "Issues": "/issues",
    "Changelog": "/blob/main/CHANGELOG.md",
}

setup(
    packages=[
        *find_packages(include=["nl_detectron", "nl_detectron.*"]),
        *find_packages(include=["nl_detectron_cli", "nl_detectron_cli.*"]),
        "nl_detectron.configs",
    ],
    package_dir={"nl_detectron.configs": "configs"},
    package_data={
        "nl_detectron": ["py.typed"],
        "nl_detectron.configs": ["**/*.yaml", "**/*.py"],
        "nl_detectron.model_zoo": ["index.yaml"],
        "nl_detectron.reproduce": ["paper_tables.yaml"],
        "nl_detectron_cli": ["requirements-detectron2.txt"],
    },
    project_urls={name: URL + path for name, path in PAGES.items() if URL}
    | {"Paper": "https://arxiv.org/abs/1711.07971"},
    long_description=link_to_repository((ROOT / "README.md").read_text(encoding="utf-8"), URL),
    long_description_content_type="text/markdown",
)
