"""Check the message of a commit: ``check_subject.py FILE``, a commit-msg hook of git."""

import sys
from pathlib import Path

LONGEST = 71  # characters

lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
lines = [line for line in lines if not line.startswith("#")]
subject = lines[0] if lines else ""
if not subject.strip():
    sys.exit("The message is empty: say in one line what the commit changes.")
if len(subject) > LONGEST:
    sys.exit(f"The subject has {len(subject)} characters; at most {LONGEST}. Put the rest below.")
if len(lines) > 1 and lines[1].strip():
    sys.exit("The second line is not empty: git takes it for a part of the subject.")
