// Package host is this sqgate as one of those that share a bucket: its lease, and how it
// takes a directory over, so that the files here are what the log there says.
//
// A lease only bounds how old a read can be. Which writes stand is decided by the log
// alone (package replica). The package serves no requests, and never asks SQ.
package host
