// Package cache keeps parsed phext files in memory, so that a read costs one
// look at the file. Legacy SQ holds one phext at a time and parses it again
// whenever another is asked for (LEGACY.md). Answers rendered from a whole
// phext are kept beside it and leave with it.
//
// A Version is immutable and is one whole state of a file. A file that is being
// written is frozen: readers see the version from before the write, until the write is
// published. The holder of the directory goes on from the newest one. The cache
// never writes a file and never starts a child.
package cache
