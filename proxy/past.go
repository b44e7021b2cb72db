package proxy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/disk"
	"mirrorborn.us/sqgate/journal"
	"mirrorborn.us/sqgate/parsed"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/tenants"
)

const phextSuffix = ".phext"

// fileOf is the file of a tenant's phext; a bad name is a *rewrite.Error.
func fileOf(t *tenants.Tenant, name string) (*rewrite.Call, error) {
	return located(t, name, "")
}

// located understands a phext and a coordinate as if the tenant had sent them.
func located(t *tenants.Tenant, name, coordinate string) (*rewrite.Call, error) {
	query := "p=" + rewrite.Escape(name)
	if coordinate != "" {
		query += "&c=" + rewrite.Escape(coordinate)
	}
	head, err := rewrite.ParseHead("GET", "/select", query, rewriteTenant(t))
	if err != nil {
		return nil, err
	}
	return head.Call(nil)
}

// phextOf is the name that the tenant knows a file by.
func phextOf(t *tenants.Tenant, file string) string {
	name := strings.TrimSuffix(file, phextSuffix)
	if t.SharedDataDir {
		name = strings.TrimPrefix(name, t.ID+".")
	}
	return name
}

// History is what was done to a tenant's phexts, oldest first; phext nil = to
// all of them, coordinate "" = anywhere.
func (g *Gateway) History(t *tenants.Tenant, phext *string, coordinate string) ([]journal.Event, error) {
	j, err := g.config.Journal.Of(g.dir(t.DataDir).path)
	if err != nil {
		return nil, err
	}
	keep, file := func(e journal.Event) bool { return t.OwnFile(e.File) }, ""
	if phext != nil {
		call, err := located(t, *phext, coordinate)
		if err != nil {
			return nil, err
		}
		file = call.FileName()
		if coordinate != "" {
			keep = func(e journal.Event) bool {
				return call.Name != "" && e.Note == call.Name || call.Name == "" && e.At == call.At
			}
		}
	}
	all, err := j.History(file)
	events := all[:0]
	for _, e := range all {
		if keep(e) {
			e.File = phextOf(t, e.File)
			events = append(events, e)
		}
	}
	return events, err
}

// Restore makes phexts what they were. It is a change like any other, and can
// be undone by restoring to the moment before it.
func (g *Gateway) Restore(ctx context.Context, t *tenants.Tenant, want journal.Restoring) ([]journal.Restored, error) {
	d := g.dir(t.DataDir)
	release, err := g.Hold(ctx, t.DataDir)
	if err != nil {
		return nil, err
	}
	defer release()
	j, err := g.config.Journal.Of(d.path)
	if err != nil {
		return nil, err
	}
	p := &past{gateway: g, tenant: t, dir: d, journal: j, want: want, note: "restored to " + want.At.UTC().Format(time.RFC3339Nano)}
	if want.Coordinate != "" {
		return p.scroll()
	}
	return p.phexts()
}

// past is one restoring under way. Its directory is held.
type past struct {
	gateway *Gateway
	tenant  *tenants.Tenant
	dir     *dir
	journal *journal.Journal
	want    journal.Restoring
	note    string
}

// phexts brings back one phext with its names, or all of the tenant's.
func (p *past) phexts() ([]journal.Restored, error) {
	from, to, err := p.files()
	if err != nil {
		return nil, err
	}
	var done []journal.Restored
	for i := range from {
		state, err := p.journal.At(from[i], p.want.At)
		if err != nil {
			return done, err
		}
		r, err := p.put(to[i], state)
		if err != nil {
			return done, err
		}
		if r.Changed || !strings.HasSuffix(r.Phext, ".names") {
			done = append(done, r)
		}
	}
	return done, nil
}

// files are the files to look up in the past, and those that they become.
func (p *past) files() (from, to []string, err error) {
	if p.want.Phext == nil {
		from, err = p.everything()
		return from, from, err
	}
	call, err := fileOf(p.tenant, *p.want.Phext)
	if err != nil {
		return nil, nil, err
	}
	target := call
	if p.want.To != nil {
		if target, err = fileOf(p.tenant, *p.want.To); err != nil {
			return nil, nil, err
		}
	}
	return []string{call.FileName(), call.NamesFileName()}, []string{target.FileName(), target.NamesFileName()}, nil
}

// everything is every file that the tenant had then or has now.
func (p *past) everything() ([]string, error) {
	then, err := p.journal.FilesAt(p.want.At)
	if err != nil {
		return nil, err
	}
	now, err := p.gateway.phextFiles(p.tenant)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var all []string
	for _, name := range append(then, now...) {
		if p.tenant.OwnFile(name) && !seen[name] {
			seen[name] = true
			all = append(all, name)
		}
	}
	return all, nil
}

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

func (p *past) pageAt(file string) (*parsed.Page, error) {
	state, err := p.journal.At(file, p.want.At)
	if err != nil {
		return nil, err
	}
	return parsed.Of(state.Text, disk.FileID{}), nil
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
func (p *past) write(file, path string, now *parsed.Page, state journal.State) error {
	if err := noticeEdit(p.journal, file, now); err != nil {
		return err
	}
	// The operator may go past a quota, and a phext that is too large to be
	// written is refused before anything of it is.
	reserved, err := p.gateway.config.Ledger.Reserve(p.tenant, tenants.Write{File: file, Size: sizeBefore(now), Removes: true})
	if err != nil {
		return err
	}
	defer reserved.Settle()
	m := journal.Mutation{File: file, Op: journal.Replace, Text: state.Text, Tenant: p.tenant.ID, Key: p.want.Key, Note: p.note}
	if !state.Exists {
		m.Op = journal.Remove
	}
	pending, err := p.journal.Begin(m, func() (journal.State, error) { return stateOf(now), nil })
	if err != nil {
		return err
	}
	hold := p.gateway.pages.Hold(map[string]*parsed.Page{path: now})
	defer hold.End(nil)
	if err := makeIt(path, state); err != nil {
		return errors.Join(err, pending.Abort())
	}
	id, err := disk.Identify(path)
	if err != nil {
		return err
	}
	return errors.Join(pending.Done(id), pending.Flushed())
}

func makeIt(path string, state journal.State) error {
	if state.Exists {
		return disk.Replace(path, state.Text, newFileMode, true)
	}
	return errors.Join(ignoreMissing(os.Remove(path)), disk.SyncDir(filepath.Dir(path)))
}
