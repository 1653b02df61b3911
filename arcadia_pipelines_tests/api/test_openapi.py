"""The OpenAPI document says what the API does: requests made out of it, valid and not, find nothing it does not say."""

from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from arcadia_pipelines_tests.api.conftest import ADMIN, tenant

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
OPERATIONS = [
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/api/v1/invoices/{invoice_id}.pdf"),
    ("GET", "/api/v1/invoices/{invoice_id}.xml"),
    ("GET", "/api/v1/invoices"),
    ("GET", "/api/v1/invoices.csv"),
    ("GET", "/api/v1/invoices/{invoice_id}"),
    ("GET", "/api/v1/invoices/{invoice_id}/events"),
    ("POST", "/api/v1/quotes"),
    ("GET", "/api/v1/plans"),
    ("POST", "/api/v1/reprice"),
    ("POST", "/api/v1/reprice.csv"),
    ("GET", "/api/v1/costs/months"),
    ("GET", "/api/v1/costs/months.csv"),
    ("GET", "/api/v1/costs/deployments"),
    ("GET", "/api/v1/costs/deployments.csv"),
    ("GET", "/api/v1/costs/tenants"),
    ("GET", "/api/v1/costs/tenants.csv"),
    ("GET", "/api/v1/costs/kinds"),
    ("GET", "/api/v1/costs/kinds.csv"),
    ("GET", "/api/v1/costs/invoices"),
    ("GET", "/api/v1/costs/invoices.csv"),
]


@pytest.fixture(scope="session")
def document(api: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = api.get("/api/v1/openapi.json").json()
    return found


def test_the_document_is_openapi_3_1_with_examples_and_typed_errors(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert [(method.upper(), path) for path, item in document["paths"].items() for method in item] == OPERATIONS
    for name in ("InvoicePage", "InvoiceWithLines", "Quote", "QuoteRequest", "Problem"):
        assert document["components"]["schemas"][name]["examples"]
    for path, item in document["paths"].items():
        for operation in item.values():
            assert operation.get("security") == ([{"bearer": []}] if path.startswith("/api/") else None)
            for status, answer in operation["responses"].items():
                assert int(status) < 400 or list(answer["content"]) == ["application/problem+json"], (path, status)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.parametrize("headers", [ADMIN, tenant("pilot"), {}], ids=["admin", "tenant", "nobody"])
def test_requests_made_out_of_the_document_are_answered_as_it_says(
    api: httpx.Client, document: dict[str, Any], method: str, path: str, headers: dict[str, str]
) -> None:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=str(api.base_url))
    schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    made = hypothesis.settings(
        max_examples=10 if headers else 2,  # nobody is told who it is before anything else is read
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )

    @made
    @hypothesis.given(case=schema[path][method].as_strategy(generation_mode=GenerationMode.POSITIVE))
    def valid(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    @made
    @hypothesis.given(case=schema[path][method].as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def invalid(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    valid()
    if path not in ("/health", "/ready"):  # they take nothing that could be invalid
        invalid()
