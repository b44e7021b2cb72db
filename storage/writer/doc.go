// Package writer makes a mutation stand in the file of its phext, or says why
// it does not. Commit is the whole way of a write; read it from top to bottom.
//
// A mutation is acknowledged when its file was looked at and holds it, and the
// journal can bring it back. What SQ says is not believed. A refusal means that
// nothing has happened; where that is not known, the answer says so.
//
// The package knows nothing of HTTP, starts no process, and reads no phext for
// anybody else.
package writer
