package tenants

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Run reloads the file when it changes, until ctx ends, and returns the error
// of ctx. It reads the file after events in its directory and also at the poll
// interval, because a host can run out of watchers and events can be lost.
//
// A poll compares the whole text, because a change can leave size and time as
// they were, and the file is small.
func (s *Store) Run(ctx context.Context) error {
	w := s.newWatcher()
	defer w.close()
	poll := time.NewTicker(s.options.Poll)
	defer poll.Stop()
	d := newDebouncer(s.options.Debounce)
	defer d.timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, open := <-w.events:
			w.closeUnless(open)
			d.event(time.Now())
		case err, open := <-w.errors:
			w.closeUnless(open)
			w.warn(err)
			d.event(time.Now()) // events may have been lost
		case <-d.timer.C:
			d.fired()
			s.checkFile(w)
		case <-poll.C:
			s.checkFile(w)
		}
	}
}

// checkFile updates the watches first, so that a change after the reload is an
// event.
func (s *Store) checkFile(w *watcher) {
	if !s.Current().ReloadOnChange() {
		return
	}
	w.update(s.options.Path)
	s.reloadIfChanged()
}

// debouncer delays the reload until events stop coming, because a file is often
// written in several steps.
type debouncer struct {
	timer *time.Timer
	quiet time.Duration
	began time.Time // of the first event since the timer fired; zero if there was none
}

// maxDebounce bounds the delay, as a multiple of the quiet time: in a directory
// that others write to all the time, events never stop coming.
const maxDebounce = 8

// newDebouncer fires at once, for changes before the watch began.
func newDebouncer(quiet time.Duration) *debouncer {
	return &debouncer{timer: time.NewTimer(0), quiet: quiet}
}

func (d *debouncer) event(now time.Time) {
	if d.began.IsZero() {
		d.began = now
	}
	left := d.began.Add(maxDebounce * d.quiet).Sub(now)
	if left > 0 { // else the timer is about to fire
		d.timer.Reset(min(d.quiet, left))
	}
}

func (d *debouncer) fired() { d.began = time.Time{} }

// watcher watches the directories on which the path of the tenants file
// depends. It watches no file, because editors rename a new file into place and
// the watch would stay with the old one.
//
// Without an fsnotify.Watcher its channels are nil, and it does nothing.
type watcher struct {
	inner       *fsnotify.Watcher
	events      <-chan fsnotify.Event
	errors      <-chan error
	watched     map[string]bool
	lastWarning string // not logged again
	log         *slog.Logger
	file        string
}

func (s *Store) newWatcher() *watcher {
	w := &watcher{watched: map[string]bool{}, log: s.options.Logger, file: s.options.Path}
	inner, err := s.options.notify()
	if err != nil {
		w.warn(err)
		return w
	}
	w.inner, w.events, w.errors = inner, inner.Events, inner.Errors
	w.update(s.options.Path)
	return w
}

// update watches the directories that path leads through now, and no others.
func (w *watcher) update(path string) {
	if w.inner == nil {
		return
	}
	want := directoriesOf(path)
	for dir := range want {
		w.watch(dir)
	}
	for dir := range w.watched {
		if !want[dir] {
			_ = w.inner.Remove(dir) // the directory may be gone, and the watch with it
			delete(w.watched, dir)
		}
	}
}

// watch adds a watch even if there is one already: that costs nothing, and the
// directory may have been replaced by another one with the same name.
func (w *watcher) watch(dir string) {
	if err := w.inner.Add(dir); err != nil {
		w.warn(err)
		return
	}
	w.watched[dir] = true
}

func (w *watcher) warn(err error) {
	if err == nil || err.Error() == w.lastWarning {
		return
	}
	w.lastWarning = err.Error()
	w.log.Warn("the tenants file's directory cannot be watched; the file is still looked at now and then", keyFile, w.file, keyError, err)
}

// closeUnless is called with whether a channel is still open. A closed channel
// would always be ready to receive from.
func (w *watcher) closeUnless(open bool) {
	if !open {
		w.close()
	}
}

func (w *watcher) close() {
	if w.inner != nil {
		_ = w.inner.Close() // nothing can be done about an error
		w.inner, w.events, w.errors = nil, nil, nil
	}
}

// maxLinks is how many symbolic links are followed, as in the kernel.
const maxLinks = 40

// directoriesOf returns the directories in which a rename can change the file
// that path leads to: those of path, of each symbolic link on the way and of
// the file itself.
func directoriesOf(path string) map[string]bool {
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	dirs := map[string]bool{filepath.Dir(path): true}
	for range maxLinks {
		link, rest := cutAtLink(path)
		target, err := os.Readlink(link)
		if err != nil {
			break // it is no link, so there are none left
		}
		dirs[filepath.Dir(link)] = true
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		path = filepath.Join(target, rest)
	}
	dirs[filepath.Dir(path)] = true
	return dirs
}

// cutAtLink cuts path after its first symbolic link, or at its end.
func cutAtLink(path string) (link, rest string) {
	for i := 1; i < len(path); i++ {
		if path[i] != filepath.Separator {
			continue
		}
		if info, err := os.Lstat(path[:i]); err == nil && info.Mode()&os.ModeSymlink != 0 {
			return path[:i], path[i:]
		}
	}
	return path, ""
}
