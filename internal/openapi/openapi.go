// Package openapi has the description of the HTTP interface: of the tenant API, the
// published API and the management API. Its source is openapi.yaml.
package openapi

import (
	_ "embed"

	"mirrorborn.us/sqgate/internal/etag"
)

// JSON is the description, in OpenAPI 3.1.
//
//go:embed openapi.json
var JSON string

// ETag is the entity tag of JSON.
var ETag = etag.Of(JSON)
