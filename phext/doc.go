// Package phext is the file format of SQ: text that nine kinds of delimiters
// arrange in nine dimensions, and the coordinates of its parts. It does with a
// file what SQ does, but always in linear time.
//
// It knows nothing of HTTP, tenants or disks, and imports no other package of
// sqgate. Any text is a phext, so parsing one never fails.
//
// A comment that says "recorded in" names a recording of SQ in
// internal/fakesq/testdata.
package phext
