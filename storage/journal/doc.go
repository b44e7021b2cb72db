// Package journal is a write-ahead log of what sqgate writes, by way of SQ or by
// itself. There is one journal for each data_dir. Torn phexts are repaired from it, and
// earlier states of a phext are read from it.
//
// A journal is a directory of segments. When a phext is changed for the first
// time in a segment, the segment gets a checkpoint: the state of the phext
// before the change. A segment can therefore be replayed by itself. The other
// records are mutations, and how they ended. A checkpoint that is too long for
// a segment is a file beside it.
//
// The package never talks to SQ or to a client and never decides who may do
// what. It changes phext files only in Recover.
package journal
