// Package journal is the memory of one sqgate of what it asked SQ to write: for
// each data_dir a write-ahead journal, from which a phext that was torn is put
// right, and an earlier state of it read again.
//
// A journal is a directory of segments. A segment begins, for each phext that
// is changed while it is the newest, with a checkpoint of the phext, so that it
// can be replayed by itself; what follows are mutations, and what became of
// them. Checkpoints too long to stand in a segment are files beside it.
//
// It never talks to SQ or to a client, never decides who may do what, and never
// changes a phext but in Recover.
package journal
