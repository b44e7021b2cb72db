// Package http1 is a server for an http.Handler that serves plain HTTP/1.1
// requests cheaply: small ones that arrive complete on a connection that is kept
// open. Nearly every request to a gateway is one. It costs one read and
// one write. A connection has one goroutine, and no buffer while it is idle. An answer
// without an end is sent in chunks, and has no buffer between them either.
//
// Everything else is net/http's: a connection on which anything but a plain
// request arrives (a chunked or pipelined request, another method, a header that
// could be read in two ways, half a request) is handed to net/http with all that
// was read, and stays there. A plain request is read exactly as net/http would
// read it: FuzzPlain holds the parser to that.
//
// What net/http reads passes by here: large headers take memory from budgets, and
// requests whose end is not clear are refused.
package http1
