package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/supervisor/procfs"
)

// openDir opens the data directory itself. The lock lies on it, so that no
// file is added to a tenant's data.
func openDir(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// lockDir makes the directory if need be and takes its lock, for the child to
// inherit. An orphan of an earlier gateway is stopped between writes first.
func (s *Supervisor) lockDir(ctx context.Context, dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	if err = s.lock(ctx, f); err == nil {
		err = refuseStranger(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lock takes the lock on an open directory. It polls, since flock that waits
// cannot be interrupted by ctx.
func (s *Supervisor) lock(ctx context.Context, f *os.File) error {
	unseen := time.Now()
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		stopped, err := s.clear(ctx, f)
		switch {
		case stopped:
			unseen = time.Now()
		case err != nil && (!errors.Is(err, errUnseen) || time.Since(unseen) > s.config.holderGrace):
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// clear finds who holds the lock and stops it if it is an orphan.
func (s *Supervisor) clear(ctx context.Context, f *os.File) (stopped bool, err error) {
	h, err := findHolder(f)
	if err != nil {
		return false, err
	}
	if h.marker == "" {
		return false, h.unseen()
	}
	if pid := supervisorOf(h.pid, h.marker); pid != 0 {
		return false, &heldError{holder: h.pid, text: fmt.Sprintf("directory is served by another sqgate (pid %d)", pid), supervisor: pid}
	}
	return s.stopHolder(ctx, h, f)
}

// stopHolder ends an orphan. It is looked at again once it is held by a
// descriptor: the first look was at a pid that might have changed hands.
func (s *Supervisor) stopHolder(ctx context.Context, h holder, f *os.File) (bool, error) {
	p, err := procfs.Open(h.pid)
	if err != nil {
		return true, nil // it is gone already
	}
	defer p.Close()
	if !h.stillHolds(f) {
		return true, nil
	}
	s.log.Warn("stopping a child that outlived its gateway", keyDir, f.Name(), keyPID, h.pid)
	_, err = s.ender().process(ctx, p)
	return err == nil, err
}

// stopOrphan makes sure that no process of an earlier gateway serves dir. A
// fresh child of our own is none of its business.
func (s *Supervisor) stopOrphan(ctx context.Context, dir string) error {
	f, err := openDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = s.lock(ctx, f)
	var held *heldError
	if errors.As(err, &held) && held.supervisor == os.Getpid() {
		err = nil
	}
	return errors.Join(err, f.Close())
}
