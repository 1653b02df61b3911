"""The provider's bill from its API, with the official client (pydo). Reads invoices; changes nothing there.

The client retries what passes by itself (429 with its Retry-After, 5xx, lost connections). What is left becomes
ProviderError, in words. pydo is loaded only here, when a bill is fetched.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from arcadia_pipelines.billing import bill
from arcadia_pipelines.billing.bill import Bill, InvalidBill
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.settings import Settings

_PAGE = 200  # items
SECONDS = 30
RETRIES = 4
_LONGEST_WAIT_SECONDS = 60


class ProviderError(Exception):
    """The bill could not be had; the message says why and what to do."""


def fetch(month: BillingMonth, settings: Settings) -> Bill:
    """The month's bill. Raises ProviderError, and InvalidBill where it does not add up."""
    if not settings.digitalocean_token:
        raise ProviderError(
            "ARCADIA_DIGITALOCEAN_TOKEN is not set: set it to a token that may read billing, or import a CSV"
        )
    url = settings.digitalocean_url.rstrip("/")
    local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    if urlsplit(url).scheme != "https" and not local:
        raise ProviderError(f"ARCADIA_DIGITALOCEAN_URL {url}: the token is sent over https only")
    return _fetch(month, settings.digitalocean_token, url, enforce_https=not local)


def _fetch(month: BillingMonth, token: str, url: str, enforce_https: bool) -> Bill:
    import pydo
    from azure.core.exceptions import AzureError, HttpResponseError

    client = pydo.Client(
        token,
        endpoint=url,
        timeout=10 * SECONDS,  # with all retries
        connection_timeout=SECONDS,
        read_timeout=SECONDS,
        retry_total=RETRIES,
        retry_backoff_max=_LONGEST_WAIT_SECONDS,
    )

    def ask(what: Callable[..., Any], *of: str, **page: int) -> dict[str, Any]:
        try:
            answer = what(*of, enforce_https=enforce_https, **page)
        except (AzureError, ValueError) as error:
            status = error.status_code if isinstance(error, HttpResponseError) else None
            raise ProviderError(_refusal(status, error)) from error
        if not isinstance(answer, dict):
            raise ProviderError("DigitalOcean answers with what is no invoice: try again later")
        if "message" in answer and "id" in answer:  # the client passes a 404 on
            raise ProviderError(f"DigitalOcean does not have it: {answer['message']}")
        return answer

    def pages(what: Callable[..., Any], name: str, *of: str) -> list[dict[str, Any]]:
        """Every page of a list, and no entry lost: as many as the answer says there are."""
        found: list[dict[str, Any]] = []
        while True:
            page = ask(what, *of, page=len(found) + 1, per_page=_PAGE)
            found.append(page)
            count = sum(len(one.get(name) or ()) for one in found)
            total = (page.get("meta") or {}).get("total", count)
            if not page.get(name) or not ((page.get("links") or {}).get("pages") or {}).get("next"):
                break
        if count != total:
            raise ProviderError(f"DigitalOcean lists {total} {name}, and sent {count}: try again later")
        return found

    try:
        listed = [one for page in pages(client.invoices.list, "invoices") for one in page.get("invoices") or ()]
        of_month = [one for one in listed if (one.get("invoice_period") or one.get("billing_period")) == str(month)]
        if not of_month:
            raise ProviderError(f"DigitalOcean has no invoice of {month} yet: it bills on the 1st of the next month")
        if len(of_month) > 1:
            raise ProviderError(
                f"DigitalOcean has {len(of_month)} invoices of {month}, not one: import them as one CSV"
            )
        uuid = str(of_month[0].get("invoice_uuid"))
        summary = ask(client.invoices.get_summary_by_uuid, uuid)
        return bill.read_api(month, summary, pages(client.invoices.get_by_uuid, "invoice_items", uuid), url)
    except InvalidBill as error:
        raise InvalidBill(f"the bill that DigitalOcean sent is not taken: {error}") from error
    finally:
        client.close()


def _refusal(status: int | None, error: Exception) -> str:
    if status in (401, 403):
        return "DigitalOcean refuses ARCADIA_DIGITALOCEAN_TOKEN: give it one that may read billing and has not expired"
    if status == 429:
        return "DigitalOcean says that it was asked too often, and went on saying so: try again in an hour"
    if status is not None and status >= 400:
        return f"DigitalOcean answers with an error, {status}: try again later"
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return f"DigitalOcean does not answer whole ({reason}): try again later"
