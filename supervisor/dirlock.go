package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/supervisor/procfs"
)

// openDir opens the data directory. The lock is on the directory itself, so that
// no file is added to a tenant's data.
func openDir(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// lockDir makes the directory if need be and locks it, for the child to inherit.
// It stops an orphan of an earlier sqgate first, between two writes.
func (s *Supervisor) lockDir(ctx context.Context, dir string) (*os.File, error) {
	if err := s.checkDir(dir, dir); err != nil {
		return nil, err
	}
	if err := fsutil.MakeDir(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	if err = s.checkDir(dir, fsutil.FDPath(f)); err == nil {
		err = s.lock(ctx, f)
	}
	if err == nil {
		err = refuseForeignProcess(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// errDirRefused is the error of Config.CheckDir. It is no failure of SQ.
var errDirRefused = errors.New("no SQ may be started on the directory")

func (s *Supervisor) checkDir(dir, at string) error {
	if s.config.CheckDir == nil {
		return nil
	}
	if err := s.config.CheckDir(dir, at); err != nil {
		return fmt.Errorf("%w: %w", errDirRefused, err)
	}
	return nil
}

// lock takes the lock on an open directory. It polls, because ctx cannot
// interrupt a flock that waits.
func (s *Supervisor) lock(ctx context.Context, f *os.File) error {
	since := time.Now() // nobody known holds the lock
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		stopped, err := s.stopOrphanHolder(ctx, f)
		switch {
		case stopped:
			since = time.Now()
		case err != nil && (!errors.Is(err, errUnknownHolder) || time.Since(since) > s.config.holderGrace):
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// stopOrphanHolder finds the process that holds the lock and stops it if it is
// the child of an sqgate that has ended.
func (s *Supervisor) stopOrphanHolder(ctx context.Context, f *os.File) (stopped bool, err error) {
	h, err := findHolder(f)
	if err != nil {
		return false, err
	}
	if h.marker == "" {
		return false, h.unknown()
	}
	if pid := supervisorOf(h.pid, h.marker); pid != 0 {
		return false, &heldError{holder: h.pid, text: fmt.Sprintf("directory is served by another sqgate (pid %d)", pid), supervisor: pid}
	}
	return s.stopHolder(ctx, h, f)
}

// stopHolder ends an orphan. It opens the process and checks it again, because
// the pid may have become another process's since the first look.
func (s *Supervisor) stopHolder(ctx context.Context, h holder, f *os.File) (bool, error) {
	p, err := procfs.Open(h.pid)
	if err != nil {
		return true, nil // it is gone already
	}
	defer p.Close()
	if !h.stillHolds(f) {
		return true, nil
	}
	s.log.Warn("stopping a child that outlived its sqgate", keyDir, f.Name(), keyPID, h.pid)
	_, err = s.terminator().terminate(ctx, p)
	return err == nil, err
}

// stopOrphanIn makes sure that no child of an earlier sqgate serves dir. A child
// of ours that was started meanwhile is left alone.
func (s *Supervisor) stopOrphanIn(ctx context.Context, dir string) error {
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
