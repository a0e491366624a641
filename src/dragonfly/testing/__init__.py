"""Stand-ins for the world around Dragonfly, for demos and for everybody's tests; they ship with the product.

Belongs: real servers with a switch for every fault, clocks that tests move, small clusters. Does not belong: anything a
service imports, and libraries of the development group, which are imported where they are used and nowhere else.
"""
