"""python synthesize.py kind=red_team rows=50"""

import sys

from steer_lit.cli.programs import synthesize

if __name__ == "__main__":
    sys.exit(synthesize())
