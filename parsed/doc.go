// Package parsed keeps phext files parsed and in memory, so that a read costs a
// look at the file and no more: legacy SQ holds one phext at a time and parses
// it anew whenever another is asked for (LEGACY.md). Answers that are made of a
// whole phext are kept with it, and go when it goes.
//
// What it hands out is immutable and is always one whole state of the file: a
// file that is being written is answered from as it was before. It never
// writes a file, and never wakes a child.
package parsed
