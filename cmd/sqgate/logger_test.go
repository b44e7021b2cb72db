package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestLoggerFollowsItsFlags(t *testing.T) {
	for _, c := range []struct {
		format logFormat
		level  logLevel
		want   string // the end of what is logged, or "" for nothing
	}{
		{"text", "info", ` level=INFO msg="a line" n=1` + "\n"},
		{"json", "debug", `,"level":"INFO","msg":"a line","n":1}` + "\n"},
		{"text", "warn", ""},
		{"json", "error", ""},
	} {
		o := defaultOptions()
		o.logFormat, o.logLevel = c.format, c.level
		var out bytes.Buffer
		newLogger(o, &out).Info("a line", "n", 1)
		if !strings.HasSuffix(out.String(), c.want) || (c.want == "") != (out.Len() == 0) {
			t.Errorf("%s from %s: %q, want ...%q", c.format, c.level, out.String(), c.want)
		}
	}
}
