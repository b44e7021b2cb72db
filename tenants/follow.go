package tenants

import (
	"log/slog"
	"os"
	"path/filepath"

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
