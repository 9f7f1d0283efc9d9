"""``python -m tests.campaign [kills] [faults] [inputs]``: what the commands do when they are killed, starved, or given
nonsense. It prints a line for each trial, with what is wrong below it, and the counts; the exit code is 1 if anything
is. Everything takes about half an hour on two cores.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

from tests.campaign import faults, inputs, kills
from tests.campaign.trial import Trial, counts

PARTS = {"kills": kills.trials, "faults": faults.trials, "inputs": inputs.trials}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} [all]")
    parser.add_argument("--only", default="", help="faults and inputs: only trials whose name has this text")
    chosen = parser.parse_args()
    lines: list[str] = []
    failed = False
    for part in chosen.parts or PARTS:
        found: list[Trial] = []
        with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
            arguments = (chosen.only,) if part != "kills" else ()
            for trial in PARTS[part](Path(folder).resolve(), *arguments):
                found.append(trial)
                print(trial.line(), flush=True)
        lines.append(f"{part}: {counts(found)}")
        failed |= any(trial.problems for trial in found)
    print("\n" + "\n".join(lines))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
