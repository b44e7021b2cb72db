// Package phext is the file format of SQ: coordinates, and plain text that
// nine delimiters arrange along nine dimensions.
//
// It holds what SQ does with a file, in linear time and for any text, and
// nothing of HTTP, tenants or disks; it imports no other package of sqgate.
//
// Where a comment cites a recording, it is one of the recordings of legacy SQ
// that internal/fakesq replays.
package phext
