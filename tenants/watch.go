package tenants

import (
	"context"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Run watches the file until ctx ends. One goroutine, this one, owns the
// watcher, the waiting-out of bursts and the polling.
//
// What is watched is the directory: editors rename a new file into place, and
// a watch on the file would go with the old one. Where the path is a symbolic
// link, the directory it leads to is watched too.
func (s *Store) Run(ctx context.Context) error {
	w := s.newWatcher()
	defer w.close()
	poll := time.NewTicker(s.options.Poll)
	defer poll.Stop()
	settled := time.NewTimer(0)
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.events():
			settled.Reset(s.options.Debounce)
		case err := <-w.errors():
			s.options.Logger.Warn("watching the tenants file's directory failed; it is still looked at now and then", keyFile, s.options.Path, keyError, err)
		case <-settled.C:
			s.lookIfWanted(w)
		case <-poll.C:
			s.lookIfWanted(w)
		}
	}
}

func (s *Store) lookIfWanted(w *watcher) {
	if !s.Current().ReloadOnChange() {
		return
	}
	w.follow(s.options.Path)
	s.look()
}

// watcher is an fsnotify.Watcher, or nothing where there is none to be had.
type watcher struct {
	*fsnotify.Watcher
	watched map[string]bool
}

func (s *Store) newWatcher() *watcher {
	w := &watcher{watched: map[string]bool{}}
	if s.options.blind {
		return w
	}
	inner, err := fsnotify.NewWatcher()
	if err != nil {
		s.options.Logger.Warn("the tenants file cannot be watched; it is looked at now and then", keyFile, s.options.Path, keyError, err)
		return w
	}
	w.Watcher = inner
	w.follow(s.options.Path)
	return w
}

// follow watches the directories of path and of what it leads to, if they are not watched yet.
func (w *watcher) follow(path string) {
	if w.Watcher == nil {
		return
	}
	want := map[string]bool{filepath.Dir(path): true}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		want[filepath.Dir(target)] = true
	}
	for dir := range want {
		if !w.watched[dir] && w.Add(dir) == nil {
			w.watched[dir] = true
		}
	}
	for dir := range w.watched {
		if !want[dir] {
			_ = w.Remove(dir) // it may be gone, and its watch with it
			delete(w.watched, dir)
		}
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
