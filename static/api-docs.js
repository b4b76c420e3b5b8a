"use strict";
const place = document.getElementById("api-docs");
window.SwaggerUIBundle({
  url: place.dataset.document,
  domNode: place,
  deepLinking: true,
  validatorUrl: null,
  persistAuthorization: false,
});
