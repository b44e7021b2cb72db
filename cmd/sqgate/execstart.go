package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// legacyUnit is what a unit says about how it runs single-tenant SQ.
type legacyUnit struct {
	file    string
	user    string // "" = root
	group   string
	port    string
	key     string // "" = SQ asks for none
	dataDir string
}

var errNoSQ = errors.New("its ExecStart= does not run `sq host PORT`: name the directory and the key yourself, --adopt DIR --key K")

// readLegacyUnit reads a unit that runs `sq host PORT --key K --data-dir D`.
func readLegacyUnit(path string) (*legacyUnit, error) {
	settings, err := readUnit(path)
	if err != nil {
		return nil, err
	}
	u, err := legacyFrom(settings)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	u.file = path
	return u, nil
}

func legacyFrom(settings []setting) (*legacyUnit, error) {
	env, err := environmentOf(settings)
	if err != nil {
		return nil, err
	}
	u := &legacyUnit{user: last(settings, "User"), group: last(settings, "Group")}
	for _, s := range settings {
		if s.name != "ExecStart" {
			continue
		}
		args, err := commandLine(s.value, env)
		if err != nil {
			return nil, fmt.Errorf("in ExecStart=: %w", err)
		}
		if at := hostsAt(args); at > 0 {
			return u, u.take(args[at+1:], last(settings, "WorkingDirectory"))
		}
	}
	return nil, errNoSQ
}

func last(settings []setting, name string) string {
	value := ""
	for _, s := range settings {
		if s.name == name {
			value = s.value
		}
	}
	return value
}

// hostsAt is where `host` stands after a program named sq, or 0.
func hostsAt(args []string) int {
	for i := 1; i < len(args); i++ {
		if args[i] == "host" && strings.HasPrefix(filepath.Base(args[i-1]), "sq") && filepath.Base(args[i-1]) != "sqgate" {
			return i
		}
	}
	return 0
}

// take reads what follows `sq host`.
func (u *legacyUnit) take(args []string, workDir string) error {
	if len(args) == 0 || strings.Trim(args[0], "0123456789") != "" {
		return errNoSQ
	}
	u.port = args[0]
	for i := 1; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		if name != "--key" && name != "--data-dir" {
			continue
		}
		if !joined {
			if i++; i == len(args) {
				return fmt.Errorf("in ExecStart=: nothing follows %s", name)
			}
			value = args[i]
		}
		if name == "--key" {
			u.key = value
		} else {
			u.dataDir = value
		}
	}
	return u.place(workDir)
}

// place makes the data directory absolute, as SQ saw it.
func (u *legacyUnit) place(workDir string) error {
	if filepath.IsAbs(u.dataDir) {
		u.dataDir = filepath.Clean(u.dataDir)
		return nil
	}
	workDir = strings.TrimPrefix(workDir, "-")
	if workDir == "" {
		workDir = "/"
	}
	if !filepath.IsAbs(workDir) {
		return fmt.Errorf("the directory of WorkingDirectory=%s is not known here: name the directory and the key yourself, --adopt DIR --key K", workDir)
	}
	u.dataDir = filepath.Join(workDir, u.dataDir)
	return nil
}

// commandLine is the argument list of an ExecStart=, program first.
func commandLine(value string, env map[string]string) ([]string, error) {
	value, named, expand := withoutPrefixes(value)
	words, err := splitWords(value)
	if err != nil {
		return nil, err
	}
	if named && len(words) > 1 { // @: the second word is what the program sees as its name
		words = slices.Delete(words, 1, 2)
	}
	var args []string
	for i, w := range words {
		if w, err = withoutSpecifiers(w); err != nil {
			return nil, err
		}
		name, variable := strings.CutPrefix(w, "$")
		switch {
		case !expand || i == 0:
			args = append(args, w)
		case variable && isName(name):
			args = append(args, strings.Fields(env[name])...)
		default:
			args = append(args, expanded(w, env))
		}
	}
	return args, nil
}

// withoutPrefixes takes the special characters off an ExecStart=.
func withoutPrefixes(value string) (rest string, named, expand bool) {
	rest = strings.TrimLeft(value, "@-:+!|")
	prefixes := value[:len(value)-len(rest)]
	return strings.TrimSpace(rest), strings.Contains(prefixes, "@"), !strings.Contains(prefixes, ":")
}

// withoutSpecifiers refuses what only systemd can fill in.
func withoutSpecifiers(text string) (string, error) {
	parts := strings.Split(text, "%%")
	for _, p := range parts {
		if strings.Contains(p, "%") {
			return "", fmt.Errorf("%%-specifiers are not understood here: name the directory and the key yourself, --adopt DIR --key K")
		}
	}
	return strings.Join(parts, "%"), nil
}

// expanded fills in ${NAME} and makes $$ one dollar; inside a word, $NAME is
// only text to systemd.
func expanded(w string, env map[string]string) string {
	var out strings.Builder
	for w != "" {
		name, rest, closed := strings.Cut(strings.TrimPrefix(w, "${"), "}")
		switch {
		case strings.HasPrefix(w, "$$"):
			out.WriteByte('$')
			w = w[2:]
		case strings.HasPrefix(w, "${") && closed:
			out.WriteString(env[name])
			w = rest
		default:
			out.WriteByte(w[0])
			w = w[1:]
		}
	}
	return out.String()
}

func isName(s string) bool {
	return s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}
