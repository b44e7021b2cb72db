//go:build race

package proxy

// With the race detector, sync.Pool forgets some of what it has.
func init() { mostAllocs += 4 }
