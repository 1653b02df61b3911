"""The first page of `arcadia --help`: what there is, by what it is for, a line for each."""

import click

SECTIONS = {
    "Invoices": {
        "invoice": "Invoice a month, for the first time or again",
        "quote": "Price a deployment before it exists",
        "show": "Show a tenant's invoice of a month",
        "explain": "Show where an invoice's amounts come from",
        "diff": "Compare two revisions of an invoice",
        "document": "Write an invoice as a PDF or an e-invoice",
        "documents": "Write a month's invoices as PDFs",
    },
    "Operators' acts": {
        "issue-drafts": "Issue a month's drafts as they are",
        "mark-invoice-paid": "Mark invoices as paid, which locks them",
        "deliver": "Deliver invoices, which locks them",
        "settle-email": "Decide what became of e-mails",
        "void-invoice": "Void invoices that were not paid",
        "reopen-invoice": "Make void invoices drafts again",
        "withdraw-from-finance": "Note that finance no longer has some invoices",
        "hold-tenant": "Hold tenants: they get drafts only",
        "release-tenant": "Release tenants that are on hold",
        "add-line": "Enter a charge or a credit for an invoice",
        "grant-credit": "Grant promotional credit",
        "credits": "List manual lines and promotional credit",
        "accept-missing-tenants": "Accept that tenants have nothing to bill",
        "accept-unbilled-usage": "Accept usage that nobody pays for",
        "accept-vanished-usage": "Accept that frozen usage is gone",
    },
    "Who sells": {
        "supplier": "Enter or list who sells, as invoices show it",
    },
    "Proofs": {
        "audit": "Work invoices out again in SQL, and compare",
        "replay": "Work invoices out again, and compare hashes",
        "rebuild": "Put lost lines and lost frozen usage back",
    },
    "Prices": {
        "prices": "The price book as a file: export, check, apply",
        "reprice": "Price past months at other prices",
    },
    "Costs and files": {
        "costs": "The provider's bills, exchange rates, margins",
        "export": "Write months to files for other programs",
        "usage": "Usage outside PostgreSQL: check it, or test data",
        "finance": "Tell finance of invoices, and compare",
    },
    "Servers and the demo": {
        "demo": "Load sample data, invoice it, show the result",
        "ui": "Serve Dagster's UI, with its daemon",
        "api": "Serve the read API and the dashboard",
        "token": "Print a token for the read API",
    },
    "The database": {
        "db": "Start, stop, migrate and query the database",
        "backup": "Write the whole database to a file",
        "restore": "Fill an empty database from a backup",
    },
}
"""By heading: each command of `arcadia`, and what it does in at most 50 characters."""


class Overview(click.Group):
    """A group that lists its commands by section."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, their summaries one below the other."""
        width = max(len(name) for summaries in SECTIONS.values() for name in summaries)
        for heading, summaries in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), summary) for name, summary in summaries.items()])
