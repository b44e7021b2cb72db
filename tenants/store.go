package tenants

import (
	"crypto/sha256"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// Options are the settings of a Store.
type Options struct {
	Path     string
	Logger   *slog.Logger
	Poll     time.Duration // interval at which the file is read even if no event comes; 0 = 2 s
	Debounce time.Duration // how long no event may have come before the file is read; 0 = 50 ms
	// OnChange is called after each reload or edit that changed something, one
	// call at a time, when the new snapshot is already the current one. It must
	// not call the Store's Reload or Edit, which would wait for it. An empty
	// diff means that only the order or reload_on_change is different.
	OnChange func(old, now *Snapshot, diff Diff)
	// Agree is asked about each file before it is put into force, and about each edit
	// before anybody is told that it is made. It returns what the file must be instead,
	// which is file itself if that is right, and a function to call when the file is
	// that. nil = nobody is asked. The error is ErrMeanwhile if edit, and somebody else
	// changes the same: Edit then makes the change again, in the file that Agree makes
	// of the one on disk.
	Agree func(file *Document, edit bool) (agreed *Document, done func(), err error)
	// Wait makes a file that is missing, cannot be read or has a mistake no error of
	// Open. There are no tenants then, and Snapshot.Refusal says why, until a reload
	// finds the file mended.
	Wait bool

	notify func() (*fsnotify.Watcher, error) // a field so that tests can run out of watchers
}

const (
	defaultPoll     = 2 * time.Second
	defaultDebounce = 50 * time.Millisecond
)

// Log keys.
const (
	keyFile    = "file"
	keyError   = "error"
	keyTenants = "tenants"
	keyAdded   = "added"
	keyRemoved = "removed"
	keyChanged = "changed"
	keyMode    = "mode"
)

// ReloadStatus is the outcome of the last reload.
type ReloadStatus struct {
	At  time.Time
	Err error // nil if the file on disk is the one in effect
}

// Successful says whether the file on disk is the one in effect.
func (s ReloadStatus) Successful() bool { return s.Err == nil }

// Store has the current snapshot of the tenants file, which is read without a
// lock. Once there is one, a file that cannot be read or has a mistake changes
// nothing.
type Store struct {
	options    Options
	current    atomic.Pointer[Snapshot]
	status     atomic.Pointer[ReloadStatus]
	loaded     chan struct{}                 // closed once a file is in force
	mu         sync.Mutex                    // held by each reload and edit
	lastSum    [sha256.Size]byte             // SHA-256 of the text that was read or written last
	unreadable bool                          // the last attempt to read the file failed
	unsettled  bool                          // Agree failed, or what it made could not be written
	write      func(path, text string) error // a field so that tests can fill the disk
}

// Open reads the file. Unlike Reload it fails if the file has a mistake, unless
// Options.Wait is set, because there is no earlier snapshot to keep.
func Open(o Options) (*Store, error) {
	s := &Store{options: o.withDefaults(), write: fsutil.ReplacePrivate, loaded: make(chan struct{})}
	text, err := readFile(o.Path)
	s.unreadable = err != nil
	if err == nil {
		s.lastSum = sha256.Sum256(text)
		err = s.openText(text)
	}
	if s.unsettled { // which is no mistake in the file
		return nil, err
	}
	switch {
	case err == nil:
		s.warnIfReadable()
	case !o.Wait:
		return nil, err
	default:
		_ = s.failLocked(err, true) // nobody else has the store yet
	}
	return s, nil
}

// openText puts the text of the first file into effect.
func (s *Store) openText(text []byte) error {
	snapshot, err := Parse(text)
	if err != nil {
		return fileError(s.options.Path, err)
	}
	if s.options.Agree != nil {
		if snapshot, err = s.settleLocked(snapshot); err != nil { // nobody else has the store yet
			return err
		}
	}
	s.current.Store(snapshot)
	s.status.Store(&ReloadStatus{At: time.Now()})
	close(s.loaded)
	return nil
}

func (o Options) withDefaults() Options {
	if o.Poll == 0 {
		o.Poll = defaultPoll
	}
	if o.Debounce == 0 {
		o.Debounce = defaultDebounce
	}
	if o.notify == nil {
		o.notify = fsnotify.NewWatcher
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Current returns the snapshot in effect.
func (s *Store) Current() *Snapshot { return s.current.Load() }

// Loaded is closed once a file is in force, which is later than Open only with
// Options.Wait.
func (s *Store) Loaded() <-chan struct{} { return s.loaded }

// waiting says whether no file has been in force yet.
func (s *Store) waiting() bool {
	select {
	case <-s.loaded:
		return false
	default:
		return true
	}
}

// Status returns the outcome of the last reload.
func (s *Store) Status() ReloadStatus { return *s.status.Load() }

// Reload reads the file now. An error is logged and kept for Status, and the
// current snapshot stays.
func (s *Store) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reloadLocked(true)
}

// Follow asks Agree anew about the file as it is, because something else than the file
// has changed. An error that is the same as before is not logged again.
func (s *Store) Follow() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsettled = true
	return s.reloadLocked(false)
}

// reloadIfChanged reloads if the file's text is not the one read last.
func (s *Store) reloadIfChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.reloadLocked(false) // logged, and kept for Status
}

func (s *Store) reloadLocked(always bool) error {
	text, err := readFile(s.options.Path)
	if err != nil {
		// The file is read every few seconds: log the same error only once.
		log := always || !s.unreadable || !sameText(err, s.Status().Err)
		s.unreadable = true
		return s.failLocked(err, log)
	}
	changed := sha256.Sum256(text) != s.lastSum || s.unreadable
	if !changed && !always && !s.unsettled && s.Status().Successful() && !s.Current().leadsElsewhere() {
		return nil
	}
	s.rememberLocked(text)
	now, err := Parse(text)
	if err != nil {
		err = fileError(s.options.Path, err)
		return s.failLocked(err, always || changed || !sameText(err, s.Status().Err))
	}
	if s.options.Agree != nil {
		if now, err = s.settleLocked(now); err != nil {
			return s.failLocked(err, always || !sameText(err, s.Status().Err))
		}
	}
	s.activateLocked(now)
	return nil
}

// settleLocked makes the file on disk what Agree says, and returns what it is then. now
// is what it was read as; it is read again, because Agree may take its time.
func (s *Store) settleLocked(now *Snapshot) (*Snapshot, error) {
	s.unsettled = true
	path := fsutil.Resolve(s.options.Path)
	for {
		before, err := fsutil.Identify(path)
		if err != nil {
			return nil, fileError(path, err)
		}
		text, err := readFile(path)
		if err != nil {
			return nil, err
		}
		if sha256.Sum256(text) != s.lastSum {
			if now, err = Parse(text); err != nil {
				return nil, fileError(path, err)
			}
			s.rememberLocked(text)
		}
		file, err := openDocument(text)
		if err != nil {
			return nil, err
		}
		agreed, done, err := s.options.Agree(file, false)
		if err != nil {
			return nil, err
		}
		if agreed != file {
			if text, now, err = agreed.parse(); err != nil {
				return nil, err
			}
			if meanwhile, err := fsutil.Identify(path); err != nil || meanwhile != before {
				continue // Agree must see that, too
			}
			if err := s.write(path, string(text)); err != nil {
				return nil, notWritten(err)
			}
			s.rememberLocked(text)
		}
		done()
		s.unsettled = false
		return now, nil
	}
}

func sameText(a, b error) bool { return b != nil && a.Error() == b.Error() }

func (s *Store) failLocked(err error, log bool) error {
	s.status.Store(&ReloadStatus{At: time.Now(), Err: err})
	said := "the tenants file was not taken into force; what was loaded before stays"
	if s.waiting() {
		s.current.Store(&Snapshot{reloadOnChange: true, refusal: refusal(err)})
		said = "no tenant is served until the tenants file is mended, which takes effect by itself"
	}
	if log {
		s.options.Logger.Error(said, keyFile, s.options.Path, keyError, err)
	}
	return err
}

// activateLocked makes now the current snapshot.
func (s *Store) activateLocked(now *Snapshot) {
	now.keepPlaces(s.Current())
	old, repaired := s.Current(), !s.Status().Successful()
	s.status.Store(&ReloadStatus{At: time.Now()})
	if s.waiting() {
		defer close(s.loaded)
	} else if equal(old, now) {
		if repaired {
			s.options.Logger.Info("the tenants file is sound again, and as it was", keyFile, s.options.Path)
		}
		return
	}
	s.current.Store(now)
	s.warnIfReadable()
	diff := Compare(old, now)
	s.options.Logger.Info("the tenants file is in force", keyFile, s.options.Path, keyTenants, now.Len(),
		keyAdded, len(diff.Added), keyRemoved, len(diff.Removed), keyChanged, len(diff.Changed))
	if s.options.OnChange != nil {
		s.options.OnChange(old, now, diff)
	}
}

// rememberLocked notes the text that the file has, so that it is not parsed
// again until it changes.
func (s *Store) rememberLocked(text []byte) {
	s.lastSum, s.unreadable = sha256.Sum256(text), false
}

// warnIfReadable warns if other users of the host can read the keys.
func (s *Store) warnIfReadable() {
	info, err := os.Stat(s.options.Path)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		s.options.Logger.Warn("the tenants file holds keys and can be read by others: chmod 600 it", keyFile, s.options.Path, keyMode, info.Mode().Perm().String())
	}
}
