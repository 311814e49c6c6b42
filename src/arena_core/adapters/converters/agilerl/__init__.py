"""Checkpoints of AgileRL, read without it.

What `save_checkpoint` writes holds, for each network, its class, the arguments of its
constructor and its weights.  The actors are built anew of them; critics, targets and
optimisers are left out.
"""

from arena_core.adapters.converters.agilerl.conversion import convert

__all__ = ["convert"]
