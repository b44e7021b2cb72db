package journal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// A tenant that no journal knows has a directory that was another's before a crash, and that one is not in the tenants
// file any more. It may be the same tenant with another id: without a repair, what was acknowledged is lost. It may
// be another one: what a repair makes are texts of the one before. Only the operator knows. So if there is anything to
// repair, nothing is changed, and nobody is served.

// askWhose is an error if a crash may have damaged any of the files.
func (r *recovery) askWhose(ctx context.Context, c *claim, logs map[string]*fileLog, aside, left map[string]bool) error {
	var damaged []string
	for _, file := range inOrder(logs) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if c.of(file) == usual { // they had it with others
			continue
		}
		r.isThere = left[c.ownerBefore(file)]
		f := &fileRecovery{recovery: r, name: file, path: filepath.Join(r.path, file), place: filepath.Join(r.dataDir, file), log: logs[file]}
		is, err := f.isDamaged(aside[file])
		if errors.Is(err, ErrDamaged) { // nobody can say what it held
			r.view.j.cfg.Logger.Error("a phext of others cannot be checked, because its checkpoint is damaged", "path", f.path, "error", r.named(err))
			continue
		}
		if err != nil {
			return r.named(err)
		}
		if is {
			damaged = append(damaged, file)
		}
	}
	if len(damaged) == 0 {
		return nil
	}
	return fmt.Errorf("%q had it until a crash, which has damaged %d of the phexts, such as %s, and %q has it now. "+
		"If that is the same tenant, let the tenants file have it as before, until the directory is recovered. "+
		"If it is another one, which is to have the phexts as they are, move them to a new directory, and that to this path",
		c.before.Tenants, len(damaged), slices.Min(damaged), c.now.Tenants)
}

// isDamaged says whether a crash may have damaged the file, or an acknowledged mutation is not in it. It changes
// nothing.
func (f *fileRecovery) isDamaged(aside bool) (bool, error) {
	var err error
	if f.id, err = f.view.j.cfg.Links.Identify(f.place); err == nil {
		f.found, err = OpenState(f.view.j.cfg.Links, f.place)
	}
	pending := f.log != nil && len(f.log.pending) > 0
	switch {
	case IsUnfit(err): // nobody can say what it holds
		return pending || !f.sameBoot && !f.cleanStop, nil
	case err != nil:
		return false, err
	case f.log == nil: // it was renamed aside, and there is no more of it
		return f.found.Size() == 0 || !f.found.isUTF8(), nil
	}
	if err := f.replay(); err != nil {
		return false, err
	}
	switch {
	case f.found.Equals(f.want):
		return false, nil
	case f.found.Equals(f.before): // after a cut, the record that a mutation was done may be lost
		return pending && f.mayBeLost(), nil
	case aside:
		return !f.writtenByHand(), nil
	case !f.found.Exists:
		return f.mayBeLost() && (f.isThere || f.sameBoot), nil
	case !f.mayBeLost() || f.cleanStop:
		return f.log.mustRollBack || pending && (f.interrupted() || f.madeFromNothing() || !f.found.isUTF8()), nil
	case f.interrupted(), f.madeFromNothing(), !f.found.isUTF8(), hasNewHoles(f.found, f.want), f.isUnedited():
		return true, nil
	}
	return f.older()
}
