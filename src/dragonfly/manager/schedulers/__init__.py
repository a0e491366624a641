"""Schedulers as members of scheduler clusters: registering, looking up, listing for a host."""
