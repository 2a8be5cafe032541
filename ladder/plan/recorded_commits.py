"""Which commit recorded an entry of dvc.lock: the oldest one of HEAD's history with exactly this entry."""

from ladder.integrity.lock_file import LOCK, split
from ladder.pipeline.git_history import FORM, SHORT, git, object_ids, texts

NOT_COMMITTED = "not committed"


def recorded_commits(lock: str) -> dict[str, str]:
    """Return {stage: commit, date and subject} of every entry in the text of a dvc.lock.

    An entry that no commit has is NOT_COMMITTED. Errors: UserError outside a git repository.
    """
    missing = split(lock).entries
    found = dict.fromkeys(missing, NOT_COMMITTED)
    if not git("rev-list", "--all", "--max-count=1"):
        return found
    lines = [line.split("\t", 3) for line in reversed(git("log", FORM, "--", str(LOCK)).splitlines())]
    objects = object_ids(f"{commit}:./{LOCK}" for commit, *_ in lines)
    content = texts(each for each in objects if each is not None)
    for (commit, _, date, subject), name in zip(lines, objects, strict=True):
        text = content.get(name or "", "")
        for stage in [stage for stage, entry in missing.items() if _has(text, entry)]:
            found[stage] = f"{commit[:SHORT]} {date} {subject}"
            del missing[stage]
    return found


def _has(lock: str, entry: str) -> bool:
    """Whether a dvc.lock has this entry, and not a longer one with the same beginning."""
    start = lock.find(entry)
    return start >= 0 and not lock.startswith("    ", start + len(entry))
