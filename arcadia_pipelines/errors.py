"""The tree of our errors. Each class is defined in the module that raises it; here is what they have in common.

The message of each is one line for people: what is wrong, with what, and what to do. The command line prints it as it
is, with exit code 1.

    ArcadiaError
        Refused                     somebody asked for what cannot be done: nothing was done, and nothing is wrong
            CannotQuote             month/projection.py
            InvalidMonth            billing/month.py; also a ValueError
            NoDocument              documents/content.py
            NotBillable             pipeline/partitions.py
            NotLoaded               usage/loaders.py
            NotRepriced             month/reprice.py
            NotWritten              documents/files.py
            OperationRefused        storage/operations.py
            PricesRefused           prices/changes.py
        MonthStopped                a month cannot be invoiced as it is, and stays as it was
            GateClosed              pipeline/checks.py
            NotQuoted               month/steps.py
            TenantMissing           billing/invoice.py
            TenantsMissing          storage/missing.py
            TermsChanged            billing/invoice.py
            UnassignableUsage       storage/usage.py
            UsageVanished           storage/usage.py
        NotFound                    there is no such thing
            NoBill                  costs/bills.py
            NotInvoiced             storage/ledger.py
                NoRevision          proof/history.py
                UnknownReference    proof/history.py
            UnknownCode             storage/price_list.py
                AmbiguousCode       storage/price_list.py
            UnknownTenant           storage/catalogue.py
        InvalidInput                a text or a file cannot be read; also a ValueError
            InvalidBill             costs/bill.py
            InvalidCursor           api/queries.py
            InvalidPrices           prices/text.py
            InvalidRates            costs/exchange.py
        StorageError                storage/database.py: PostgreSQL refused, and the transaction was rolled back
            LostRows                storage/months.py
            MonthNotOver            storage/database.py
            PartialView             storage/database.py
            StorageInterrupted      storage/database.py: a retry may succeed
        BackupError                 storage/backup.py
        BilledTwice                 costs/bills.py
        CommandError                cli/console.py
        DoubtfulRate                costs/fx_rates.py
        EmbeddedError               embedded.py
        FinanceError                finance/client.py
            CallFailed              finance/tryton/rpc.py
        InvalidToken                api/auth.py
        KeysUnavailable             api/auth.py
        MailServerError             documents/mail.py
        MigrationError              storage/migrations.py
        MonthEndFailed              cli/launch.py
        NotDrawn                    pipeline/pictures.py
        NotExported                 exports/focus.py
        NotProved                   storage/chain.py
        Problem                     api/problems.py
        ProviderError               costs/digitalocean.py
            NotBilled               costs/digitalocean.py
        RequestRefused              pipeline/guard.py
        SessionRefused              storage/session.py
        SettingsError               settings.py
        UsageSourceError            usage/contract.py
"""


class ArcadiaError(Exception):
    """An error of ours; its message is made for people."""


class Refused(ArcadiaError):
    """Somebody asked for what cannot be done. Nothing was done, and nobody needs to be alerted."""


class MonthStopped(ArcadiaError):
    """A month cannot be invoiced as it is; the message says why and what to do. It stays as it was."""


class NotFound(ArcadiaError):
    """There is no such thing; the message says what there is instead, or what to do."""


class InvalidInput(ArcadiaError, ValueError):
    """A text or a file cannot be read as what it should be; the message says where."""
