"""`make bench`: what Dragonfly costs and what it reaches, beside the plain tools and the bounds of physics.

A scenario is a module with `NAME`, `TITLE`, `NEEDS`, `ABOUT`, `run(setup)` that measures and returns its rounds as
plain numbers, and `figures(rounds)` that condenses them. Everything measured is a real process with its real command
line; nothing here reaches into the product. Figures are for comparing, never a gate.
"""
