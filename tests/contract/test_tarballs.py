import bz2
import errno
import gzip
import io
import lzma
import os
import stat
import subprocess
import tarfile
import time
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arena_core.adapters import tar_members
from arena_core.adapters.tarballs import Limits, unpack
from arena_core.domain.errors import Rejected, StorageFull, TooLarge

from contract.blob_store import lay

FILES = {
    "checkpoint.json": b"{}",
    "policy.onnx": bytes(range(256)) * 4_001,
    "notes/a/b.md": b"",
}
LIMITS = Limits(members=20, member_bytes=2_000_000, total_bytes=3_000_000)


def member(name: str, content: bytes = b"", **changes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def tar(*members, tar_format=tarfile.USTAR_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tar_format) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return stream.getvalue()


GOOD = tuple(member(name, content) for name, content in FILES.items())


@pytest.fixture
def into(tmp_path):
    return tmp_path / "into"


@pytest.fixture
def unpacked(tmp_path, into):
    """A function that unpacks an archive and returns the files that came of it."""

    def unpack_and_read(data: bytes, limits: Limits = LIMITS) -> dict[str, bytes]:
        source = tmp_path / "upload"
        source.write_bytes(data)
        unpack(source, into, limits)
        return {
            str(path.relative_to(into)): path.read_bytes()
            for path in into.rglob("*")
            if path.is_file()
        }

    return unpack_and_read


@pytest.fixture
def refused(unpacked, into, tmp_path):
    """A function that unpacks an archive and returns the refusal."""

    def unpack_and_fail(data: bytes, limits: Limits = LIMITS) -> Rejected:
        with pytest.raises(Rejected) as caught:
            unpacked(data, limits)
        assert list(into.iterdir()) == []
        assert {path.name for path in tmp_path.iterdir()} == {"upload", "into"}
        message = str(caught.value)
        assert not set("[]`\n\x1b") & set(message)
        assert str(tmp_path) not in message
        assert "://" not in message
        return caught.value

    return unpack_and_fail


# --- what is accepted ------------------------------------------------------------


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("prefix", ["", "./", "bundle/", "./bundle/", "my run (3)/"])
def test_what_was_packed_is_unpacked(unpacked, tar_format, compress, prefix):
    folders = [member(prefix, type=tarfile.DIRTYPE)] if prefix else []
    members = [member(prefix + name, content) for name, content in FILES.items()]
    assert unpacked(compress(tar(*folders, *members, tar_format=tar_format))) == FILES


@pytest.mark.parametrize("options", [["-cf"], ["-czf"], ["--format=v7", "-cf"]])
@pytest.mark.parametrize("whole", [True, False])
def test_what_the_tar_command_packs_is_unpacked(unpacked, tmp_path, options, whole):
    folder = lay(tmp_path / "bundle", FILES)
    where, what = (tmp_path, "bundle") if whole else (folder, ".")
    path = tmp_path / "packed"
    subprocess.run(["tar", *options, path, "-C", where, what], check=True)
    assert unpacked(path.read_bytes()) == FILES


def test_a_member_with_times_in_pax_headers_is_unpacked(unpacked):
    data = tar(member("a", b"x", mtime=1.5), tar_format=tarfile.PAX_FORMAT)
    assert b"mtime=1.5" in data
    assert unpacked(data) == {"a": b"x"}


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_a_name_of_200_characters_is_unpacked_and_those_after_it(unpacked, tar_format):
    name = "d" * 100 + "/" + "n" * 99
    assert unpacked(tar(member(name, b"x"), *GOOD, tar_format=tar_format)) == {
        **FILES,
        name: b"x",
    }


def test_a_global_pax_header_with_a_comment_is_fine(unpacked):
    stream = io.BytesIO()
    with tarfile.open(
        fileobj=stream, mode="w", format=tarfile.PAX_FORMAT,
        pax_headers={"comment": "a commit"},
    ) as archive:  # fmt: skip
        info, content = member("a", b"x")
        archive.addfile(info, io.BytesIO(content))
    assert unpacked(stream.getvalue()) == {"a": b"x"}


def test_only_the_owner_can_read_what_is_unpacked(unpacked, into):
    unpacked(tar(*(member(n, c, mode=0o4777) for n, c in FILES.items())))
    assert {stat.S_IMODE((into / name).stat().st_mode) for name in FILES} == {0o600}


def test_an_empty_folder_that_is_there_is_used(unpacked, into):
    into.mkdir()
    assert unpacked(tar(*GOOD)) == FILES


def test_a_folder_that_holds_something_is_left_alone(unpacked, into):
    lay(into, {"mine": b"x"})
    with pytest.raises(ValueError, match="not empty"):
        unpacked(tar(*GOOD))
    assert (into / "mine").read_bytes() == b"x"


def test_two_top_folders_are_kept(unpacked):
    assert unpacked(tar(member("a/x"), member("b/x"))) == {"a/x": b"", "b/x": b""}


# --- kinds -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "named pipe"),
        (tarfile.GNUTYPE_SPARSE, "sparse"),
        (tarfile.GNUTYPE_LONGLINK, "link"),
        (tarfile.CONTTYPE, "unknown kind"),
        (b"V", "unknown kind"),
    ],
)
def test_what_is_no_file_is_refused(refused, kind, word):
    evil = member("evil", type=kind, linkname="policy.onnx")
    error = refused(tar(*GOOD, evil))
    assert word in str(error)
    assert "evil" in str(error)
    assert error.field == "evil"


@pytest.mark.parametrize("key", ["GNU.sparse.major", "GNU.sparse.map"])
def test_a_sparse_file_in_pax_headers_is_refused(refused, key):
    evil = member("evil", b"x", pax_headers={key: "1"})
    assert "sparse" in str(refused(tar(evil, tar_format=tarfile.PAX_FORMAT)))


def test_a_file_written_through_a_link_goes_nowhere(refused, tmp_path):
    outside = tmp_path.parent / "outside"
    link = member("d", type=tarfile.SYMTYPE, linkname=str(outside.parent))
    refused(tar(link, member("d/outside", b"evil")))
    assert not outside.exists()


# --- names -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "//etc/passwd", "../evil", "a/../../evil", "a/..", "..", "a//b",
     "a/./b", "././a", "a\\..\\b", "a b", "ä", "a\x1b[31m", "http://evil.example/x",
     "C:evil", "~", "a/b/c/d/e", "x/a/b/c/d", "n" * 201, "%2e%2e/x", "a\nb"],
)  # fmt: skip
@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_bad_name_is_refused(refused, name, tar_format):
    error = refused(tar(*GOOD, member(name, b"x"), tar_format=tar_format))
    assert error.field is not None


@pytest.mark.parametrize("name", ["/", "..", "../x", "/x", "a/../.."])
def test_a_bad_name_of_a_folder_is_refused(refused, name):
    refused(tar(*GOOD, member(name, type=tarfile.DIRTYPE)))


def test_a_name_that_is_not_utf_8_is_refused(refused):
    refused(tar(member("a\udcff", b"x"), tar_format=tarfile.GNU_FORMAT))


def test_a_name_with_a_null_byte_in_a_pax_header_is_refused(refused):
    evil = member("a", b"x", pax_headers={"path": "policy.onnx\0/../../x"})
    refused(tar(evil, tar_format=tarfile.PAX_FORMAT))


@pytest.mark.parametrize(
    ("one", "other"),
    [("x", "x"), ("x", "X"), ("d/x", "D/x"), ("d/x", "D/y"), ("x", "x/y"),
     ("x", "./x"), ("x/y", "x")],
)  # fmt: skip
def test_names_that_collide_are_refused(refused, one, other):
    error = refused(tar(*GOOD, member(one, b"1"), member(other, b"2")))
    assert "twice" in str(error)


def test_top_folders_of_two_cases_are_not_taken_for_one(refused):
    assert "twice" in str(refused(tar(member("b/x", b"1"), member("B/y", b"2"))))


# --- sizes -----------------------------------------------------------------------


def test_too_many_members_are_refused(refused):
    many = [member(str(n)) for n in range(LIMITS.members + 1)]
    assert isinstance(refused(tar(*many)), TooLarge)
    folders = [member(str(n), type=tarfile.DIRTYPE) for n in range(LIMITS.members)]
    assert isinstance(refused(tar(*folders, member("a"))), TooLarge)


def test_as_many_members_as_allowed_are_unpacked(unpacked):
    assert len(unpacked(tar(*(member(str(n)) for n in range(LIMITS.members))))) == 20


def test_a_member_that_is_too_large_is_refused(refused):
    error = refused(tar(member("big", bytes(LIMITS.member_bytes + 1))))
    assert isinstance(error, TooLarge)
    assert error.field == "big"


def test_members_that_are_too_large_together_are_refused(refused, unpacked):
    two = [member(n, bytes(LIMITS.total_bytes // 2)) for n in "ab"]
    error = refused(tar(*two, member("c", b"x")))
    assert isinstance(error, TooLarge)
    assert error.field == "c"
    assert len(unpacked(tar(*two))) == 2


@pytest.mark.parametrize("size", [2**33, 2**80])
def test_a_size_that_is_only_claimed_is_refused_before_a_byte_is_read(refused, size):
    info, _ = member("big")
    info.size = size
    assert isinstance(refused(info.tobuf(tarfile.GNU_FORMAT)), TooLarge)


@pytest.mark.parametrize("size", ["-1", "x", "1e3", "", "9" * 5_000])
def test_a_pax_size_that_is_no_size_is_refused(refused, size):
    evil = member("a", b"x", pax_headers={"size": size})
    refused(tar(evil, tar_format=tarfile.PAX_FORMAT))


def raw(kind: bytes, content: bytes, name: str = "x", size: int | None = None) -> bytes:
    """Return one header and its content, whatever the kind."""
    info, _ = member(name, type=kind)
    info.size = len(content) if size is None else size
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L"])
def test_a_huge_extended_header_is_refused_before_it_is_read(refused, kind):
    data = raw(kind, b"", size=2**33)
    tracemalloc.start()
    try:
        assert isinstance(refused(data + b"a" * 1_000_000), TooLarge)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [b"x", b"g", b"L"])
def test_endless_extended_headers_are_refused(refused, kind):
    content = b"n" if kind == b"L" else b"13 comment=x\n"
    assert isinstance(refused(raw(kind, content) * 100 + tar(*GOOD)), TooLarge)


def extended(members: int) -> bytes:
    """Return an archive of empty members, each behind a header of 60,000 bytes."""
    content = b"60000 comment=" + b"x" * 59_985 + b"\n"
    return b"".join(
        raw(b"x", content) + raw(b"0", b"", str(number)) for number in range(members)
    ) + bytes(1024)


def test_large_extended_headers_are_counted_over_all_members(refused):
    assert isinstance(refused(extended(80), Limits(members=100)), TooLarge)


def test_some_large_extended_headers_are_fine(unpacked):
    assert len(unpacked(extended(60), Limits(members=100))) == 60


def test_the_time_for_an_extended_header_does_not_grow_with_its_square(monkeypatch):
    monkeypatch.setattr(tar_members, "_MOST_EXTENSION_BYTES", 1 << 20)

    def seconds(records: int) -> float:
        archive = raw(b"x", b"6 a=b\n" * records) + tar(member("a"))
        stream = tar_members.Stream(io.BytesIO(archive), len(archive))
        begun = time.process_time()
        assert [it.name for it in tar_members.members(stream)] == ["a"]
        return time.process_time() - begun

    few, many = (min(seconds(n) for _ in range(3)) for n in (6_000, 60_000))
    assert many < 25 * few


@pytest.mark.parametrize(
    "content",
    [b"x", b"0 \n", b"99 path=x\n", b"5 a=b", b"6 path\n", b"7 a=bcd", b"-1 a=b\n",
     b"9999999999 path=x\n", b" path=x\n", b"\0" * 512],
)  # fmt: skip
def test_a_damaged_pax_header_is_refused(refused, content):
    refused(raw(b"x", content) + tar(*GOOD))


def test_a_bomb_behind_a_member_is_refused(refused):
    bomb = gzip.compress(tar(member("a", b"x"))[:1024] + bytes(100_000_000))
    assert len(bomb) < 150_000
    assert isinstance(refused(bomb, Limits()), TooLarge)


def test_a_bomb_is_refused_by_its_ratio_alone(refused, unpacked):
    data = gzip.compress(tar(*(member(str(n), bytes(1_000_000)) for n in range(5))))
    assert isinstance(refused(data, Limits(ratio=100)), TooLarge)
    assert len(unpacked(data, Limits(ratio=1_000))) == 5


# --- archives that are no archives -----------------------------------------------


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_an_archive_that_is_cut_off_is_refused(refused, compress):
    data = compress(tar(*GOOD))
    for length in (1, 10, 511, 512, 700, 1_000, 2_048, len(data) // 2):
        refused(data[:length])
    refused(compress(tar(*GOOD)[: -tarfile.RECORDSIZE]))


def test_a_plain_archive_without_its_end_is_refused(refused):
    data = tar(member("a", b"x" * 512))
    assert "cut off" in str(refused(data[:1024]))


def test_a_gzip_file_with_a_wrong_checksum_is_refused(refused):
    data = bytearray(gzip.compress(tar(*GOOD)))
    data[-6] ^= 1
    assert "damaged" in str(refused(bytes(data)))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (bz2.compress(b"x"), "bzip2"),
        (lzma.compress(b"x"), "xz"),
        (b"\x28\xb5\x2f\xfd" + bytes(100), "zstd"),
        (b"PK\x03\x04" + bytes(100), "zip"),
    ],
)
def test_other_compressions_are_refused_by_name(refused, data, name):
    assert f"a {name} file" in str(refused(data))


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80\x04.", b"x" * 512, b"\xff" * 2_000, bytes(1_024), b"\x1f\x8b",
     gzip.compress(b""), gzip.compress(b"x"), gzip.compress(gzip.compress(b"x" * 600))],
)  # fmt: skip
def test_what_is_no_archive_is_refused(refused, data):
    refused(data)


def test_a_changed_header_is_refused(refused):
    data = bytearray(tar(*GOOD))
    data[0] ^= 1
    refused(bytes(data))
    # In the middle `tarfile` would take it for the end, and drop what follows.
    data = bytearray(tar(*GOOD))
    data[1_024] ^= 1
    refused(bytes(data))


def test_something_behind_the_end_is_refused(refused):
    assert "behind its end" in str(refused(tar(*GOOD) + tar(member("evil", b"x"))))


def test_only_folders_are_refused(refused):
    assert "no files" in str(refused(tar(member("a", type=tarfile.DIRTYPE))))


def test_if_no_space_is_left_nothing_is_left(tmp_path, into, monkeypatch):
    source = tmp_path / "upload"
    source.write_bytes(tar(*GOOD))
    real, written = os.write, []

    def write(descriptor, data):
        written.append(len(data))
        if len(written) > 2:
            raise OSError(errno.ENOSPC, "injected")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(StorageFull):
        unpack(source, into, LIMITS)
    assert list(into.iterdir()) == []


SOUND = tar(
    *(member(n, c[:300], mtime=0.5) for n, c in FILES.items()),
    tar_format=tarfile.PAX_FORMAT,
)


@given(
    st.lists(
        st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), max_size=5
    ),
    st.booleans(),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_archive_is_unpacked_or_refused(tmp_path_factory, flips, repair):
    data = bytearray(SOUND)
    for at, value in flips:
        data[at] = value
    if repair:  # so that more than the checksum is tried
        for at in range(0, len(data), 512):
            data[at + 148 : at + 156] = b" " * 8
            checksum = sum(data[at : at + 512])
            if checksum > 8 * ord(" "):
                data[at + 148 : at + 156] = b"%06o\0 " % checksum
            else:
                data[at + 148 : at + 156] = bytes(8)
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "upload").write_bytes(data)
    with suppress(Rejected):
        unpack(folder / "upload", folder / "into", LIMITS)
        return
    assert list((folder / "into").iterdir()) == []
