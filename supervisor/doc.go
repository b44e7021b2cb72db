// Package supervisor keeps one SQ process per data directory: it starts one
// when a request needs it, proves that it is the one it started, lends it to
// callers, and stops it between two writes when it is idle, in the way,
// suspect or no longer wanted.
//
// A child can reach no file of another's, nor of sqgate's own, as far as the
// kernel's Landlock goes.
//
// It never runs two processes on one directory (not even across a crash of
// the gateway: the child holds a lock on the directory itself), never signals
// a process while it writes a phext, never relies on the parent's death
// reaching the child, never reads or makes a file in a data directory, and
// knows nothing of tenants, requests or phexts.
//
// It needs Linux 5.3 or newer (pidfd) and a mounted /proc.
package supervisor
