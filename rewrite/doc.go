// Package rewrite turns a client's request, in whatever shape that client
// sends it, into one Call, builds from the Call the one request that SQ gets,
// and takes the tenant's prefix and the host's paths off what comes back.
//
// It never opens a file or a connection, and nothing that a client sent is
// ever copied into what goes out: the outgoing request is built from values
// that were parsed and validated here.
package rewrite
