"""Pure aggregates: commands and events in, events and states out.

Nothing here reads a clock, draws a random number, logs or touches a disk: time
and identifiers are arguments.  Each aggregate is one module with its commands,
its events, its state, `decide` (which may refuse) and `evolve` (which may not).
"""
