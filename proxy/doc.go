// Package proxy is the HTTP side of the tenant API: who is it, may they, what
// do they mean, and how is the result said. Handler is the whole chain.
//
// It never passes a client's own request on: what SQ gets is built by package
// rewrite from what was understood. It knows no files; reads and writes are
// those of storage/reader and storage/writer.
package proxy
