package proxy

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// phextFiles are the tenant's phexts in its directory now, by file name.
func (g *Gateway) phextFiles(t *tenants.Tenant) ([]string, error) {
	all, err := t.OwnFiles()
	var names []string
	for _, name := range all {
		if strings.HasSuffix(name, phextSuffix) {
			names = append(names, name)
		}
	}
	return names, err
}

// moment is a directory's files as they stood at one time.
type moment struct {
	at    time.Time
	files []string
	ids   map[string]fsutil.FileID
}

// Backup writes a tar of the tenant's phexts, all as they stood at one moment.
// Writes are held up only while the files are listed; what is written to
// during the backup is read from the journal.
func (g *Gateway) Backup(ctx context.Context, t *tenants.Tenant, out io.Writer) error {
	m, err := g.moment(ctx, t)
	if err != nil {
		return err
	}
	j, err := g.config.Journal.Of(g.dir(t.DataDir).path)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(out)
	for _, name := range m.files {
		text, err := g.textAt(j, t, m, name)
		if err != nil {
			return fmt.Errorf("phext %q: %w", phextOf(t, name), err)
		}
		if err := addFile(tw, phextOf(t, name)+phextSuffix, text, m); err != nil {
			return err
		}
	}
	return tw.Close()
}

func (g *Gateway) moment(ctx context.Context, t *tenants.Tenant) (m moment, err error) {
	release, err := g.Hold(ctx, t.DataDir)
	if err != nil {
		return m, err
	}
	defer release()
	m = moment{at: time.Now(), ids: map[string]fsutil.FileID{}}
	if m.files, err = g.phextFiles(t); err != nil {
		return m, err
	}
	for _, name := range m.files {
		if m.ids[name], err = fsutil.Identify(filepath.Join(g.dir(t.DataDir).path, name)); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (g *Gateway) textAt(j *journal.Journal, t *tenants.Tenant, m moment, name string) (string, error) {
	page, err := g.page(filepath.Join(g.dir(t.DataDir).path, name))
	if err != nil {
		return "", err
	}
	if page.ID == m.ids[name] {
		return page.Text(), nil
	}
	state, err := j.At(name, m.at)
	return state.Text, err
}

func addFile(tw *tar.Writer, name, text string, m moment) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o600, ModTime: m.at, Format: tar.FormatPAX}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.WriteString(tw, text)
	return err
}

// RestoreBackup makes the tenant's phexts those of a backup: others are
// removed. With want.Phext, only that one is touched. want.At does not count.
func (g *Gateway) RestoreBackup(ctx context.Context, t *tenants.Tenant, want journal.Restoring, in io.Reader) ([]journal.Restored, error) {
	release, err := g.Hold(ctx, t.DataDir)
	if err != nil {
		return nil, err
	}
	defer release()
	d := g.dir(t.DataDir)
	j, err := g.config.Journal.Of(d.path)
	if err != nil {
		return nil, err
	}
	p := &past{gateway: g, tenant: t, dir: d, journal: j, want: want, note: "restored from a backup"}
	return p.unpack(tar.NewReader(in))
}

// unpack looks through the whole backup before it touches anything.
func (p *past) unpack(tr *tar.Reader) ([]journal.Restored, error) {
	states, order, err := readBackup(p.tenant, tr)
	if err != nil {
		return nil, err
	}
	now, err := p.gateway.phextFiles(p.tenant)
	if err != nil {
		return nil, err
	}
	for _, name := range now {
		if _, ok := states[name]; !ok {
			order = append(order, name) // its zero state is that of no file
		}
	}
	var done []journal.Restored
	for _, name := range order {
		if !p.wanted(name) {
			continue
		}
		r, err := p.put(name, states[name])
		if err != nil {
			return done, err
		}
		done = append(done, r)
	}
	return done, nil
}

func (p *past) wanted(file string) bool {
	if p.want.Phext == nil {
		return true
	}
	name := phextOf(p.tenant, file)
	return name == *p.want.Phext || name == *p.want.Phext+".names"
}

func readBackup(t *tenants.Tenant, tr *tar.Reader) (states map[string]journal.State, order []string, err error) {
	states = map[string]journal.State{}
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return states, order, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", journal.ErrNotBackup, err)
		}
		name, ok := strings.CutSuffix(h.Name, phextSuffix)
		if !ok || h.Typeflag != tar.TypeReg || h.Size > cache.Largest {
			return nil, nil, fmt.Errorf("%w: it holds %.80q", journal.ErrNotBackup, h.Name)
		}
		call, err := fileOf(t, name)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", journal.ErrNotBackup, err)
		}
		text, err := readAllText(tr, h.Size)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %s: %w", journal.ErrNotBackup, h.Name, err)
		}
		states[call.FileName()] = journal.State{Text: text, Exists: true}
		order = append(order, call.FileName())
	}
}

func readAllText(r io.Reader, size int64) (string, error) {
	var text strings.Builder
	text.Grow(int(size))
	if _, err := io.Copy(&text, r); err != nil {
		return "", err
	}
	if !utf8.ValidString(text.String()) {
		return "", cache.ErrNotText
	}
	return text.String(), nil
}
