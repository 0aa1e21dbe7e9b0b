"""`python -m envkit`."""

import sys


def _is_in_conflict(file: str) -> bool:
    with open(file, encoding="utf-8", errors="replace") as text:  # noqa: PTH123 (pathlib takes as long as all of this)
        return any(line.startswith("<<<<<<< ") for line in text)


try:
    from envkit.cli import main

    status = main()
except SyntaxError as error:
    if not (error.filename and _is_in_conflict(error.filename)):
        raise
    status = 1
    print(
        f"error: {error.filename} is in conflict, so no recipe works.\n"
        "  A merge or an update is not finished. Files of envkit/ are the template's own.\n"
        "  next: git status   (names what is not finished, and all files in conflict)\n"
        f"        After an update take the template's: git checkout --theirs '{error.filename}'   (of each such file)\n"
        "        Of branches that have updated to different versions give the merge up: git merge --abort\n"
        "        On the older one then: just update --to TAG   (that of the other one); commit that, and merge again.",
        file=sys.stderr,
    )
sys.exit(status)
