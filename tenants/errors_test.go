package tenants

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
)

// TestWhatTheOperatorIsTold goes through the errors of an edit.
func TestWhatTheOperatorIsTold(t *testing.T) {
	full := func(_, _ string) error { return &fs.PathError{Op: "write", Path: "/f", Err: syscall.ENOSPC} }
	readOnly := func(_, _ string) error { return &fs.PathError{Op: "open", Path: "/f", Err: syscall.EROFS} }
	setQuota := func(mb int64) func(*Document) error {
		return func(d *Document) error {
			return d.Change("a", func(e *Entry) error { e.QuotaMB = &mb; return nil })
		}
	}
	for _, test := range []struct {
		name    string
		onDisk  string
		write   func(path, text string) error
		change  func(*Document) error
		is      error
		kind    apierror.Kind
		message string
	}{
		{"no such tenant", fileOf("a"), nil, func(d *Document) error { return d.Change("b", nil) },
			ErrNoTenant, apierror.NotFound, "there is no such tenant"},
		{"one more of the same id", fileOf("a"), nil, func(d *Document) error { id := "a"; return d.Add(Entry{ID: &id}) },
			ErrExists, apierror.Conflict, "there is such a tenant already"},
		{"a wrong value", fileOf("a"), nil, setQuota(-1),
			ErrInvalid, apierror.BadRequest, `tenant "a": field "quota_mb" is out of range: write a whole number from 0 to 8796093022207`},
		{"a mistake by hand", `{"tenants": [], "odd": 1}`, nil, setQuota(1),
			ErrBroken, apierror.Conflict, `the tenants file on disk has a mistake: mend it first: field "odd" is unknown: remove it, or correct its spelling (capitals count)`},
		{"no JSON", `{`, nil, setQuota(1),
			ErrBroken, apierror.Conflict, `the tenants file on disk has a mistake: mend it first: line 1, column 1: the text is empty or ends before its JSON does: complete it`},
		{"a full disk", fileOf("a"), full, setQuota(1),
			ErrDiskFull, apierror.DiskFull, "the tenants file could not be written: the disk is full (write /f: no space left on device)"},
		{"a read-only disk", fileOf("a"), readOnly, setQuota(1),
			syscall.EROFS, apierror.Kind{}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, fileOf("a"))
			writeFile(t, s.path, test.onDisk)
			if test.write != nil {
				s.write = test.write
			}
			err := s.Edit(test.change)
			if !errors.Is(err, test.is) {
				t.Fatalf("%v", err)
			}
			told := apierror.From(err)
			if told == nil {
				told = &apierror.Error{}
			}
			if told.Kind != test.kind || told.Message != test.message {
				t.Errorf("%+v", told)
			}
		})
	}
}
