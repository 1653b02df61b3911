"""The read API: tenants see their own invoices, platform admins see all and the costs, nobody sees more.

app.py       the application: routes, and what its life begins and ends with
dependencies.py what the routes depend on: who asks, that a request is unambiguous, a turn
auth.py      from a bearer token to the principal who asks
queries.py   the SQL of invoices, run as the role arcadia_api for that principal
cost_routes.py the routes of cost beside revenue, costs.py their SQL, for platform admins
reprice.py   what past months would come to at the prices of a price book, for platform admins
schemas.py   the documents that go in and out, with examples, in invoice_schemas.py, quote_schemas.py, cost_schemas.py
limits.py    what one client can take: connections, time, bytes, requests
problems.py  errors as application/problem+json
observe.py   request ids and the log
files.py     how files are served
dashboard.py the dashboard's files, charts.py its charts; the page itself is in static/
reference.py the reference page, /docs
"""
