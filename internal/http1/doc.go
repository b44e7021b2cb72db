// Package http1 serves the plain case of HTTP/1.1: a small request, complete in
// one buffer, on a connection that is kept open. That is nearly every request
// that a gateway gets, and it costs here one read, one write and no goroutine.
//
// It never decides what a request means that is not plain: a connection on
// which anything else arrives (a body in chunks, a pipelined request, another
// method, a header line that could be read in two ways, half a request) is
// handed to net/http with all that was read, and stays there. So what is
// unusual, slow or hostile is net/http's, and what is served here is what
// net/http would have understood as well: FuzzPlain holds the parser to that.
package http1
