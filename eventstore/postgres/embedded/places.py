"""Where root may put a server's files: never where somebody else could put a link in their place."""

from __future__ import annotations

import stat
from pathlib import Path

from eventstore.errors import StoreUnavailable
from eventstore.postgres.embedded.binaries import Account

_ROOT = 0


def acting_account(directory: Path, account: Account | None) -> Account | None:
    """As whom files in a directory are made: as the server's account where that owns it, else as this process (None).

    Raises StoreUnavailable where root would have to act in a directory that somebody else controls: links put there
    could have it write into any file.
    """
    if account is None:
        return None  # This process is not root's.
    place = directory.resolve()
    existing = next(each for each in (place, *place.parents) if each.exists())
    if existing.stat().st_uid == account.uid:
        return account
    for each in (existing, *existing.parents):
        status = each.stat()
        is_open = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
        if status.st_uid != _ROOT or is_open:
            whose = "everybody may write to" if is_open else f"belongs to uid {status.st_uid}"
            raise StoreUnavailable(
                f"root starts no server in {directory}, as {each} {whose}: start it as that user, or take a directory "
                "that only root can change"
            )
    return None
