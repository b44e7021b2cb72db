package proxy

import (
	"context"
	"strings"
	"time"

	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/journal"
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
