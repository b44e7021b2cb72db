// Package logkey names the attributes of log lines, so that one search finds a
// request, a tenant or a directory in the lines of every package.
package logkey

// The keys. Values never hold API keys, scrolls, paths of requests or queries.
const (
	Request  = "request" // the X-Request-Id of an answer
	Remote   = "remote"
	Tenant   = "tenant"
	Caller   = "caller" // the tenant whose key it was, if that is another
	Key      = "key"    // the id of the key, if it is one of the tenant's further keys
	Public   = "public" // the request was served without regard to a key
	Op       = "op"
	Method   = "method"
	Status   = "status"
	Code     = "code"
	Bytes    = "bytes"
	Duration = "duration"
	LeftOut  = "left_out" // further lines like this one, since the last
	DataDir  = "data_dir"
	Webhook  = "webhook" // the id of one of the tenant's webhooks
	Error    = "error"
)
