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

// Options are what a Store is made of.
type Options struct {
	Path     string
	Logger   *slog.Logger
	Poll     time.Duration // how often the file is looked at besides the watcher; 0 = 2 s
	Debounce time.Duration // how long a burst of events is waited out; 0 = 50 ms
	// OnChange is told of each reload that changed something, one at a time;
	// the new snapshot is in force already. It must not call the Store's
	// Reload or Edit, which wait for it. A diff may be empty: then only the
	// order or reload_on_change is new.
	OnChange func(old, now *Snapshot, diff Diff)

	notify func() (*fsnotify.Watcher, error) // a field, so that tests can run out of watchers
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

// ReloadStatus is how the last look at the file ended.
type ReloadStatus struct {
	At  time.Time // of the last reload that was tried
	Err error     // nil if the file is in force as it is
}

// Successful says whether the file on disk is the one in force.
func (s ReloadStatus) Successful() bool { return s.Err == nil }

// Store holds the snapshot in force. A request reads it without a lock.
type Store struct {
	options  Options
	current  atomic.Pointer[Snapshot]
	status   atomic.Pointer[ReloadStatus]
	mu       sync.Mutex // one reload at a time
	seen     [sha256.Size]byte
	vanished bool                          // the file could not be read last time
	write    func(path, text string) error // a field, so that tests can fill the disk
}

// Open reads the file; a bad one is an error, since there is nothing that could stay in force.
func Open(o Options) (*Store, error) {
	s := &Store{options: o.withDefaults(), write: fsutil.ReplacePrivate}
	text, err := read(o.Path)
	if err != nil {
		return nil, err
	}
	snapshot, err := Parse(text)
	if err != nil {
		return nil, fileError(o.Path, err)
	}
	s.seen = sha256.Sum256(text)
	s.current.Store(snapshot)
	s.status.Store(&ReloadStatus{At: time.Now()})
	s.warnIfReadable()
	return s, nil
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

// Current is the snapshot in force.
func (s *Store) Current() *Snapshot { return s.current.Load() }

// Status is how the last reload ended.
func (s *Store) Status() ReloadStatus { return *s.status.Load() }

// Reload reads the file now. On an error, which is logged and kept for Status,
// what was in force stays.
func (s *Store) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reload(true)
}

// look reloads if the file's bytes are others than last time.
func (s *Store) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.reload(false) // it is logged, and kept for Status
}

func (s *Store) reload(always bool) error {
	text, err := read(s.options.Path)
	if err != nil {
		// The file is read often: that it still cannot be is no news.
		news := always || !s.vanished || !sameText(err, s.Status().Err)
		s.vanished = true
		return s.failed(err, news)
	}
	sum := sha256.Sum256(text)
	if sum == s.seen && !always && !s.vanished {
		return nil
	}
	s.seen, s.vanished = sum, false
	now, err := Parse(text)
	if err != nil {
		return s.failed(fileError(s.options.Path, err), true)
	}
	s.takeIntoForce(now)
	return nil
}

func sameText(a, b error) bool { return b != nil && a.Error() == b.Error() }

// failed keeps an error for Status, and logs it if it is news.
func (s *Store) failed(err error, news bool) error {
	s.status.Store(&ReloadStatus{At: time.Now(), Err: err})
	if news {
		s.options.Logger.Error("the tenants file was not taken into force; what was loaded before stays", keyFile, s.options.Path, keyError, err)
	}
	return err
}

func (s *Store) takeIntoForce(now *Snapshot) {
	old, mended := s.Current(), !s.Status().Successful()
	s.status.Store(&ReloadStatus{At: time.Now()})
	if same(old, now) {
		if mended {
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

// remember keeps a file that was written here from being read as news.
func (s *Store) remember(text []byte) { s.seen, s.vanished = sha256.Sum256(text), false }

// warnIfReadable tells when keys lie open to others on the host.
func (s *Store) warnIfReadable() {
	info, err := os.Stat(s.options.Path)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		s.options.Logger.Warn("the tenants file holds keys and can be read by others: chmod 600 it", keyFile, s.options.Path, keyMode, info.Mode().Perm().String())
	}
}
