"""Classes that several threads decode for the first time at the same moment."""

import subprocess
import sys
from pathlib import Path

import pytest

import arena_core

RACE = """
import sys, threading
from typing import Optional
import attrs
from arena_core.application.decoding import convert, decoder

sys.setswitchinterval(1e-6)
for _ in range(30):
    inner = attrs.make_class("Inner", {"x": attrs.field(type=int)}, frozen=True)
    fields = {f"f{n}": attrs.field(type=Optional[inner]) for n in range(30)}
    one = attrs.make_class("One", fields, frozen=True)
    other = attrs.make_class("Other", fields, frozen=True)
    given = {name: {"x": 1} for name in fields}
    text = str(given).replace("'", '"').encode()
    start = threading.Barrier(4)

    def decode(form):
        start.wait()
        if sys.argv[1] == "decoder":
            found = decoder(form).decode(text)
        else:
            found = convert(given, form)
        assert found == form(**{name: inner(1) for name in fields})

    forms = [one, other, one, other]
    threads = [threading.Thread(target=decode, args=(form,)) for form in forms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("decoded")
"""


@pytest.mark.parametrize("by", ["decoder", "convert"])
def test_are_decoded_as_if_they_were_known(by):
    said = subprocess.run(
        [sys.executable, "-c", RACE, by],
        env={"PYTHONPATH": str(Path(arena_core.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (said.returncode, said.stdout, said.stderr) == (0, "decoded\n", "")
