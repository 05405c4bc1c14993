"""Attacks on the package, each as one command that goes on where it stopped; prints a table.

    python experiments/faults.py readers [--inputs 10000] [--commands 500] [--out runs/faults/readers.jsonl]

`readers`: damaged files through every reader, and some through the command line (`fault_readers.py`). The exit
code is 1 where there was a fault. `tests/faults` has a short form of each.
"""

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Run one attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    attacks = parser.add_subparsers(dest="attack", required=True)
    readers = attacks.add_parser("readers", help="damaged files through every reader")
    readers.add_argument("--inputs", type=int, default=10_000)
    readers.add_argument("--commands", type=int, default=500)
    readers.add_argument("--out", type=Path, default=Path("runs/faults/readers.jsonl"))
    given = parser.parse_args()
    import fault_readers

    return 0 if fault_readers.run(given.inputs, given.commands, given.out) else 1


if __name__ == "__main__":
    sys.exit(main())
