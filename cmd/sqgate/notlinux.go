//go:build !linux

package main

import _ "embed"

// There is no such file, so on other systems go build stops here, with these words,
// before it compiles anything.
//
//go:embed "sqgate runs on Linux"
var _ string
