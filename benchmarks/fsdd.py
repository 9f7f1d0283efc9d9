"""`python -m benchmarks.fsdd RECORDINGS OUT`: the Free Spoken Digit Dataset as folders, by digit and by speaker.

RECORDINGS contains the files DIGIT_SPEAKER_INDEX.wav. OUT/digit and OUT/speaker get train/ and test/ with one folder of
links per class; the official test part is the recordings with an index below 5.
"""

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    files = sorted(args.recordings.glob("*_*_*.wav"))
    if not files:
        parser.error(f"{args.recordings} has no files DIGIT_SPEAKER_INDEX.wav")
    for file in files:
        digit, speaker, index = file.stem.split("_")
        part = "test" if int(index) < 5 else "train"
        for kind, label in (("digit", digit), ("speaker", speaker)):
            link = args.out / kind / part / label / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(file.resolve())
    print(f"{len(files):,} recordings: {args.out / 'digit'}, {args.out / 'speaker'}")


if __name__ == "__main__":
    main()
