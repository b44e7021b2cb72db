// Package cluster sends requests from the host that took them to the one that serves
// their data directory, where several share a bucket. Hosts know each other by the
// certificates whose fingerprints stand in the bucket, and by nothing else.
//
// A request is sent on once: whoever receives it serves it, or says that it is not his. The
// package decides nothing about who owns what (storage/host does), and checks no key.
package cluster
