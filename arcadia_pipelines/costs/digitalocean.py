"""The provider's bill from its API, with the official client (pydo). Reads invoices; changes nothing there.

The client retries transient failures (429 with its Retry-After, 5xx, lost connections). What still fails becomes
ProviderError, with a message for people. pydo is loaded only here, when a bill is fetched.
"""

import re
from typing import Any
from urllib.parse import urlsplit

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.costs import bill_api
from arcadia_pipelines.costs.bill import Bill, InvalidBill
from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.settings import Settings

_PAGE = 200  # items
SECONDS = 30
RETRIES = 4
_LONGEST_WAIT_SECONDS = 60


class ProviderError(ArcadiaError):
    """The bill could not be fetched; the message says why and what to do."""


class NotBilled(ProviderError):
    """The provider has no bill of the month, or several."""


def fetch(month: BillingMonth, settings: Settings) -> Bill:
    """The month's bill. Raises ProviderError, NotBilled, and InvalidBill where it does not add up."""
    if not settings.digitalocean_token:
        raise ProviderError(
            "ARCADIA_DIGITALOCEAN_TOKEN is not set: set it to a token that may read billing, or import a CSV"
        )
    if not re.fullmatch(r"[!-~]+", settings.digitalocean_token):
        raise ProviderError(
            "ARCADIA_DIGITALOCEAN_TOKEN has characters that no token has: set it to the token, and nothing else"
        )
    url = settings.digitalocean_url.rstrip("/")
    try:
        scheme, host = urlsplit(url).scheme, urlsplit(url).hostname
    except ValueError:
        scheme, host = "", None
    local = host in ("127.0.0.1", "localhost", "::1")
    if not host or scheme not in ("http", "https") or (scheme == "http" and not local):
        raise ProviderError("ARCADIA_DIGITALOCEAN_URL must be an https address: the token is sent there")
    return _fetch(month, settings.digitalocean_token, url, enforce_https=not local)


def _fetch(month: BillingMonth, token: str, url: str, enforce_https: bool) -> Bill:
    provider = _Provider(token, url, enforce_https)
    try:
        uuid = _invoice_of(month, provider.pages("list", "invoices"))
        summary = provider.ask("get_summary_by_uuid", uuid)
        if summary.get("invoice_uuid") != uuid:
            raise ProviderError(f"DigitalOcean returned another invoice than {uuid}: try again later")
        return bill_api.read_api(month, summary, provider.pages("get_by_uuid", "invoice_items", uuid), url)
    except InvalidBill as error:
        raise InvalidBill(f"the bill that DigitalOcean sent is refused: {error}") from error
    finally:
        provider.client.close()


def _invoice_of(month: BillingMonth, pages: list[dict[str, Any]]) -> str:
    """The uuid of the month's invoice among those that are listed. Raises NotBilled."""
    listed = [one for page in pages for one in page["invoices"]]
    of_month = [one for one in listed if (one.get("invoice_period") or one.get("billing_period")) == str(month)]
    if not of_month:
        raise NotBilled(f"DigitalOcean has no invoice of {month} yet: it bills on the 1st of the next month")
    if len(of_month) > 1:
        raise NotBilled(
            f"DigitalOcean has {len(of_month)} invoices of {month}, not one: download their CSVs, put them into one"
            " file, one after the other, and import that (arcadia costs import FILE)"
        )
    uuid = of_month[0].get("invoice_uuid")
    if not isinstance(uuid, str) or not uuid:
        raise ProviderError(f"DigitalOcean lists an invoice of {month} without its invoice_uuid: import a CSV")
    return uuid


class _Provider:
    """The client, which raises every failure as a ProviderError with a message for people."""

    def __init__(self, token: str, url: str, enforce_https: bool) -> None:
        try:
            import pydo
            from azure.core.exceptions import AzureError, HttpResponseError
        except ImportError as error:
            raise ProviderError(
                f"fetching bills takes DigitalOcean's client, {error.name}, which is not installed: pip install"
                " 'arcadia-pipelines[bills]' (make dev in a checkout), or download the bill's CSV and import that"
            ) from error
        self._refused, self._failed = HttpResponseError, (AzureError, ValueError)
        self._enforce_https = enforce_https
        self.client = pydo.Client(
            token,
            endpoint=url,
            timeout=10 * SECONDS,  # with all retries
            connection_timeout=SECONDS,
            read_timeout=SECONDS,
            retry_total=RETRIES,
            retry_backoff_max=_LONGEST_WAIT_SECONDS,
        )

    def ask(self, what: str, *of: str, **page: int) -> dict[str, Any]:
        """The API's answer about invoices."""
        try:
            answer = getattr(self.client.invoices, what)(*of, enforce_https=self._enforce_https, **page)
        except self._refused as error:
            raise ProviderError(_refusal(error.status_code, error)) from None  # its cause may hold the token
        except self._failed as error:
            raise ProviderError(_refusal(None, error)) from None
        if not isinstance(answer, dict):
            raise ProviderError("DigitalOcean returned an invalid response: try again later")
        if "message" in answer and "id" in answer:  # the client passes a 404 on
            raise ProviderError(f"DigitalOcean has not found it: {answer['message']}")
        return answer

    def pages(self, what: str, name: str, *of: str) -> list[dict[str, Any]]:
        """All pages of a list; the entries must be as many as the answer says that there are."""
        found: list[dict[str, Any]] = []
        count = total = 0
        while not found or (count < total and _names_another(found[-1])):
            page = self.ask(what, *of, page=len(found) + 1, per_page=_PAGE)
            entries: Any = page.get(name)
            meta = page.get("meta")
            if not _are_objects(entries) or not isinstance(meta, dict) or not isinstance(meta.get("total"), int):
                raise ProviderError(f"DigitalOcean returned an invalid list of {name}: try again later")
            if not entries and found:
                break
            found.append(page)
            count, total = count + len(entries), meta["total"]
        if count != total:
            raise ProviderError(f"DigitalOcean lists {total} {name}, and sent {count}: try again later")
        return found


def _names_another(page: dict[str, Any]) -> bool:
    """Whether it links to a page after it."""
    links = page.get("links")
    pages = links.get("pages") if isinstance(links, dict) else None
    return bool(isinstance(pages, dict) and pages.get("next"))


def _are_objects(entries: object) -> bool:
    return isinstance(entries, list) and all(isinstance(one, dict) for one in entries)


def _refusal(status: int | None, error: Exception) -> str:
    """The message for people, without the error's own words, which may hold the token."""
    if status in (401, 403):
        return "DigitalOcean refuses ARCADIA_DIGITALOCEAN_TOKEN: give it one that may read billing and has not expired"
    if status == 429:
        return "DigitalOcean says that there were too many requests, also after a wait: try again in an hour"
    if status is not None and status >= 400:
        return f"DigitalOcean answers with an error, {status}: try again later"
    return f"DigitalOcean does not answer, or not completely ({type(error).__name__}): try again later"
