// Package tenants is the tenants file: who may use the service, with which key
// and within which limits. It reads the file strictly, edits it, and puts a
// changed file into effect without a restart.
//
// It never counts what a tenant uses, which is quota's part, and it knows
// nothing of requests and processes. A Snapshot holds no key, only the SHA-256
// of each.
package tenants
