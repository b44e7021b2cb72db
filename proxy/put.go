package proxy

import (
	"errors"
	"os"
	"path/filepath"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants/quota"
)

// scroll brings back one scroll into the phext as it is now.
func (p *past) scroll() ([]journal.Restored, error) {
	if p.want.Phext == nil || p.want.To != nil {
		return nil, errScrollAlone
	}
	call, err := located(p.tenant, *p.want.Phext, p.want.Coordinate)
	if err != nil {
		return nil, err
	}
	then, err := p.viewAt(call)
	if err != nil {
		return nil, err
	}
	now, err := p.gateway.view(p.dir, call)
	if err != nil {
		return nil, err
	}
	if err := p.aim(call, then, now); err != nil {
		return nil, err
	}
	text, _ := then.page.Phext.Select(call.At)
	r, err := p.put(call.FileName(), journal.State{Text: now.page.With(call.At, text).Text(), Exists: true})
	return []journal.Restored{r}, err
}

func (p *past) viewAt(call *rewrite.Call) (v view, err error) {
	if v.page, err = p.pageAt(call.FileName()); err != nil {
		return v, err
	}
	v.names, err = p.pageAt(call.NamesFileName())
	return v, err
}

func (p *past) pageAt(file string) (*cache.Version, error) {
	state, err := p.journal.At(file, p.want.At)
	if err != nil {
		return nil, err
	}
	return cache.NewVersion(state.Text, fsutil.FileID{}), nil
}

// aim finds the coordinate of a name as it was then, which must not have
// become another's, and gives the name back to it.
func (p *past) aim(call *rewrite.Call, then, now view) error {
	if call.Name == "" {
		return nil
	}
	at, ok := then.names.Find(call.Name)
	if !ok {
		return errNoName(call.Name)
	}
	call.Resolve(at)
	if current, ok := now.names.Find(call.Name); ok && current == at {
		return nil
	}
	_, named := now.names.Phext.Select(at)
	if _, taken := now.page.Phext.Select(at); named || taken {
		return errNameMoved
	}
	_, err := p.put(call.NamesFileName(), journal.State{Text: now.names.With(at, call.Name).Text(), Exists: true})
	return err
}

// put makes a file what state is, unless it is so already.
func (p *past) put(file string, state journal.State) (journal.Restored, error) {
	r := journal.Restored{Phext: phextOf(p.tenant, file), Bytes: int64(len(state.Text)), Removed: !state.Exists}
	path := filepath.Join(p.dir.path, file)
	now, err := p.gateway.page(path)
	if err != nil {
		return r, err
	}
	r.Changed = now.Exists() != state.Exists || now.Text() != state.Text
	if !r.Changed || p.want.DryRun {
		return r, nil
	}
	return r, p.write(file, path, now, state)
}

// write is a mutation that needs no SQ: the file is replaced whole, and SQ
// reads it again before its next write.
func (p *past) write(file, path string, now *cache.Version, state journal.State) error {
	if err := noticeEdit(p.journal, file, now); err != nil {
		return err
	}
	// The operator may go past a quota, and a phext that is too large to be
	// written is refused before anything of it is.
	reserved, err := p.gateway.config.Ledger.Reserve(p.tenant, quota.Write{File: file, Size: sizeBefore(now), Removes: true})
	if err != nil {
		return err
	}
	defer reserved.Release()
	m := journal.Mutation{File: file, Op: journal.Replace, Text: state.Text, Tenant: p.tenant.ID, Key: p.want.Key, Note: p.note}
	if !state.Exists {
		m.Op = journal.Remove
	}
	pending, err := p.journal.Begin(m, func() (journal.State, error) { return stateOf(now), nil })
	if err != nil {
		return err
	}
	hold := p.gateway.pages.Freeze(map[string]*cache.Version{path: now})
	defer hold.Publish(nil)
	if err := makeIt(path, state); err != nil {
		return errors.Join(err, pending.Abort())
	}
	id, err := fsutil.Identify(path)
	if err != nil {
		return err
	}
	return errors.Join(pending.Done(id), pending.Sync())
}

func makeIt(path string, state journal.State) error {
	if state.Exists {
		return fsutil.Replace(path, state.Text, fsutil.NewFileMode, true)
	}
	return errors.Join(ignoreMissing(os.Remove(path)), fsutil.SyncDir(filepath.Dir(path)))
}
