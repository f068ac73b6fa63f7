"""Fine-tune an encoder on a GLUE task: the same as ``nlp-distill finetune``.

    python scripts/finetune_glue.py --task sst2 --data-dir GLUE --model packaged --output runs/sst2-teacher

Then distil it with ``scripts/distill_bilstm.py``. ``--help`` lists every option.
"""

import sys

from nlp_distill.cli import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
