// Package admin is what the operator talks to: the management API, the
// metrics and the audit log.
//
// It changes tenants only through the tenants file, and shows a key once, when
// it is made. It serves no tenant's request.
package admin
