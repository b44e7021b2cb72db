// Package datadir is what is known of one data directory while it is served:
// who may be at its files, whether they are what the journal says, and what
// they hold now.
//
// It decides who waits for whom. It never changes a phext itself, except that
// it has the journal recover the directory, and it never talks to SQ.
package datadir
