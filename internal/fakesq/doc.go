// Package fakesq stands in for `sq host PORT --key K --data-dir D`, so that
// sqgate can be tried and tested on a machine without SQ.
//
// It reproduces the recordings of SQ 0.5.3 and 0.5.6 in testdata byte for
// byte, their breakages included, and never improves on them: what sqgate must
// protect itself from has to be there to protect from. It is not for serving
// data that anybody cares about.
package fakesq
