"""The reference page in a browser."""

from arcadia_pipelines_tests.api.conftest import token
from arcadia_pipelines_tests.api.ui.conftest import Open


def test_the_reference_page_is_drawn_by_this_server_alone_and_asks_with_a_token(visit: Open) -> None:
    """Under the strict policy: every operation is there, and a list is answered. `visit` looks at the rest."""
    seen = visit(with_token=None)
    page = seen.page
    page.goto(f"{seen.base}/docs")
    page.locator(".opblock").first.wait_for()
    assert page.locator(".opblock").count() == 22
    page.locator(".auth-wrapper .authorize").click()
    page.locator("#auth-bearer-value").fill(token())
    page.get_by_role("button", name="Apply credentials").click()
    page.get_by_role("button", name="Close").first.click()
    page.locator("#operations-invoices-invoices_api_v1_invoices_get .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    page.locator(".live-responses-table tbody .response-col_status", has_text="200").wait_for()
