"""An archive that ADD would unpack is measured before the engine gets it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tracemalloc

import pytest

from ds01spawner.core.yaml_reader import FileProblems
from ds01spawner.environments.builder import pinning
from ds01spawner.environments.builder.unpacking import TooLarge, check_added, unpacked_size
from ds01spawner.environments.facts import ImageFacts
from ds01spawner.workspace.projectfiles import Context

MIB = 2**20
LIMIT = 8 * MIB
BASE = ImageFacts("sha256:" + "1" * 64)
PACK = {"tar": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def tar_of(size: int, count: int = 1, form: int = tarfile.PAX_FORMAT, **header: object) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for i in range(count):
            info = tarfile.TarInfo(f"f{i}")
            info.size = size
            for name, value in header.items():
                setattr(info, name, value)
            tar.addfile(info, io.BytesIO(bytes(size)))
    return out.getvalue()


def measured(data: bytes, limit: int = LIMIT) -> int:
    return unpacked_size(io.BytesIO(data), limit)


@pytest.mark.parametrize("kind", PACK)
def test_what_fits_passes_and_a_bomb_does_not(kind):
    assert measured(PACK[kind](tar_of(MIB, 3))) >= 3 * MIB
    with pytest.raises(TooLarge, match="becomes more than"):
        measured(PACK[kind](tar_of(4 * MIB, 3)))


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_archives_that_follow_each_other_count_together(kind):
    one = PACK[kind](bytes(5 * MIB))
    assert measured(one) == 5 * MIB
    with pytest.raises(TooLarge):
        measured(one + one)


def test_what_is_no_archive_is_taken_as_it_is():
    assert measured(b"hello") == 5
    assert measured(gzip.compress(b"a,b\n1,2\n" * 100)) == 800
    assert measured(b"") == 0


def test_what_cannot_be_measured_is_refused():
    whole = gzip.compress(tar_of(MIB))
    for data in (
        b"\x28\xb5\x2f\xfd rest",
        b"\x50\x2a\x4d\x18 rest",
        whole[:-9] + b"\xff" * 9,
        whole + b"junk",
    ):
        with pytest.raises(TooLarge):
            measured(data)


def test_a_sparse_file_counts_as_large_as_it_says():
    sparse = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "f"}
    sparse |= {"GNU.sparse.size": str(2**40), "GNU.sparse.realsize": str(2**40), "GNU.sparse.map": "0,0"}
    with pytest.raises(TooLarge, match="becomes more than"):
        measured(tar_of(0, pax_headers=sparse))
    sparse |= {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    with pytest.raises(TooLarge):
        measured(tar_of(0, pax_headers=sparse))
    with pytest.raises(TooLarge, match="old kind"):
        measured(tar_of(0, form=tarfile.GNU_FORMAT, type=tarfile.GNUTYPE_SPARSE))


def test_a_description_does_not_fill_the_memory():
    data = gzip.compress(tar_of(64 * MIB, form=tarfile.GNU_FORMAT, type=tarfile.GNUTYPE_LONGNAME))
    tracemalloc.start()
    with pytest.raises(TooLarge, match="description"):
        measured(data, 1024 * MIB)
    assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    tracemalloc.stop()


def context_of(links: dict[str, str], **files: bytes) -> Context:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return Context(out)


BOMB = gzip.compress(tar_of(16 * MIB))


@pytest.mark.parametrize(
    ("line", "onbuild", "refused"),
    [
        ("ADD bomb.gz /x/", (), True),
        ("ADD ./bomb.gz /x/", (), True),
        ("ADD /bomb.gz /x/", (), True),
        ("ADD bomb.* /x/", (), True),
        ('ADD ["bomb.gz", "/x/"]', (), True),
        ("ADD link /x/", (), True),
        ("COPY a a", ("ADD . /x",), True),
        ("COPY bomb.gz /x/", (), False),
        ("ADD a /x/", (), False),
        ("ADD . /x/", (), False),  # what lies in a folder is not unpacked
    ],
)
def test_a_bomb_is_refused_with_its_line_where_add_would_unpack_it(line, onbuild, refused):
    base = ImageFacts(BASE.id, onbuild=onbuild)
    pinned = pinning.pin(f"FROM base\n{line}\n", lambda _: base)
    context = context_of({"link": "bomb.gz"}, a=b"a", bomb_gz=BOMB)
    if not refused:
        check_added(pinned, context, LIMIT, "Dockerfile")
        return
    with pytest.raises(FileProblems) as caught:
        check_added(pinned, context, LIMIT, "Dockerfile")
    (problem,) = caught.value.problems
    assert problem.line == (1 if onbuild else 2)
    assert "unpack it in a RUN" in problem.message
