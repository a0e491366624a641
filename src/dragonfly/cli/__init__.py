"""The commands people type.

Belongs: options, help, what is shown, exit statuses, and `dragonfly up`, which starts the daemons as processes. Does
not belong: doing the work; a command talks to a service or runs one. Imports that take long stand inside the commands,
so that help is there at once.
"""
