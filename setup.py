"""The one thing that pyproject.toml cannot say: configs/ is installed as nl_detectron/configs/."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["nl_detectron", "nl_detectron.*", "nl_detectron_cli"]),
        "nl_detectron.configs",
    ],
    package_dir={"nl_detectron.configs": "configs"},
    package_data={
        "nl_detectron": ["py.typed"],
        "nl_detectron.configs": ["**/*.yaml", "**/*.py"],
        "nl_detectron.model_zoo": ["index.yaml"],
        "nl_detectron.reproduce": ["paper_tables.yaml"],
    },
)
