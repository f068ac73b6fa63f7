"""``python -m nlp_distill`` is ``nlp-distill``."""

import sys

from nlp_distill.cli import main

sys.exit(main())
