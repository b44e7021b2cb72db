package squnit

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Service is what a unit of any service says about whom it runs as, what it may see and
// write, and what it gives its program.
type Service struct {
	User        string   // "" means root
	Group       string   // "" means the user's own
	Groups      []string // further ones, beside those that the user is in
	Writable    []string // nil means everywhere, as far as the user may
	Arguments   []string // of the last program that it starts
	Hidden      []string // directories that it sees empty, or not at all
	Bound       []string // directories in hidden ones that it sees even so, whoever may enter those above
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
	s.Hidden, s.Bound = hidden(settings)
	if last(settings, "ProtectSystem") != "strict" {
		return s, nil
	}
	s.Writable = []string{}
	for _, name := range paths(settings, "StateDirectory") {
		s.Writable = append(s.Writable, filepath.Join("/var/lib", name))
	}
	s.Writable = append(s.Writable, paths(settings, "ReadWritePaths")...)
	return s, nil
}

// hidden are the directories that a unit does not see, and those in them that it sees.
// With ProtectHome=yes it sees nothing in a home, bound or not.
func hidden(settings []setting) (hidden, bound []string) {
	homes := []string{"/home", "/root", "/run/user"}
	bound = paths(settings, "BindPaths")
	for _, text := range paths(settings, "TemporaryFileSystem") {
		path, _, _ := strings.Cut(text, ":")
		hidden = append(hidden, path)
	}
	switch last(settings, "ProtectHome") {
	case "tmpfs":
		hidden = append(hidden, homes...)
	case "yes", "true", "on", "1":
		hidden = append(hidden, homes...)
		bound = slices.DeleteFunc(bound, func(path string) bool {
			return slices.ContainsFunc(homes, func(home string) bool { return strings.HasPrefix(path+"/", home+"/") })
		})
	}
	return hidden, bound
}

// paths are the words of all settings of a name, without the signs before a path.
func paths(settings []setting, name string) (all []string) {
	for _, one := range settings {
		words, err := splitWords(one.value)
		if one.name != name || err != nil {
			continue // systemd ignores a line that is not closed, too
		}
		for _, word := range words {
			all = append(all, strings.TrimLeft(word, "-+"))
		}
	}
	return all
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
