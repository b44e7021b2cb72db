package quota

import "github.com/fsnotify/fsnotify"

// dirWatcher watches the data directories that exist.
type dirWatcher struct {
	*fsnotify.Watcher
	watched, wanted map[string]bool
}

func (l *Ledger) newDirWatcher() *dirWatcher {
	w := &dirWatcher{watched: map[string]bool{}}
	inner, err := fsnotify.NewWatcher()
	if err != nil {
		l.log.Warn("data directories cannot be watched; they are counted now and then", keyError, err)
		return w
	}
	w.Watcher = inner
	return w
}

func (w *dirWatcher) begin() { w.wanted = map[string]bool{} }

// want watches a directory, and says whether it was not watched before: what
// happened in it until now has to be counted.
func (w *dirWatcher) want(dir string) (fresh bool) {
	w.wanted[dir] = true
	if w.Watcher == nil || w.watched[dir] || w.Add(dir) != nil {
		return false
	}
	w.watched[dir] = true
	return true
}

func (w *dirWatcher) end() {
	for dir := range w.watched {
		if !w.wanted[dir] {
			_ = w.Remove(dir) // it may be gone, and its watch with it
			delete(w.watched, dir)
		}
	}
}

func (w *dirWatcher) events() <-chan fsnotify.Event {
	if w.Watcher == nil {
		return nil
	}
	return w.Events
}

func (w *dirWatcher) errors() <-chan error {
	if w.Watcher == nil {
		return nil
	}
	return w.Errors
}

func (w *dirWatcher) close() {
	if w.Watcher != nil {
		_ = w.Close() // nothing is left to do about it
	}
}
