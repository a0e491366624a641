"""How the services are told what to do: YAML files with the reference's keys become frozen values.

Belongs: what a section, a size, a duration in a file is; reading, refusing, explaining; the sections several services
share; the local stand-ins for what a manager would say. Does not belong: any one service's tree (that is its own
`settings.py`), nor acting on a setting.
"""
