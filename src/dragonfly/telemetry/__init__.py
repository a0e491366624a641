"""What operators see: logs and metrics now, traces beside them.

Belongs: formats and where they go. Does not belong: deciding what is worth telling; that is said where it happens.
"""
