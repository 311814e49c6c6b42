"""Which release of the code this is: every event records it."""

VERSION = "0.1.0"
