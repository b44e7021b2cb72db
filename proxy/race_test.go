//go:build race

package proxy

// With the race detector, sync.Pool forgets some of what it has, at random.
func init() { mostAllocs, poolsForget = mostAllocs+4, true }
