"""Distil a fine-tuned BERT into a BiLSTM (Tang et al. 2019): the same as ``nlp-distill distill bilstm``.

    python scripts/distill_bilstm.py --task sst2 --data-dir GLUE --teacher runs/sst2-teacher --output runs/sst2-bilstm

``--help`` lists every option.
"""

import sys

from nlp_distill.cli import main

if __name__ == "__main__":
    sys.exit(main(["distill", "bilstm", *sys.argv[1:]]))
