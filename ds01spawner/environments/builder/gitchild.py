"""Commit one file of a repository that nobody trusts. Run as a script of its own, by `gitcommit` alone.

It locks itself into the project's folder, becomes the project's owner, and then writes one blob, tree and
commit, the entry of the index and the branch, as `git commit --only FILE` does. No hook, filter, monitor,
signature or other command that the repository configures is ever run: no code here starts a program, and
inside the folder there is none of the system's. Prints one JSON object.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import stat
import sys
import time
from contextlib import suppress

from dulwich.config import ConfigFile
from dulwich.ignore import IgnoreFilterManager
from dulwich.index import (
    ConflictedIndexEntry,
    Index,
    IndexEntry,
    index_entry_from_stat,
    read_index_dict_with_version,
)
from dulwich.objects import Blob, Commit, ObjectID, Tree
from dulwich.reflog import format_reflog_line
from dulwich.refs import HEADREF, Ref
from dulwich.repo import Repo

LATE = (
    *("array", "pwd", "socket", "tempfile", "warnings", "ctypes", "zlib", "encodings.latin_1"),
    *(f"dulwich.{n}" for n in ("attrs", "commit_graph", "midx", "object_format", "pack", "worktree")),
)
"""What dulwich imports when it is first needed: inside the folder it would not be found."""
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
HARMLESS = {b"noop", b"worktreeconfig", b"partialclone"}
"""Extensions of a repository that change nothing of what is written here."""
BUSY = (
    *("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "BISECT_LOG", "rebase-merge", "rebase-apply"),
    "index.lock",
)
CHECKSUM = 20
"""Bytes at the end of an index."""
MEMORY, FILE_SIZE, CPU_S = 2**30, 256 * 2**20, 20
TIME_S = 15


class Left(Exception):
    """The file stays uncommitted; the message says why."""


def only_plain_files(event: str, args: tuple[object, ...]) -> None:
    """An audit hook: whatever is opened from now on is a file, a folder, or not there.

    Opening a pipe waits for its other end, and a repository may have one anywhere.
    """
    if event != "open" or not isinstance(args[0], str | bytes):
        return
    try:
        mode = os.stat(args[0]).st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise Left("a file of its repository is no plain file")


def lock_in(folder: int, uid: int, gid: int) -> None:
    """See nothing but the folder, and be its owner; there is no way back."""
    os.fchdir(folder)
    os.chroot(".")
    os.chdir("/")
    os.closerange(3, 256)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    os.umask(0o027)
    for what, limit in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, FILE_SIZE),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (limit, limit))


def commit(name: str, content: bytes, person: str, message: str) -> str:
    """Commit ``content`` as ``name`` in the repository of ``/``; the commit's id, empty for no change."""
    if not stat.S_ISDIR(os.lstat("/.git").st_mode):
        raise Left("its .git is not a folder")
    for each in BUSY:
        if os.path.lexists(f"/.git/{each}"):
            raise Left("git is in the middle of something there, such as a merge")
    repo = Repo("/")
    config = repo.get_config()
    known(config)
    chain, head = repo.refs.follow(HEADREF)
    if len(chain) < 2:
        raise Left("no branch is checked out")
    path, blob = name.encode(), Blob.from_string(content)
    tree = top_tree(repo, head)
    if path in tree:
        if tree[path][1] == blob.id:
            return ""
    elif IgnoreFilterManager.from_repo(repo).is_ignored(name):
        raise Left(f".gitignore leaves {name} out")
    tree.add(path, stat.S_IFREG | 0o644, blob.id)
    made = commit_object(config, person, message, tree.id, [head] if head else [])
    index = new_index(path, content, blob.id, unborn=not head)
    for new in (blob, tree, made):
        repo.object_store.add_object(new)
    index.write()
    move_branch(repo, chain[-1], head, made, f"commit: {message}".encode())
    return made.id.decode()


def move_branch(repo: Repo, branch: Ref, head: ObjectID | None, made: Commit, why: bytes) -> None:
    """Point the branch at the commit if it is where it was, and note that as git does."""
    who, at = made.committer, made.commit_time
    if head is None:
        moved = repo.refs.add_if_new(branch, made.id, who, at, 0, why)
    else:
        moved = repo.refs.set_if_equals(branch, head, made.id, who, at, 0, why)
    if not moved:
        raise Left("its branch moved meanwhile")
    line = format_reflog_line(head, made.id, who, at, 0, why)
    with suppress(OSError), open(os.open("/.git/logs/HEAD", _APPEND), "ab") as log:
        log.write(line + b"\n")


def top_tree(repo: Repo, head: ObjectID | None) -> Tree:
    """The tree of the commit that is checked out, as a copy to change; empty before the first commit."""
    if head is None:
        return Tree()
    last = repo[head]
    tree = repo[last.tree] if isinstance(last, Commit) else None
    if not isinstance(tree, Tree):
        raise Left("what is checked out is no commit")
    return Tree.from_string(tree.as_raw_string())


def known(config: ConfigFile) -> None:
    """Refuse repositories of a kind that is not written here."""
    used = (
        {key.lower() for key, _ in config.items((b"extensions",))}
        if config.has_section((b"extensions",))
        else set()
    )
    if odd := used - HARMLESS:
        raise Left(f"its repository uses the extension {min(odd).decode(errors='replace')[:40]}")


def commit_object(
    config: ConfigFile, person: str, message: str, tree: ObjectID, parents: list[ObjectID]
) -> Commit:
    """The commit, by whom the repository names, else by the person."""
    made = Commit()
    made.tree, made.parents = tree, parents
    made.author = made.committer = identity(config, person)
    made.author_time = made.commit_time = int(time.time())
    made.author_timezone = made.commit_timezone = 0
    made.encoding = b"UTF-8"
    made.message = message.encode() + b"\n"
    return made


def identity(config: ConfigFile, person: str) -> bytes:
    """``Name <address>`` without the signs that would end it early."""
    parts = []
    for key, other in ((b"name", person.encode()), (b"email", person.encode() + b"@localhost")):
        try:
            value = config.get((b"user",), key)
        except KeyError:
            value = other
        parts.append(bytes(c for c in value if c >= 32 and c not in b"<>")[:200].strip() or b"unknown")
    return parts[0] + b" <" + parts[1] + b">"


def new_index(path: bytes, content: bytes, blob: ObjectID, *, unborn: bool) -> Index:
    """The index as it is, with the file's entry made new. Extensions are caches; git makes them again."""
    entries: dict[bytes, IndexEntry | ConflictedIndexEntry] = {}
    version = None
    if os.path.lexists("/.git/index"):
        with open("/.git/index", "rb") as file:
            entries, version, _ = read_index_dict_with_version(file)
            # dulwich stops at an extension that must be understood, such as that of a split index.
            if file.tell() != os.fstat(file.fileno()).st_size - CHECKSUM:
                raise Left("its index is split or sparse")
    elif not unborn:
        raise Left("its index is missing")
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        if file.read(len(content) + 1) != content:
            raise Left("the file changed meanwhile")
        entry = index_entry_from_stat(os.fstat(file.fileno()), blob, mode=stat.S_IFREG | 0o644)
    index = Index("/.git/index", read=False, version=version)
    for name, value in entries.items():
        index.set_verbatim(name, value)
    index.set_verbatim(path, entry)
    return index


def main() -> None:
    """Read what to do from standard input."""
    job = json.load(sys.stdin)
    for name in LATE:
        importlib.import_module(name)
    try:
        lock_in(job["folder"], job["uid"], job["gid"])
        sys.addaudithook(only_plain_files)
        signal.alarm(TIME_S)
        done = commit(job["name"], job["content"].encode(), job["person"], job["message"])
        answer = {"commit": done, "reason": ""}
    except Left as left:
        answer = {"commit": "", "reason": str(left)}
    except Exception as error:  # whatever the repository holds: the file is saved, only not committed
        answer = {
            "commit": "",
            "reason": f"its repository could not be read ({type(error).__name__}: {error!s:.200})",
        }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
