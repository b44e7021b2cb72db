package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/storage/archive"
	"mirrorborn.us/sqgate/storage/history"
	"mirrorborn.us/sqgate/tenants"
)

func TestDescribe(t *testing.T) {
	_, noArchive := archive.New(t.TempDir(), time.Now).Restore("acme", "acme-20260304T120000.000000005Z.tar.gz", t.TempDir(), nil, nil)
	_, badArchive := archive.New(t.TempDir(), time.Now).Restore("acme", "../x", t.TempDir(), nil, nil)
	for _, test := range []struct {
		name   string
		err    error
		status int
		code   string
	}{
		{"no archive", noArchive, 404, "not_found"},
		{"bad archive", badArchive, 400, "bad_request"},
		{"wrapped", fmt.Errorf("deleting: %w", apierror.RetryIn(time.Second, apierror.Unavailable, "try again")), 503, "unavailable"},
		{"disk full", fmt.Errorf("copying: %w", &os.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}), 507, "disk_full"},
		{"disk quota", syscall.EDQUOT, 507, "disk_full"},
		{"unknown", errors.New("anything else"), 500, "internal"},
		{"no tenant", tenants.ErrNoTenant, 404, "not_found"},
		{"tenant exists", fmt.Errorf("%w: acme", tenants.ErrExists), 409, "conflict"},
		{"no backup", fmt.Errorf("%w: it holds a.txt", history.ErrNotBackup), 400, "bad_request"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := describe(test.err)
			if e.Status != test.status || e.Code != test.code || e.Message != test.err.Error() {
				t.Errorf("%+v", e)
			}
		})
	}
	if e := describe(fmt.Errorf("deleting: %w", apierror.RetryIn(time.Second, apierror.Unavailable, "try again"))); e.RetryAfter != time.Second {
		t.Errorf("retry after %v", e.RetryAfter)
	}
}

// TestDescribeWhatMayNotBeWritten: the operator is told what to do.
func TestDescribeWhatMayNotBeWritten(t *testing.T) {
	for want, err := range map[string]error{
		"mkdir /srv/phexts: read-only file system; make it for the user that sqgate runs as (`install -d -m 700 -o sq -g sq /srv/phexts` with the package's unit), and let the unit write there (`systemctl edit sq`, ReadWritePaths=-/srv/phexts below [Service], restart), or mount the disk for writing": &os.PathError{Op: "mkdir", Path: "/srv/phexts", Err: syscall.EROFS},
		"deleting: unlink /srv/old/n.phext: read-only file system; let the unit write there (`systemctl edit sq`, ReadWritePaths=-/srv/old below [Service], restart), or mount the disk for writing":                                                                                                        fmt.Errorf("deleting: %w", &os.PathError{Op: "unlink", Path: "/srv/old/n.phext", Err: syscall.EROFS}),
		"mkdir /srv/phexts: permission denied; let the user that sqgate runs as write to /srv": &os.PathError{Op: "mkdir", Path: "/srv/phexts", Err: syscall.EACCES},
	} {
		if e := describe(err); e.Kind != apierror.Internal || e.Message != want {
			t.Errorf("%s\nwant %s", e.Message, want)
		}
	}
}

// TestDescribeField expects a wrong field without the words of ErrInvalid.
func TestDescribeField(t *testing.T) {
	store, negative := openStore(t, t.TempDir()), int64(-1)
	err := store.Edit(func(d *tenants.Document) error {
		return d.Change("a", func(e *tenants.Entry) error { e.QuotaMB = &negative; return nil })
	})
	var field *tenants.FieldError
	if !errors.As(err, &field) {
		t.Fatalf("not about a field: %v", err)
	}
	if e := describe(err); e.Kind != apierror.BadRequest || e.Message != field.Error() {
		t.Errorf("%+v", e)
	}
}

// TestADiskThatIsFullInTheMiddle is told as such, and what was done too.
func TestADiskThatIsFullInTheMiddle(t *testing.T) {
	err := apierror.Partly(&fs.PathError{Op: "write", Path: "/data/a/n", Err: syscall.ENOSPC}, "a part is restored")
	if e := describe(err); e.Kind != apierror.DiskFull || e.Message != "a part is restored: write /data/a/n: no space left on device" {
		t.Errorf("%+v", e)
	}
	err = apierror.Partly(&fs.PathError{Op: "open", Path: "/data/a/n", Err: syscall.EACCES}, "a part is restored")
	if e := describe(err); e.Kind != apierror.NotKnown || !strings.HasSuffix(e.Message, "write to /data/a") {
		t.Errorf("%+v", e)
	}
}
