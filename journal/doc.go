// Package journal is what lets a crash be repaired and the past be read: every
// mutation of a phext is written here before SQ sees it, and every phext that
// is touched is copied here as it was before.
//
// Each data directory has a journal of its own, a row of segments. A segment
// can be replayed by itself: the first record of each phext in it is a
// checkpoint. The journal decides what a file must be after a crash, and puts
// it right; it never speaks to SQ, and its caller sees to it that no SQ runs
// while files are put right.
package journal
