"""python train.py +experiment=grpo_smol init_from=outputs/sft_smol/<time>/adapter"""

import sys

from steer_lit.cli.programs import train

if __name__ == "__main__":
    sys.exit(train())
