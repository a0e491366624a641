"""The manager's records at rest: tables, the connection to them, and the steps that bring old ones up to date.

Belongs: SQL types, pragmas, transactions, migrations. Does not belong: rules about records, which live with their noun.
"""
