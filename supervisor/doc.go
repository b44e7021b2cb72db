// Package supervisor runs one SQ process per data directory. It starts one when
// a request needs it, makes sure that it is the process it started, leases it to
// callers, and stops it when it is idle, suspect, no longer wanted, or when
// another directory needs its place among MaxChildren.
//
// A child holds a lock on its data directory for as long as it lives. So no two
// processes serve one directory, also across a crash of sqgate: whoever comes
// next finds the child by its lock and stops it first.
//
// It never ends a process that is writing a phext, never relies on a child
// ending with its parent, and keeps nothing of its own in a data directory. It
// makes the directory if need be and locks it; the sandbox looks for linked
// phexts in it. Of SQ it knows the command line, the line with which it
// announces itself, one request that probes it, and how its files are named. It
// knows no tenants and forwards no requests.
//
// It needs Linux 5.3 or newer (pidfd) and a mounted /proc. Package sandbox
// confines the children, package procfs looks at processes.
package supervisor
