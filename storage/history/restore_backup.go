package history

import (
	"context"
	"io"
	"path/filepath"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// FromBackup is what became of a tenant's phexts when a backup was restored.
type FromBackup struct {
	Restored []Restored
	// Manifest says whether the backup had a manifest. Without one, as backups of
	// earlier versions, only the end of the tar shows that nothing is missing.
	Manifest bool
}

// RestoreBackup makes the tenant's phexts those of a backup, and removes the
// others. With target.Phext, only that one is touched. target.At does not count.
//
// It reads the whole backup before it keeps anybody out of the directory, and
// changes nothing if the backup is not whole. If it fails later, what it has
// restored by then is returned with the error.
func (s *Service) RestoreBackup(ctx context.Context, t *tenants.Tenant, target Target, in io.Reader) (result FromBackup, err error) {
	b, err := s.receive(ctx, t, in)
	if err != nil {
		return result, err
	}
	defer b.close()
	if b.manifest && b.of != target.From {
		if err := b.mustBeOf(t); err != nil {
			return result, err
		}
	}
	result.Manifest = b.manifest
	r, release, err := s.begin(ctx, t, target, "restored from a backup")
	if err != nil {
		return result, err
	}
	defer release()
	files, err := r.filesOf(b)
	if err != nil {
		return result, err
	}
	for _, files := range withNames(files) {
		changes, err := r.planEntries(b, files)
		if err == nil {
			err = r.apply(changes...)
		}
		if err != nil {
			return result, r.explain(r.ofPhext(files[0], err), result.Restored)
		}
		for _, c := range changes {
			result.Restored = append(result.Restored, c.Restored)
		}
	}
	return result, nil
}

// mustBeOf refuses a backup of another tenant, or of an earlier one with the same id. A
// backup that does not say the incarnation is the tenant's own if it was made since
// the tenant has its id.
func (b *received) mustBeOf(t *tenants.Tenant) error {
	whose := "tenant"
	switch {
	case b.of != t.ID:
	case b.incarnation == nil && !b.created.Before(t.Incarnation),
		b.incarnation != nil && *b.incarnation == t.IncarnationText():
		return nil
	default:
		whose = "another tenant with the id"
	}
	return apierror.New(apierror.Conflict,
		"this is a backup of %s %.80q, so nothing was changed: to restore it here all the same, say so with from=%.80s (--from-tenant)", whose, b.of, b.of)
}

// filesOf are the files to restore, and those to remove because the backup does
// not have them. Each can be read and written as far as one can see. Without a
// manifest nobody can tell whether the backup has lost some, so none is removed, but for the
// names of a phext that it has: they could be those of other scrolls.
func (r *restore) filesOf(b *received) (files []string, err error) {
	found := false
	for _, e := range b.entries {
		if r.wanted(e.file) {
			files, found = append(files, e.file), true
		}
	}
	if r.target.Phext != nil && !found {
		return nil, apierror.New(apierror.NotFound, "the backup has no phext %.80q, so nothing was changed", *r.target.Phext)
	}
	now, err := phextFiles(r.tenant, r.at)
	if err != nil {
		return nil, err
	}
	for _, file := range now {
		_, has := b.index[file]
		_, hasPhext := b.index[phextOf(file)]
		if !has && (b.manifest || hasPhext) && r.wanted(file) {
			files = append(files, file)
		}
	}
	for _, file := range files {
		if _, err := r.Dirs.Identify(filepath.Join(r.dir.Path, file)); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// wanted says whether the file is the phext that is asked for, or its names.
func (r *restore) wanted(file string) bool {
	if r.target.Phext == nil {
		return true
	}
	name := phextName(r.tenant, file)
	return name == *r.target.Phext || name == *r.target.Phext+rewrite.NamesSuffix
}

// planEntries is plan with what a backup has of files.
func (r *restore) planEntries(b *received, files []string) (changes []change, err error) {
	for _, file := range files {
		state, err := r.entry(b, file)
		if err != nil {
			return nil, err
		}
		c, err := r.plan(file, state)
		if err != nil {
			return nil, err
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// entry is what a backup has of a file. A large text stays there.
func (r *restore) entry(b *received, file string) (journal.State, error) {
	i, ok := b.index[file]
	if !ok {
		return journal.State{}, nil
	}
	if b.entries[i].size > journal.Small {
		return journal.State{Source: inSpool{b, b.entries[i]}, Exists: true}, nil
	}
	text, err := b.text(b.entries[i], r.turn)
	return journal.State{Text: text, Exists: true}, err
}
