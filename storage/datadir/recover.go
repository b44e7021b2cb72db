package datadir

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"mirrorborn.us/sqgate/internal/logkey"
)

// recoveryTimeout is how long the recovery of one directory may take.
const recoveryTimeout = 10 * time.Minute

// Recover returns when the files of the directory are what the journal says.
// The first request of each directory sees to that, and so does the first one
// after a write that could not be put in order.
func (d *Dir) Recover(ctx context.Context) error {
	if d.Recovered() {
		return nil
	}
	unlock, err := d.lockForWrite(ctx)
	if errors.Is(err, errQueueFull) {
		return errNotRecovered // another request recovers the files
	}
	if err != nil {
		return err
	}
	defer unlock()
	return d.recoverLocked(ctx)
}

// recoverLocked is Recover for the holder of the write lock.
func (d *Dir) recoverLocked(ctx context.Context) error {
	if d.Recovered() {
		return nil
	}
	if err := d.checkPresent(); err != nil {
		return err // recovery would write the phexts to another disk
	}
	ctx, cancel := context.WithTimeout(ctx, recoveryTimeout)
	defer cancel()
	if err := d.recoverFiles(ctx); err != nil {
		d.dirs.Logger.LogAttrs(ctx, slog.LevelError, "a directory is not served, because its files could not be recovered",
			slog.String(logkey.DataDir, d.Path), slog.Any(logkey.Error, err))
		return errNotRecovered
	}
	d.recovered.Store(true)
	return nil
}

func (d *Dir) recoverFiles(ctx context.Context) error {
	if err := d.dirs.StopChild(ctx, d.Path, "its files are recovered"); err != nil {
		return err
	}
	j, err := d.dirs.JournalOf(d)
	if err != nil {
		return err
	}
	_, err = j.Recover(ctx) // it logs what it did
	return err
}
