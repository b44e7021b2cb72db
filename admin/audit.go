package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"mirrorborn.us/sqgate/internal/keylimit"
)

// auditLog is a file to which one line of JSON is appended for each change. It
// never holds a key.
type auditLog struct {
	path string
	mu   sync.Mutex
	file *os.File
}

type auditLine struct {
	Time   time.Time `json:"time"`
	Who    string    `json:"who"`  // fingerprint of the management key
	From   string    `json:"from"` // the caller's address
	What   string    `json:"what"`
	Tenant string    `json:"tenant,omitempty"`
	Before any       `json:"before,omitempty"`
	After  any       `json:"after,omitempty"`
}

func openAudit(path string) (*auditLog, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	l := &auditLog{path: path}
	return l, l.open()
}

func (l *auditLog) open() (err error) {
	l.file, err = os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0o600) // a FIFO would wait for a reader, and a link may lead to a file that is no log
	if errors.Is(err, syscall.ENXIO) || errors.Is(err, syscall.ELOOP) {
		err = fmt.Errorf("%s is no regular file: remove it", l.path)
	}
	if err == nil {
		var info fs.FileInfo
		if info, err = l.file.Stat(); err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%s is no regular file: remove it", l.path)
		}
		if err != nil {
			err = errors.Join(err, l.file.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	return nil
}

// follow opens the file again if another one has its name, or none has: logrotate
// has renamed it.
func (l *auditLog) follow() error {
	open, err := l.file.Stat()
	if err != nil {
		return err
	}
	if named, err := os.Stat(l.path); err == nil && os.SameFile(open, named) {
		return nil
	}
	old := l.file
	if err := l.open(); err != nil {
		l.file = old // a line in the renamed file is better than none
		return err
	}
	return old.Close()
}

func (l *auditLog) close() error { return l.file.Close() }

// write returns when the line is on the disk.
func (l *auditLog) write(line auditLine) error {
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err = l.follow()
	_, failed := l.file.Write(append(text, '\n'))
	return errors.Join(err, failed, l.file.Sync())
}

// record notes a change that was made, before the caller is answered. If the
// line cannot be written, it is logged and the call succeeds all the same:
// the change was made, and the caller must be told so.
func (a *API) record(r *http.Request, what, tenant string, before, after any) {
	line := auditLine{Time: a.now().UTC(), Who: a.keyFingerprint(), From: keylimit.RemoteHost(r), What: what, Tenant: tenant, Before: before, After: after}
	if err := a.audit.write(line); err != nil {
		a.Logger.Error("the audit log could not be written", "error", err, "what", what, "tenant", tenant)
	}
}
