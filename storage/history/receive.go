package history

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/tenants"
)

// ErrNotBackup is a file that is no backup of a tenant's phexts, or not a whole
// one.
var ErrNotBackup = apierror.New(apierror.BadRequest, "this is not a backup made by sqgate")

var errManifest = notBackup("its manifest cannot be read")

func notBackup(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrNotBackup, fmt.Errorf(format, args...))
}

// errCutShort is a backup that stopped coming.
func errCutShort(err error) error {
	return apierror.New(apierror.BadRequest, "the backup ended before it was complete (%v): nothing was changed, send it again", err)
}

// What a backup may have at most, and what of it is in memory, in bytes.
const (
	mostEntries = 100_000
	mostBytes   = 64 << 30
	perEntry    = 1 << 10 // what is kept of an entry while the backup is restored
	tarMemory   = 4 << 20 // the headers of one entry, as archive/tar reads them
	mostPadding = 1 << 20 // zeros behind the end of the tar
	diskMargin  = 256 << 20

	// manifestWindow is how much of a manifest is read for one line of it.
	manifestWindow = 64 << 10
)

// received is a backup that has come and was found whole. Its texts lie in a
// file without a name, which is gone when it is closed or sqgate ends.
type received struct {
	entries  []entry
	index    map[string]int // of entries, by file
	manifest bool
	of       string    // the tenant that the manifest names
	created  time.Time // zero if the manifest does not say
	// incarnation is that of the tenant, and "" if it had none. It is nil in backups of
	// versions that did not write it.
	incarnation *string
	zeros       bool // a phext has NULs in it, as a backup has that was not written to its end

	spool *os.File
	held  *memlimit.Reservation
}

// entry is one phext of a backup.
type entry struct {
	file     string // in the data directory
	name     string // in the tar
	at, size int64  // in the spool
	sum      [sha256.Size]byte
}

func (b *received) close() {
	_ = b.spool.Close() // nothing of it is wanted any more
	b.held.Release()
}

// text is what the backup has of a phext.
func (b *received) text(e entry, turn *fairqueue.Turn) (string, error) {
	var text strings.Builder
	text.Grow(int(e.size))
	_, err := io.Copy(&text, turn.Reader(io.NewSectionReader(b.spool, e.at, e.size)))
	return text.String(), err
}

// inSpool is the text of a phext that stays in the spool.
type inSpool struct {
	b *received
	e entry
}

func (s inSpool) Size() int64 { return s.e.size }

func (s inSpool) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, io.NewSectionReader(s.b.spool, s.e.at, s.e.size))
}

// receiver reads a backup, entry by entry.
type receiver struct {
	*received
	tenant      *tenants.Tenant
	in          *endReader
	tar         *tar.Reader
	turn        *fairqueue.Turn // held, except while the client or the disk is waited for
	total       int64           // bytes of the entries so far
	mostEntries int
	mostBytes   int64
}

// receive reads a backup to its end and checks all of it. What it takes in
// memory does not depend on the sizes in the backup.
func (s *Service) receive(ctx context.Context, t *tenants.Tenant, in io.Reader) (*received, error) {
	turn := s.turn()
	r, err := s.newReceiver(t, turn.Reader(in)) // before the turn: its memory may have to be waited for
	if err != nil {
		return nil, err
	}
	if err := turn.Take(ctx); err != nil {
		r.close()
		return nil, err
	}
	defer turn.Give()
	r.turn = turn
	if err := r.read(); err != nil {
		r.close()
		if r.in.err != nil && !errors.Is(err, datadir.ErrBusy) {
			return nil, errCutShort(r.in.err)
		}
		return nil, err
	}
	return r.received, nil
}

func (s *Service) newReceiver(t *tenants.Tenant, in io.Reader) (*receiver, error) {
	held := s.Dirs.Of(t.DataDir).Reserve()
	if !held.Grow(tarMemory) {
		return nil, datadir.ErrBusy
	}
	spool, err := os.CreateTemp(s.SpoolDir, fsutil.Temporary+"*")
	if err != nil {
		held.Release()
		return nil, err
	}
	b := &received{index: map[string]int{}, spool: spool, held: held}
	if err := os.Remove(spool.Name()); err != nil {
		b.close()
		return nil, err
	}
	end := &endReader{in: in}
	return &receiver{received: b, tenant: t, in: end, tar: tar.NewReader(end), mostEntries: mostEntries, mostBytes: mostBytes}, nil
}

func (r *receiver) read() error {
	for {
		h, err := r.tar.Next()
		switch {
		case errors.Is(err, io.EOF):
			return r.checkEnd()
		case err != nil:
			return notBackup("%w", err)
		case r.manifest:
			return notBackup("%.80q follows its manifest", h.Name)
		case !plain(h):
			return notBackup("%.80q is not a plain file in it", h.Name)
		case h.Name == manifestName:
			err = r.readManifest()
		default:
			err = r.readPhext(h)
		}
		if err != nil {
			return err
		}
	}
}

// plain says whether an entry is a file with all of its bytes. A sparse file is
// far larger than what is sent for it.
func plain(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return false
		}
	}
	return h.Typeflag == tar.TypeReg
}

// readPhext checks an entry and copies it to the spool.
func (r *receiver) readPhext(h *tar.Header) error {
	e, err := r.place(h)
	if err != nil {
		return err
	}
	if err := r.reserve(e.size); err != nil {
		return err
	}
	sum, zeros := sha256.New(), &zeroFinder{}
	text, err := fsutil.IsText(io.TeeReader(r.tar, io.MultiWriter(sum, r.turn.Writer(r.spool), zeros)))
	r.zeros = r.zeros || zeros.found
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return notBackup("%.80q is cut off", h.Name)
	case err != nil:
		return err
	case !text:
		return notBackup("%.80q %w", h.Name, cache.ErrNotText)
	}
	sum.Sum(e.sum[:0])
	r.index[e.file] = len(r.entries)
	r.entries = append(r.entries, e)
	return nil
}

// zeroFinder says whether anything that is written to it has a NUL.
type zeroFinder struct{ found bool }

func (z *zeroFinder) Write(b []byte) (int, error) {
	z.found = z.found || bytes.IndexByte(b, 0) >= 0
	return len(b), nil
}

// place finds out which file an entry is, if it can be one.
func (r *receiver) place(h *tar.Header) (entry, error) {
	name, ok := strings.CutSuffix(h.Name, phext.Extension)
	if !ok || h.Size > cache.Largest {
		return entry{}, notBackup("it holds %.80q", h.Name)
	}
	call, err := locate(r.tenant, name, "")
	if err != nil {
		return entry{}, fmt.Errorf("%w: %w", ErrNotBackup, err)
	}
	file := call.FileName()
	if _, twice := r.index[file]; twice {
		return entry{}, notBackup("%.80q is in it twice", h.Name)
	}
	if len(r.entries) >= r.mostEntries {
		return entry{}, notBackup("it has more than %d phexts", r.mostEntries)
	}
	return entry{file: file, name: strings.Clone(h.Name), at: r.total, size: h.Size}, nil
}

// reserve makes room for one more entry, in memory and on the disk.
func (r *receiver) reserve(size int64) error {
	if size > r.mostBytes-r.total {
		return notBackup("its phexts have more than %d bytes", r.mostBytes)
	}
	if !r.held.Grow(tarMemory + perEntry*int64(len(r.entries)+1)) {
		return datadir.ErrBusy
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(r.spool.Fd()), &fs); err != nil {
		return err
	}
	if size > int64(fs.Bavail)*int64(fs.Bsize)-diskMargin {
		return fmt.Errorf("there is no room to receive the backup in: %w", syscall.ENOSPC)
	}
	r.total += size
	return nil
}

// readManifest compares the manifest with the entries before it. It never holds
// the manifest as a whole.
func (r *receiver) readManifest() error {
	r.manifest = true
	window := &windowReader{in: r.tar}
	d := json.NewDecoder(window)
	window.left = manifestWindow
	for i, want := range []json.Token{json.Delim('{'), "tenant", nil, "created", nil, "files", json.Delim('[')} {
		got, err := d.Token()
		if err != nil || want != nil && got != want {
			return errManifest
		}
		text, _ := got.(string)
		switch i {
		case 2:
			if tenants.ValidID(text) != nil {
				return notBackup("its manifest names no tenant")
			}
			r.of = strings.Clone(text)
		case 4:
			if r.created, err = time.Parse(time.RFC3339Nano, text); err != nil {
				return errManifest
			}
		}
	}
	for listed := 0; ; listed++ {
		window.left = manifestWindow
		if !d.More() {
			if listed != len(r.entries) {
				return notBackup("its manifest lists %d phexts, and %d are in it", listed, len(r.entries))
			}
			window.left = manifestWindow
			return r.readManifestEnd(d)
		}
		var f manifestFile
		window.left = manifestWindow
		if err := d.Decode(&f); err != nil {
			return errManifest
		}
		if err := r.compare(f, listed); err != nil {
			return err
		}
	}
}

// readManifestEnd reads what follows the last line of the manifest: its incarnation, if
// it has one, and nothing else.
func (r *receiver) readManifestEnd(d *json.Decoder) error {
	if end, err := d.Token(); err != nil || end != json.Delim(']') {
		return errManifest
	}
	next, err := d.Token()
	if err == nil && next == "incarnation" {
		value, failed := d.Token()
		text, ok := value.(string)
		if failed != nil || !ok {
			return errManifest
		}
		r.incarnation = &text
		next, err = d.Token()
	}
	if err != nil || next != json.Delim('}') {
		return errManifest
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return notBackup("something follows its manifest")
	}
	return nil
}

// compare compares a line of the manifest with the entry in the same place.
func (r *receiver) compare(f manifestFile, place int) error {
	if place >= len(r.entries) || r.entries[place].name != f.Name {
		return notBackup("%.80q is missing", f.Name)
	}
	if e := r.entries[place]; e.size != f.Size || hex.EncodeToString(e.sum[:]) != f.SHA256 {
		return notBackup("%.80q is not what its manifest says", f.Name)
	}
	return nil
}

// checkEnd reads what follows the last entry: a tar ends in two blocks of zeros,
// and nothing but zeros may follow.
func (r *receiver) checkEnd() error {
	switch {
	case r.in.ended:
		return notBackup("it is cut off: the end of the tar is missing")
	case !r.manifest && len(r.entries) == 0:
		return notBackup("it is empty")
	case !r.manifest && r.zeros:
		return notBackup("it has no manifest, and NULs in a phext: it was not written to its end")
	}
	rest, err := io.ReadAll(io.LimitReader(r.in, mostPadding+1))
	if err != nil {
		return err
	}
	if len(rest) > mostPadding || len(bytes.Trim(rest, "\x00")) > 0 {
		return notBackup("something follows its end")
	}
	return nil
}

// windowReader fails after left bytes, so that a decoder does not gather one long
// token in memory.
type windowReader struct {
	in   io.Reader
	left int
}

func (r *windowReader) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, io.ErrShortBuffer
	}
	n, err := r.in.Read(b[:min(len(b), r.left)])
	r.left -= n
	return n, err
}

// endReader notes how reading ended. archive/tar takes an end between two
// entries for that of the tar.
type endReader struct {
	in    io.Reader
	ended bool  // somebody tried to read on
	err   error // other than io.EOF
}

func (r *endReader) Read(b []byte) (int, error) {
	n, err := r.in.Read(b)
	switch {
	case errors.Is(err, io.EOF) && n > 0:
		return n, nil // whoever wants more gets the end with the next call
	case errors.Is(err, io.EOF):
		r.ended = true
	case err != nil:
		r.err = err
	}
	return n, err
}
