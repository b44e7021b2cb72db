package history

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"time"
	"unsafe"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// A backup is a tar file. Its entries are the tenant's phexts, and behind them
// a manifest with the size and the checksum of each. A tar that is cut off has
// no manifest, and one that was changed does not match it.
const manifestName = "MANIFEST.json"

// manifest has the incarnation last, because versions that do not know it read no
// further than the files. Their backups have none, and those of a tenant without one
// have "".
type manifest struct {
	Tenant      string         `json:"tenant"`
	Created     time.Time      `json:"created"`
	Files       []manifestFile `json:"files"`
	Incarnation string         `json:"incarnation"`
}

type manifestFile struct {
	Name   string `json:"name"`   // of the entry
	Size   int64  `json:"size"`   // in bytes
	SHA256 string `json:"sha256"` // in hexadecimal
}

// moment is a directory's files as they stood at one time.
type moment struct {
	at    time.Time
	files []string
	ids   map[string]fsutil.FileID
}

// Backup writes a backup of the tenant's phexts, all as they stood at one moment.
// Writes wait only while the files are listed; a phext that is written to during
// the backup is read from the journal. One phext at a time is in memory.
func (s *Service) Backup(ctx context.Context, t *tenants.Tenant, out io.Writer) error {
	m, err := s.moment(ctx, t)
	if err != nil {
		return err
	}
	j, err := s.journalOf(t)
	if err != nil {
		return err
	}
	turn := s.turn()
	defer turn.Give()
	tw, list := tar.NewWriter(turn.Writer(out)), manifest{Tenant: t.ID, Created: m.at, Files: []manifestFile{}, Incarnation: t.IncarnationText()}
	for _, name := range m.files {
		f, err := s.addPhext(ctx, turn, tw, j, t, m, name)
		if err != nil {
			return fmt.Errorf("phext %q: %w", phextName(t, name), err)
		}
		list.Files = append(list.Files, f)
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := addFile(tw, manifestName, string(text), m.at, turn); err != nil {
		return err
	}
	return tw.Close()
}

func (s *Service) moment(ctx context.Context, t *tenants.Tenant) (m moment, err error) {
	release, err := s.Dirs.LockExclusive(ctx, t.DataDir)
	if err != nil {
		return m, err
	}
	defer release()
	m = moment{at: time.Now(), ids: map[string]fsutil.FileID{}}
	if m.files, err = phextFiles(t); err != nil {
		return m, err
	}
	for _, name := range m.files {
		if m.ids[name], err = s.Dirs.Identify(filepath.Join(s.Dirs.Of(t.DataDir).Path, name)); err != nil {
			return m, fmt.Errorf("phext %q: %w", phextName(t, name), err)
		}
	}
	return m, nil
}

func (s *Service) addPhext(ctx context.Context, turn *fairqueue.Turn, tw *tar.Writer, j *journal.Journal, t *tenants.Tenant, m moment, name string) (f manifestFile, err error) {
	charge := s.Dirs.NewCharge()
	defer charge.Release()
	text, err := s.textAt(j, t, m, name, charge)
	if err != nil {
		return f, err
	}
	if err := turn.Take(ctx); err != nil {
		return f, err
	}
	defer turn.Give()
	sum := sha256.New()
	_ = writePieces(sum, text, turn) // a hash takes everything
	f = manifestFile{Name: phextName(t, name) + phext.Extension, Size: int64(len(text)), SHA256: hex.EncodeToString(sum.Sum(nil))}
	return f, addFile(tw, f.Name, text, m.at, turn)
}

func (s *Service) textAt(j *journal.Journal, t *tenants.Tenant, m moment, name string, charge *datadir.Charge) (string, error) {
	now, err := s.Dirs.File(filepath.Join(s.Dirs.Of(t.DataDir).Path, name))
	if err != nil {
		return "", err
	}
	if now.ID == m.ids[name] {
		if err := charge.Texts(now.Size()); err != nil {
			return "", err
		}
		return now.Text(), nil
	}
	state, err := stateAt(j, name, m.at, charge)
	return state.Text, err
}

func addFile(tw *tar.Writer, name, text string, at time.Time, turn *fairqueue.Turn) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o600, ModTime: at, Format: tar.FormatPAX}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	return writePieces(tw, text, turn)
}

// writePieces writes a text piece by piece, so that others have their turns in between.
func writePieces(w io.Writer, text string, turn *fairqueue.Turn) error {
	rest := unsafe.Slice(unsafe.StringData(text), len(text)) // which nobody changes
	for len(rest) > 0 {
		one := rest[:min(len(rest), fairqueue.Piece)]
		if _, err := w.Write(one); err != nil {
			return err
		}
		turn.Worked(len(one))
		rest = rest[len(one):]
	}
	return nil
}
