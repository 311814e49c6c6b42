"""What the data plane must refuse: what is malformed, and what is made to harm."""

import base64
import io

import numpy as np

import bundles
from end_to_end.http_world import wire


def npy_file(descr="<f4", shape="(1, 4)", order="False", body=b"\0" * 16, **more):
    """Return the bytes of a .npy file with whatever header, in base64."""
    header = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"
    text = more.get("header", header).encode()
    magic = more.get("magic", b"\x93NUMPY\x01\x00")
    data = magic + len(text).to_bytes(2, "little") + text + body
    return base64.b64encode(data).decode()


def saved(value):
    file = io.BytesIO()
    np.save(file, value, allow_pickle=True)
    return base64.b64encode(file.getvalue()).decode()


def zipped():
    file = io.BytesIO()
    np.savez_compressed(file, a=np.zeros(1 << 20))
    return base64.b64encode(file.getvalue()).decode()


_ROW = bundles.observations(5, 4)[:1]
GOOD = wire(_ROW)
LEAVES = {
    "null": None,
    "number": 1.5,
    "list of numbers": [[0, 0, 0, 0]],
    "list of leaves": [GOOD],
    "object": {"a": GOOD},
    "true": True,
    "empty text": "",
    "no base64": "!!!!",
    "base64 with a line break": GOOD[:8] + "\n" + GOOD[8:],
    "base64 with a space": GOOD + " ",
    "url-safe base64": base64.urlsafe_b64encode(b"\xff\xfe" * 30).decode(),
    "without padding": wire(_ROW.astype("f2")).rstrip("=")[:-1],
    "padding with bits to spare": base64.b64encode(b"12").decode().replace("I=", "J="),
    "not ascii": "\u00e4\u00f6\u00fc",
    "base64 of nothing much": base64.b64encode(b"hello").decode(),
    "other magic": npy_file(magic=b"\x93NUMPX\x01\x00"),
    "other version": npy_file(magic=b"\x93NUMPY\x09\x00"),
    "pickle": base64.b64encode(b"\x80\x04\x95.").decode(),
    "object array": saved(np.array([{"a": 1}], dtype=object)),
    "text array": saved(np.array(["abc"])),
    "bytes array": saved(np.array([b"abc"])),
    "complex array": saved(np.zeros((1, 4), complex)),
    "date array": saved(np.zeros((1, 4), "M8[s]")),
    "structured array": saved(np.zeros(4, [("a", "f4")])),
    "void of 2**62 elements": npy_file(descr="|V0", shape=f"({2**62},)", body=b""),
    "empty texts of 2**62 elements": npy_file("|S0", f"({2**62},)", body=b""),
    "a claim of one TiB": npy_file(shape=f"({2**38},)", body=b""),
    "a shape that overflows": npy_file(shape=f"({2**32}, {2**32}, 4)", body=b""),
    "a shape of huge digits": npy_file(shape="(" + "9" * 400 + ",)", body=b""),
    "no elements but huge": npy_file(shape=f"(0, {2**63})", body=b""),
    "negative shape": npy_file(shape="(-1, 4)"),
    "shape of bools": npy_file(shape="(True, 4)"),
    "shape of floats": npy_file(shape="(1.0, 4)"),
    "shape that is a call": npy_file(shape="(__import__('os').getpid(), 4)"),
    "too many axes": npy_file(shape="(" + "1, " * 33 + "4)"),
    "deep header": npy_file(header="(" * 3000),
    "header with more keys": npy_file(
        header="{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4), 'x': 1}"
    ),
    "header that is no dictionary": npy_file(header="[]"),
    "too few bytes": npy_file(body=b"\0" * 15),
    "trailing bytes": npy_file(body=b"\0" * 17),
    "zip": zipped(),
    "bools that are neither": npy_file("|b1", "(1, 4)", body=b"\2" * 4),
    "no rows": wire(np.zeros((0, 4), "f4")),
    "no batch axis": wire(np.zeros(4, "f4")),
    "one column too many": wire(np.zeros((1, 5), "f4")),
    "one axis too many": wire(np.zeros((1, 1, 4), "f4")),
    "a scalar": wire(np.float32(0)),
    "NaN": wire([[0, np.nan, 0, 0]]),
    "infinity": wire([[0, 0, -np.inf, 0]]),
    "larger than float32": wire([[0, 0, 1e300, 0]]),
}


BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "form": b"obs=1",
    "empty object": b"{}",
    "list": b"[]",
    "null": b"null",
    "text": b'"obs"',
    "number": b"1",
    "invalid UTF-8": b'{"obs": "\xff\xfe"}',
    "lone surrogate": b'{"obs": "\\ud800"}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "NaN": b'{"obs": NaN}',
    "two values": b"{} {}",
    "100k deep": b'{"obs": ' + b"[" * 100_000 + b"]" * 90_000,
    "100k deep and closed": b'{"obs": ' + b"[" * 99_000 + b"]" * 99_000 + b"}",
    "100k deep objects": b'{"obs":' * 20_000,
    "a long number": b'{"obs": ' + b"9" * 190_000 + b"}",
    "a long number beside it": b'{"x": ' + b"9" * 100_000 + b', "obs": 1}',
    "deep in an unknown key": b'{"x": ' + b"[" * 90_000 + b"]" * 90_000 + b"}",
}
