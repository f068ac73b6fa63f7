"""Distil an ensemble of multi-task models into one of them (MT-DNN, Liu et al. 2019): ``nlp-distill distill mt-dnn``.

    python scripts/distill_mt_dnn.py --tasks cola mrpc stsb rte --data-dir GLUE --output runs/mt_dnn

``--help`` lists every option.
"""

import sys

from nlp_distill.cli import main

if __name__ == "__main__":
    sys.exit(main(["distill", "mt-dnn", *sys.argv[1:]]))
