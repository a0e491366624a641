"""Values all floors share: frozen, slotted, hashable, and without a way to act.

Belongs: identifiers, geometry, states and their tables. Does not belong: anything that needs a clock or a wire.
"""
