"""Seed peers as members of seed peer clusters: registering, looking up, listing for a host, leaving."""
