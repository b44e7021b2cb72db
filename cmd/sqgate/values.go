package main

import (
	"fmt"
	"strconv"
	"strings"

	"mirrorborn.us/sqgate/storage/journal"
)

// byteSize is a flag in bytes. It accepts the units KiB, MiB and GiB.
type byteSize int64

var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}}

func (b *byteSize) Set(s string) error {
	number, unit := s, int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(s, u.suffix); ok {
			number, unit = n, u.bytes
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q is not a size: use a number of bytes, or one with KiB, MiB or GiB", s)
	}
	*b = byteSize(n * unit)
	return nil
}

func (b *byteSize) String() string {
	for i := len(units) - 1; i >= 0; i-- {
		if n := int64(*b); n >= units[i].bytes && n%units[i].bytes == 0 {
			return strconv.FormatInt(n/units[i].bytes, 10) + units[i].suffix
		}
	}
	return strconv.FormatInt(int64(*b), 10)
}

func (*byteSize) Type() string { return "size" }

// portRange is a flag of the form LOW-HIGH.
type portRange struct{ low, high int }

func (p *portRange) Set(s string) error {
	low, high, ok := strings.Cut(s, "-")
	l, errLow := strconv.ParseUint(low, 10, 16)
	h, errHigh := strconv.ParseUint(high, 10, 16)
	if !ok || errLow != nil || errHigh != nil || l == 0 || l > h {
		return fmt.Errorf("%q is not a range of ports: use LOW-HIGH, such as 20000-29999", s)
	}
	p.low, p.high = int(l), int(h)
	return nil
}

func (p *portRange) String() string { return fmt.Sprintf("%d-%d", p.low, p.high) }
func (*portRange) Type() string     { return "range" }

// logFormat is text or json.
type logFormat string

func (f *logFormat) Set(s string) error {
	if s != "text" && s != "json" {
		return fmt.Errorf("%q is not a log format: use text or json", s)
	}
	*f = logFormat(s)
	return nil
}

func (f *logFormat) String() string { return string(*f) }
func (*logFormat) Type() string     { return "format" }

// fsyncPolicy is always, batch or off.
type fsyncPolicy string

func (p *fsyncPolicy) Set(s string) error {
	if _, err := journal.ParsePolicy(s); err != nil {
		return err
	}
	*p = fsyncPolicy(s)
	return nil
}

func (p *fsyncPolicy) String() string { return string(*p) }
func (*fsyncPolicy) Type() string     { return "policy" }

// logLevel is debug, info, warn or error.
type logLevel string

func (l *logLevel) Set(s string) error {
	switch s {
	case "debug", "info", "warn", "error":
		*l = logLevel(s)
		return nil
	}
	return fmt.Errorf("%q is not a log level: use debug, info, warn or error", s)
}

func (l *logLevel) String() string { return string(*l) }
func (*logLevel) Type() string     { return "level" }

// What the management API accepts as a new path key.
const (
	newPathKey = "new"
	noPathKey  = "off"
)

// pathKeyFlag is newPathKey or noPathKey.
type pathKeyFlag string

func (p *pathKeyFlag) Set(s string) error {
	if s != newPathKey && s != noPathKey {
		return fmt.Errorf("%s or %s is wanted: the key itself is made by sqgate", newPathKey, noPathKey)
	}
	*p = pathKeyFlag(s)
	return nil
}

func (p *pathKeyFlag) String() string { return string(*p) }
func (*pathKeyFlag) Type() string     { return "new|off" }

// keyFlag is legacy SQ's --key. It exists only to say what replaces it.
type keyFlag struct{}

func (keyFlag) Set(string) error { return errKeyFlag }
func (keyFlag) String() string   { return "" }
func (keyFlag) Type() string     { return "key" }
