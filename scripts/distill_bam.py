"""Distil teachers of single tasks into one multi-task model (BAM, Clark et al. 2019): ``nlp-distill distill bam``.

    python scripts/distill_bam.py --tasks cola mrpc stsb rte --data-dir GLUE --output runs/bam

``--help`` lists every option.
"""

import sys

from nlp_distill.cli import main

if __name__ == "__main__":
    sys.exit(main(["distill", "bam", *sys.argv[1:]]))
