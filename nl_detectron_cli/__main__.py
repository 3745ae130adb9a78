"""``nl-detectron``, as ``python -m nl_detectron_cli``: under torchrun, for example."""

from .main import main

if __name__ == "__main__":
    main()
