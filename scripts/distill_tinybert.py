"""Distil a fine-tuned BERT into a smaller BERT (TinyBERT, Jiao et al. 2019): ``nlp-distill distill tinybert``.

    python scripts/distill_tinybert.py --task sst2 --data-dir GLUE --teacher runs/sst2-teacher --output runs/tinybert

``--help`` lists every option.
"""

import sys

from nlp_distill.cli import main

if __name__ == "__main__":
    sys.exit(main(["distill", "tinybert", *sys.argv[1:]]))
