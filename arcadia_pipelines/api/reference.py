"""The reference page of the API, /docs: Swagger UI over the OpenAPI document. Nothing comes from another server.

Swagger UI's script and style are its publisher's (5.34.0, Apache-2.0), as the package fastapi-swagger brings them.
A token that is pasted into the page stays in its memory until it is closed.
"""

from importlib import resources
from pathlib import Path

from fastapi import APIRouter

from arcadia_pipelines.api.files import A_DAY, always

router = APIRouter(include_in_schema=False)

_HERE = Path(__file__).parent / "static"
_SWAGGER_UI = resources.files("fastapi_swagger.resources")

router.get("/docs")(always((_HERE / "docs.html").read_bytes(), "text/html"))
router.get("/docs/docs.js")(always((_HERE / "docs.js").read_bytes(), "text/javascript"))
router.get("/docs/swagger-ui.js")(always((_SWAGGER_UI / "swagger-ui-bundle.js").read_bytes(), "text/javascript", A_DAY))
router.get("/docs/swagger-ui.css")(always((_SWAGGER_UI / "swagger-ui.css").read_bytes(), "text/css", A_DAY))
