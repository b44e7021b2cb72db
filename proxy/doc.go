// Package proxy is the front door: who is it, may they, what do they mean,
// serve or forward, answer.
//
// It never passes a client's own request on: what SQ gets is built by rewrite
// from what was understood. It never starts a child itself. To a data directory
// it writes only the names of coordinates, what puts a torn write right, and
// what an operator restores.
package proxy
