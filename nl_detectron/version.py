"""The version, which pyproject.toml reads without importing the package."""

__version__ = "0.1.0"
