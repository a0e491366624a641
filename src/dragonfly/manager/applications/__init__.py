"""Applications: names downloads carry, and the priority they get for it."""
