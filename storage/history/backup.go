package history

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
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

var errVanished = errors.New("its file vanished during the backup, and the journal does not have it")

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
	journal    *journal.Journal
	created    time.Time
	at         time.Time // the same for the journal: what it has up to then is as old
	dir        string    // the path by which the directory is held
	files      []string
	ids        map[string]fsutil.FileID
	unrecorded map[string]error // files whose state the journal could not be told
}

// Backup writes a backup of the tenant's phexts, all as they stood at one moment.
// Writes wait only while the files are listed; a phext that is written to during
// the backup is read from the journal. One phext at a time is in memory.
func (s *Service) Backup(ctx context.Context, t *tenants.Tenant, out io.Writer) (err error) {
	m, letGo, err := s.moment(ctx, t)
	defer func() { err = fsutil.Named(err, m.dir, s.Dirs.Of(t.DataDir).Path) }()
	if err != nil {
		return err
	}
	defer letGo()
	turn := s.turn()
	defer turn.Give()
	tw, list := tar.NewWriter(turn.Writer(out)), manifest{Tenant: t.ID, Created: m.created, Files: []manifestFile{}, Incarnation: t.IncarnationText()}
	for _, name := range m.files {
		f, err := s.addPhext(ctx, turn, tw, t, m, name)
		if err != nil {
			return fmt.Errorf("phext %q: %w", phextName(t, name), err)
		}
		list.Files = append(list.Files, f)
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := addFile(tw, manifestName, journal.State{Text: string(text)}, m.created, io.Discard, turn); err != nil {
		return err
	}
	return tw.Close()
}

// moment holds the directory until letGo is called: where its disk is unmounted meanwhile, a
// phext is not gone.
func (s *Service) moment(ctx context.Context, t *tenants.Tenant) (m moment, letGo func(), err error) {
	release, err := s.Dirs.LockExclusive(ctx, t.DataDir)
	if err != nil {
		return m, nil, err
	}
	defer release()
	m = moment{created: time.Now(), ids: map[string]fsutil.FileID{}, unrecorded: map[string]error{}}
	if m.journal, err = s.journalOf(t); err != nil {
		return m, nil, err
	}
	dir := s.Dirs.Of(t.DataDir)
	var held func()
	if m.dir, held, err = dir.Hold(); err != nil {
		return m, nil, err
	}
	defer func() {
		if err != nil {
			held()
		}
	}()
	files, err := phextFiles(t, m.dir)
	if err != nil {
		return m, nil, err
	}
	for _, name := range files {
		id, err := s.Dirs.Identify(filepath.Join(m.dir, name))
		if err != nil {
			return m, nil, fmt.Errorf("phext %q: %w", phextName(t, name), err)
		}
		if !id.Exists() {
			continue // somebody has removed it just now
		}
		m.files = append(m.files, name)
		if m.ids[name], err = s.recordEdit(m, dir, name, id); err != nil {
			m.unrecorded[name] = err
		}
	}
	m.at, err = m.journal.Moment()
	return m, held, err
}

// recordEdit has the journal know what somebody else has made of a file, or it would have
// what was before that when the next write comes. It returns which file that is now.
func (s *Service) recordEdit(m moment, dir *datadir.Dir, name string, id fsutil.FileID) (fsutil.FileID, error) {
	if last, known := m.journal.LastSeen(name); !known || last == id {
		return id, nil
	}
	charge := dir.NewCharge()
	defer charge.Release()
	now, err := s.newestIn(dir, m.dir, name)
	if err == nil && !now.Counted() {
		err = charge.Texts(now.Memory())
	}
	if err != nil {
		return id, err
	}
	return now.ID, datadir.RecordEdit(m.journal, name, now)
}

func (s *Service) addPhext(ctx context.Context, turn *fairqueue.Turn, tw *tar.Writer, t *tenants.Tenant, m moment, name string) (f manifestFile, err error) {
	charge := s.Dirs.Of(t.DataDir).NewCharge()
	defer charge.Release()
	state, err := s.stateAt(t, m, name, charge)
	if err != nil {
		return f, err
	}
	if err := turn.Take(ctx); err != nil {
		return f, err
	}
	defer turn.Give()
	sum := sha256.New()
	f = manifestFile{Name: phextName(t, name) + phext.Extension, Size: state.Size()}
	err = addFile(tw, f.Name, state, m.created, sum, turn)
	f.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return f, err
}

func (s *Service) stateAt(t *tenants.Tenant, m moment, name string, charge *datadir.Charge) (journal.State, error) {
	now, err := s.Dirs.File(filepath.Join(s.Dirs.Of(t.DataDir).Path, name))
	if err != nil {
		return journal.State{}, err
	}
	if now.Exists() && now.ID == m.ids[name] {
		if !now.Counted() {
			err = charge.Texts(now.Memory()) // it may leave the cache meanwhile
		}
		return datadir.StateOf(now), err
	}
	return m.state(name, charge)
}

// state is what a file held that is not at its path any more. charge has its text.
func (m *moment) state(name string, charge *datadir.Charge) (state journal.State, err error) {
	if err := m.unrecorded[name]; err != nil {
		return state, err
	}
	state, known, err := m.journal.KnownAt(name, m.at, nil, charge)
	if err == nil && !known {
		state, err = m.unknown(name, charge)
	}
	switch {
	case err != nil:
		return state, err
	case !state.Exists: // which it did
		return state, errVanished
	}
	if state.Source == nil { // else it is made of what was read
		charge.KeepText(state.Size())
	}
	return state, nil
}

// unknown is a file of which the journal has nothing. If that has it by now, it is being
// written, and what was read of it does not count.
func (m *moment) unknown(name string, charge *datadir.Charge) (journal.State, error) {
	now, err := m.journal.Current(m.dir, name, charge)
	if err != nil {
		return now, err
	}
	state, known, err := m.journal.KnownAt(name, m.at, nil, charge)
	if known || err != nil {
		return state, err
	}
	return now, nil
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
