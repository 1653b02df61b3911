// The reference page: Swagger UI over the document of this server, and no other.
"use strict";

SwaggerUIBundle({
  url: "/api/v1/openapi.json",
  domNode: document.getElementById("reference"),
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  // Else it would ask a server of Swagger's whether the document is valid.
  validatorUrl: null,
});
