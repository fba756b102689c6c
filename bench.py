"""python bench.py model=smol policies.sft=outputs/sft_smol/<time>/adapter"""

import sys

from steer_lit.cli.programs import bench

if __name__ == "__main__":
    sys.exit(bench())
