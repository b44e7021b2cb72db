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
	if err := addFile(tw, manifestName, journal.State{Text: string(text)}, m.at, io.Discard, turn); err != nil {
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
	charge := s.Dirs.Of(t.DataDir).NewCharge()
	defer charge.Release()
	state, err := s.stateAt(j, t, m, name, charge)
	if err != nil {
		return f, err
	}
	if err := turn.Take(ctx); err != nil {
		return f, err
	}
	defer turn.Give()
	sum := sha256.New()
	f = manifestFile{Name: phextName(t, name) + phext.Extension, Size: state.Size()}
	err = addFile(tw, f.Name, state, m.at, sum, turn)
	f.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return f, err
}

func (s *Service) stateAt(j *journal.Journal, t *tenants.Tenant, m moment, name string, charge *datadir.Charge) (journal.State, error) {
	now, err := s.Dirs.File(filepath.Join(s.Dirs.Of(t.DataDir).Path, name))
	if err != nil {
		return journal.State{}, err
	}
	if now.ID == m.ids[name] {
		if !now.Counted() {
			err = charge.Texts(now.Memory()) // it may leave the cache meanwhile
		}
		return datadir.StateOf(now), err
	}
	return stateAt(j, name, m.at, nil, charge)
}

// addFile adds a file to the tar. What it holds is written to sum too.
func addFile(tw *tar.Writer, name string, state journal.State, at time.Time, sum io.Writer, turn *fairqueue.Turn) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: state.Size(), Mode: 0o600, ModTime: at, Format: tar.FormatPAX}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err := state.WriteTo(inPieces{io.MultiWriter(tw, sum), turn})
	return err
}

// inPieces writes a long text piece by piece, so that others have their turns in between.
type inPieces struct {
	io.Writer
	turn *fairqueue.Turn
}

func (w inPieces) WriteString(s string) (n int, err error) {
	return w.Write(unsafe.Slice(unsafe.StringData(s), len(s))) // which nobody changes
}

func (w inPieces) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var written int
		written, err = w.Writer.Write(b[n:min(len(b), n+fairqueue.Piece)])
		w.turn.Worked(written)
		n += written
	}
	return n, err
}
