package tenants

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"syscall"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// Errors of Edit. What is wrong with the file as it was edited by hand is an
// ErrBroken; what the change itself would make wrong is an ErrInvalid.
var (
	ErrBroken   = errors.New("the tenants file on disk has a mistake: mend it first")
	ErrInvalid  = errors.New("this would not be a valid tenants file")
	ErrNoTenant = errors.New("there is no such tenant")
	ErrExists   = errors.New("there is such a tenant already")
	ErrDiskFull = errors.New("the tenants file could not be written: the disk is full")
)

// Edit changes the file on disk and takes the result into force, watcher or
// not. It starts from the file as it is at this moment, keeps the order and
// the text of tenants that change leaves alone, and writes a whole new file
// into the place of the old. On an error both file and memory are as they
// were. Edits and reloads are one at a time.
func (s *Store) Edit(change func(*Document) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		again, err := s.edit(change)
		if !again {
			return err
		}
	}
}

// edit tries once. again says that somebody else changed the file meanwhile.
func (s *Store) edit(change func(*Document) error) (again bool, err error) {
	path := fsutil.Resolve(s.options.Path)
	before, err := os.Stat(path)
	if err != nil {
		return false, fmt.Errorf("tenants file: %w", err)
	}
	text, err := read(path)
	if err != nil {
		return false, err
	}
	next, now, err := s.edited(text, change)
	if err != nil {
		return false, err
	}
	if meanwhile, err := os.Stat(path); err != nil || !sameState(before, meanwhile) {
		return err == nil, err
	}
	if err := s.write(path, string(next)); err != nil {
		return false, writeError(err)
	}
	s.takeIntoForce(now)
	s.remember(next)
	return false, nil
}

func sameState(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func writeError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w (%w)", ErrDiskFull, err)
	}
	return fmt.Errorf("the tenants file could not be written: %w", err)
}

// edited applies a change to the text of a file.
func (s *Store) edited(text []byte, change func(*Document) error) (next []byte, now *Snapshot, err error) {
	if err := s.checkText(text); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	d, err := openDocument(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	if err := change(d); err != nil {
		return nil, nil, err
	}
	if next, err = d.text(); err != nil {
		return nil, nil, err
	}
	if now, err = Parse(next); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return next, now, nil
}

// checkText refuses a file with a mistake. The one in force needs no second look.
func (s *Store) checkText(text []byte) error {
	if s.Status().Successful() && sha256.Sum256(text) == s.seen {
		return nil
	}
	_, err := Parse(text)
	return err
}
