package history

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

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// ErrNotBackup is a file that is no backup of a tenant's phexts.
var ErrNotBackup = apierror.New(apierror.BadRequest, "this is not a backup made by sqgate")

// moment is a directory's files as they stood at one time.
type moment struct {
	at    time.Time
	files []string
	ids   map[string]fsutil.FileID
}

// Backup writes a tar of the tenant's phexts, all as they stood at one moment.
// Writes wait only while the files are listed; a phext that is written to during
// the backup is read from the journal.
func (s *Service) Backup(ctx context.Context, t *tenants.Tenant, out io.Writer) error {
	m, err := s.moment(ctx, t)
	if err != nil {
		return err
	}
	j, err := s.journalOf(t)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(out)
	for _, name := range m.files {
		text, err := s.textAt(j, t, m, name)
		if err != nil {
			return fmt.Errorf("phext %q: %w", phextName(t, name), err)
		}
		if err := addFile(tw, phextName(t, name)+phext.Extension, text, m); err != nil {
			return err
		}
	}
	return tw.Close()
}

func (s *Service) moment(ctx context.Context, t *tenants.Tenant) (m moment, err error) {
	release, err := s.Dirs.Freeze(ctx, t.DataDir)
	if err != nil {
		return m, err
	}
	defer release()
	m = moment{at: time.Now(), ids: map[string]fsutil.FileID{}}
	if m.files, err = phextFiles(t); err != nil {
		return m, err
	}
	for _, name := range m.files {
		if m.ids[name], err = s.Dirs.Links.Identify(filepath.Join(s.Dirs.Of(t.DataDir).Path, name)); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (s *Service) textAt(j *journal.Journal, t *tenants.Tenant, m moment, name string) (string, error) {
	now, err := s.Dirs.File(filepath.Join(s.Dirs.Of(t.DataDir).Path, name))
	if err != nil {
		return "", err
	}
	if now.ID == m.ids[name] {
		return now.Text(), nil
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

// RestoreBackup makes the tenant's phexts those of a backup, and removes the
// others. With target.Phext, only that one is touched. target.At does not count.
// It reads the whole backup before it changes anything.
func (s *Service) RestoreBackup(ctx context.Context, t *tenants.Tenant, target Target, in io.Reader) (done []Restored, err error) {
	r, release, err := s.begin(ctx, t, target, "restored from a backup")
	if err != nil {
		return nil, err
	}
	defer release()
	states, order, err := readBackup(t, tar.NewReader(in))
	if err != nil {
		return nil, err
	}
	now, err := phextFiles(t)
	if err != nil {
		return nil, err
	}
	for _, name := range now {
		if _, ok := states[name]; !ok {
			order = append(order, name) // its state is the zero one, no file
		}
	}
	for _, name := range order {
		if !r.wanted(name) {
			continue
		}
		one, err := r.put(name, states[name])
		if err != nil {
			return done, err
		}
		done = append(done, one)
	}
	return done, nil
}

// wanted says whether the file is the phext that is asked for, or its names.
func (r *restore) wanted(file string) bool {
	if r.target.Phext == nil {
		return true
	}
	name := phextName(r.tenant, file)
	return name == *r.target.Phext || name == *r.target.Phext+rewrite.NamesSuffix
}

func readBackup(t *tenants.Tenant, tr *tar.Reader) (states map[string]journal.State, order []string, err error) {
	states = map[string]journal.State{}
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return states, order, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrNotBackup, err)
		}
		name, ok := strings.CutSuffix(h.Name, phext.Extension)
		if !ok || h.Typeflag != tar.TypeReg || h.Size > cache.Largest {
			return nil, nil, fmt.Errorf("%w: it holds %.80q", ErrNotBackup, h.Name)
		}
		call, err := locate(t, name, "")
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrNotBackup, err)
		}
		text, err := readText(tr, h.Size)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %s: %w", ErrNotBackup, h.Name, err)
		}
		states[call.FileName()] = journal.State{Text: text, Exists: true}
		order = append(order, call.FileName())
	}
}

func readText(r io.Reader, size int64) (string, error) {
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
