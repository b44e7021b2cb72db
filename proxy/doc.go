// Package proxy is the front door: who is it, may they, what do they mean,
// serve or forward, answer.
//
// It never passes a client's own request on: what SQ gets is built by rewrite
// from what was understood. It never starts or stops a child itself, and it
// never writes to a data directory.
package proxy
