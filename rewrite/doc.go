// Package rewrite turns a client's request, in whatever shape the client sends
// it, into one Call. It builds from the Call the one request that SQ gets, and
// removes the paths of this host from SQ's answer.
//
// It never opens a file or a connection. It never copies a part of the client's
// request line or header into the request for SQ, which is made of values that
// were parsed and checked here. Only the text of a scroll and the checksums of a
// manifest go out as they came, in the body.
package rewrite
