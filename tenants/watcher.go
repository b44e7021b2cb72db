package tenants

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watcher is an fsnotify.Watcher, or nothing where there is none to be had.
//
// What is watched is directories: editors rename a new file into place, and a
// watch on the file would go with the old one.
type watcher struct {
	*fsnotify.Watcher
	watched map[string]bool
	said    string // the last complaint, which is not repeated
	log     *slog.Logger
	file    string
}

func (s *Store) newWatcher() *watcher {
	w := &watcher{watched: map[string]bool{}, log: s.options.Logger, file: s.options.Path}
	inner, err := s.options.notify()
	if err != nil {
		w.complain(err)
		return w
	}
	w.Watcher = inner
	w.follow(s.options.Path)
	return w
}

// follow watches the directories that path hangs on, and no others.
func (w *watcher) follow(path string) {
	if w.Watcher == nil {
		return
	}
	want := directoriesOf(path)
	for dir := range want {
		w.watch(dir)
	}
	for dir := range w.watched {
		if !want[dir] {
			_ = w.Remove(dir) // it may be gone, and its watch with it
			delete(w.watched, dir)
		}
	}
}

// watch asks for a watch even where there is one: it costs nothing, and a
// directory that was replaced by another of its name needs a new one.
func (w *watcher) watch(dir string) {
	if err := w.Add(dir); err != nil {
		w.complain(err)
		return
	}
	w.watched[dir] = true
}

func (w *watcher) complain(err error) {
	if err == nil || err.Error() == w.said {
		return
	}
	w.said = err.Error()
	w.log.Warn("the tenants file's directory cannot be watched; the file is still looked at now and then", keyFile, w.file, keyError, err)
}

// stillOpen takes note of the end of the watcher's channels, which would
// otherwise be ready for ever.
func (w *watcher) stillOpen(ok bool) {
	if !ok {
		w.close()
		w.Watcher = nil
	}
}

func (w *watcher) events() <-chan fsnotify.Event {
	if w.Watcher == nil {
		return nil
	}
	return w.Events
}

func (w *watcher) errors() <-chan error {
	if w.Watcher == nil {
		return nil
	}
	return w.Errors
}

func (w *watcher) close() {
	if w.Watcher != nil {
		_ = w.Close() // nothing is left to do about it
	}
}

// mostLinks is how many symbolic links are followed, as in the kernel.
const mostLinks = 40

// directoriesOf are the directories in which a rename changes what path leads
// to: its own, that of every symbolic link on the way, and that of the file.
func directoriesOf(path string) map[string]bool {
	if whole, err := filepath.Abs(path); err == nil {
		path = whole
	}
	list := map[string]bool{filepath.Dir(path): true}
	for range mostLinks {
		link, rest := firstLink(path)
		target, err := os.Readlink(link)
		if err != nil {
			break // there is no link any more
		}
		list[filepath.Dir(link)] = true
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		path = filepath.Join(target, rest)
	}
	list[filepath.Dir(path)] = true
	return list
}

// firstLink cuts path behind its first symbolic link, or at its end.
func firstLink(path string) (link, rest string) {
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

// Run looks at the file whenever its directory changes, and now and then
// besides, until ctx ends; the error is that of ctx. One goroutine, this one,
// owns the watcher, the waiting-out of bursts and the polling.
//
// A poll reads the file and compares its bytes: size and time of change may
// stay the same across a change, and the file is small.
func (s *Store) Run(ctx context.Context) error {
	w := s.newWatcher()
	defer w.close()
	poll := time.NewTicker(s.options.Poll)
	defer poll.Stop()
	b := newBurst(s.options.Debounce)
	defer b.timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, ok := <-w.events():
			w.stillOpen(ok)
			b.event(time.Now())
		case err, ok := <-w.errors():
			w.stillOpen(ok)
			w.complain(err)
			b.event(time.Now()) // events may have been lost
		case <-b.timer.C:
			b.over()
			s.lookIfWanted(w)
		case <-poll.C:
			s.lookIfWanted(w)
		}
	}
}

// lookIfWanted follows first: what changes behind a new watch is an event, and
// what changed before it is seen by the look.
func (s *Store) lookIfWanted(w *watcher) {
	if !s.Current().ReloadOnChange() {
		return
	}
	w.follow(s.options.Path)
	s.look()
}

// longestBurst is how many times the debounce a burst may last: a directory in
// which others write all the time must not hold a change up.
const longestBurst = 8

// burst waits out events that come close together: a file is often written in
// several steps.
type burst struct {
	timer *time.Timer
	quiet time.Duration
	began time.Time // zero between bursts
}

// newBurst begins with one, for what changed before the watch began.
func newBurst(quiet time.Duration) *burst {
	return &burst{timer: time.NewTimer(0), quiet: quiet}
}

func (b *burst) event(now time.Time) {
	if b.began.IsZero() {
		b.began = now
	}
	left := b.began.Add(longestBurst * b.quiet).Sub(now)
	if left > 0 { // else the timer is about to fire
		b.timer.Reset(min(b.quiet, left))
	}
}

func (b *burst) over() { b.began = time.Time{} }
