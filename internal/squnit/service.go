package squnit

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Service is what a unit of any service says about whom it runs as, and where it may
// write.
type Service struct {
	User     string   // "" means root
	Writable []string // nil means everywhere, as far as the user may
}

// ReadService reads a unit file with its drop-ins, those beside it and those in the
// other directories, which come later and so win. The error wraps fs.ErrNotExist if
// there is no such file.
func ReadService(path string, dropInDirs ...string) (s Service, err error) {
	settings, err := readSettings(path, dropInDirs...)
	if err != nil {
		return s, err
	}
	s.User = last(settings, "User")
	if last(settings, "ProtectSystem") != "strict" {
		return s, nil
	}
	s.Writable = []string{}
	for _, one := range settings {
		words, err := splitWords(one.value)
		if err != nil {
			continue // systemd ignores such a line too
		}
		for _, word := range words {
			switch one.name {
			case "ReadWritePaths":
				s.Writable = append(s.Writable, strings.TrimLeft(word, "-+"))
			case "StateDirectory":
				s.Writable = append(s.Writable, filepath.Join("/var/lib", word))
			}
		}
	}
	return s, nil
}

// readDropIns reads the drop-ins in some directories in the order of their names. Of
// several with one name, that in the last directory counts.
func readDropIns(dirs []string) (all []setting, err error) {
	byName := map[string]string{}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.conf"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			byName[filepath.Base(file)] = file
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		text, err := os.ReadFile(byName[name])
		if err != nil {
			return nil, err
		}
		all = append(all, serviceSettings(string(text))...)
	}
	return all, nil
}
