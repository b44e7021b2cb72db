package proxy

import (
	"context"
	"log/slog"
	"time"
)

// recovering is how long the recovery of one directory may take.
const recovering = 10 * time.Minute

// settled returns when the files of a directory are what the journal says. The
// first request of each directory sees to that, and the first after a write
// that could not be put in order.
func (g *Gateway) settled(ctx context.Context, d *dir) error {
	if d.settled.Load() {
		return nil
	}
	done, err := d.write(ctx)
	if err != nil {
		return err
	}
	defer done()
	return g.settleHeld(ctx, d)
}

// settleHeld is settled for who has the directory to itself.
func (g *Gateway) settleHeld(ctx context.Context, d *dir) error {
	if d.settled.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, recovering)
	defer cancel()
	if err := g.recover(ctx, d); err != nil {
		g.log.LogAttrs(ctx, slog.LevelError, "a directory is not served, because its files could not be put in order",
			slog.String(keyDataDir, d.path), slog.Any(keyError, err))
		return errUnsettled
	}
	d.settled.Store(true)
	return nil
}

func (g *Gateway) recover(ctx context.Context, d *dir) error {
	if err := g.config.Children.Clear(ctx, d.path, "its files are looked at"); err != nil {
		return err
	}
	j, err := g.config.Journal.Of(d.path)
	if err != nil {
		return err
	}
	_, err = j.Recover(ctx) // what it did, it logs
	return err
}

// Settle puts the files of a data directory in order before anybody asks for them.
func (g *Gateway) Settle(ctx context.Context, dataDir string) error {
	return g.settled(ctx, g.dir(dataDir))
}

func (g *Gateway) dir(dataDir string) *dir {
	return g.dirs.of(dataDir, g.bodies.limit/tenantsPart)
}
