"""``python -m data_augment`` is the command ``data-augment``."""

import sys

from data_augment.cli import main

if __name__ == "__main__":
    sys.exit(main())
