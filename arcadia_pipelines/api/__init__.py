"""The read API: tenants see their own invoices, platform admins see all, nobody sees more.

app.py       the application: routes, and what its life begins and ends with
auth.py      from a bearer token to the principal who asks
queries.py   the SQL, run as the role arcadia_api for that principal
schemas.py   the documents that go in and out, with examples
problems.py  errors as application/problem+json
observe.py   request ids and the log
commands.py  `arcadia api` and `arcadia token`
"""
