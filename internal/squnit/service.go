package squnit

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Service is what a unit of any service says about whom it runs as, where it may write,
// and what it gives its program.
type Service struct {
	User        string   // "" means root
	Group       string   // "" means the user's own
	Groups      []string // further ones, beside those that the user is in
	Writable    []string // nil means everywhere, as far as the user may
	Arguments   []string // of the last program that it starts
	Environment map[string]string
}

// ReadService reads a unit file with its drop-ins, those beside it and those in the
// other directories, which come later and so win. The error wraps fs.ErrNotExist if
// there is no such file.
func ReadService(path string, dropInDirs ...string) (s Service, err error) {
	settings, err := readSettings(path, dropInDirs...)
	if err != nil {
		return s, err
	}
	s.User, s.Group = last(settings, "User"), last(settings, "Group")
	for _, one := range settings {
		if one.name == "SupplementaryGroups" {
			s.Groups = append(s.Groups, strings.Fields(one.value)...)
		}
	}
	if s.Environment, err = environment(settings); err != nil {
		return s, err
	}
	if args, err := commandLine(last(settings, "ExecStart"), s.Environment); err != nil {
		return s, fmt.Errorf("in ExecStart=: %w", err)
	} else if len(args) > 0 {
		s.Arguments = args[1:]
	}
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
