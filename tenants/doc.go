// Package tenants is who may use the service: the tenants file, keys, and
// taking a changed file into force without a restart.
//
// It knows nothing of requests or processes, and holds no key: what it keeps
// of one is its SHA-256.
package tenants
