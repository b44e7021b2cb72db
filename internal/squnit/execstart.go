// Package squnit reads the systemd unit of a single-tenant SQ: where it keeps
// its data, and which user, port and key it runs with. It understands as much
// of systemd's syntax as such a unit uses. It starts and writes nothing.
package squnit

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Unit is what a unit says about how it runs single-tenant SQ.
type Unit struct {
	File    string
	User    string // "" means root
	Group   string // "" means the user's own
	Program string // of SQ, as the unit names it
	Port    string
	Key     string // "" means that SQ accepts every request
	DataDir string // absolute
}

// byHand is what the operator can do about a unit that cannot be read.
const byHand = "name the directory and the key yourself, --adopt DIR --key K"

var errNoSQ = errors.New("its ExecStart= does not run `sq host PORT`: " + byHand)

// Read reads a unit file, its drop-ins and the environment files that it names.
// Some ExecStart= must run `sq host PORT [--key K] [--data-dir D]`. An error
// wraps fs.ErrNotExist if there is no such file.
func Read(path string) (*Unit, error) {
	settings, err := readSettings(path)
	if err != nil {
		return nil, err
	}
	u, err := fromSettings(settings)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	u.File = path
	return u, nil
}

func fromSettings(settings []setting) (*Unit, error) {
	env, err := environment(settings)
	if err != nil {
		return nil, err
	}
	u := &Unit{User: last(settings, "User"), Group: last(settings, "Group")}
	for _, s := range settings {
		if s.name != "ExecStart" {
			continue
		}
		args, err := commandLine(s.value, env)
		if err != nil {
			return nil, fmt.Errorf("in ExecStart=: %w: "+byHand, err)
		}
		if i := hostArgument(args); i > 0 {
			u.Program = args[i-1]
			return u, u.parseArguments(args[i+1:], last(settings, "WorkingDirectory"))
		}
	}
	return nil, errNoSQ
}

// last is the value of the last assignment to name, which is the one in force.
func last(settings []setting, name string) string {
	value := ""
	for _, s := range settings {
		if s.name == name {
			value = s.value
		}
	}
	return value
}

// hostArgument is the index of the argument `host` that follows a program named
// sq, or 0. The program need not come first: it may be run by env or a shell.
func hostArgument(args []string) int {
	for i := 1; i < len(args); i++ {
		program := filepath.Base(args[i-1])
		if args[i] == "host" && strings.HasPrefix(program, "sq") && program != "sqgate" {
			return i
		}
	}
	return 0
}

// parseArguments reads what follows `sq host`.
func (u *Unit) parseArguments(args []string, workDir string) error {
	if len(args) == 0 || strings.Trim(args[0], "0123456789") != "" {
		return errNoSQ
	}
	u.Port = args[0]
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
			u.Key = value
		} else {
			u.DataDir = value
		}
	}
	return u.resolveDataDir(workDir)
}

// resolveDataDir makes the data directory absolute, as SQ saw it: relative to
// its working directory, which is / unless the unit sets one.
func (u *Unit) resolveDataDir(workDir string) error {
	if filepath.IsAbs(u.DataDir) {
		u.DataDir = filepath.Clean(u.DataDir)
		return nil
	}
	workDir = strings.TrimPrefix(workDir, "-")
	if workDir == "" {
		workDir = "/"
	}
	if !filepath.IsAbs(workDir) { // ~ for instance
		return fmt.Errorf("the directory of WorkingDirectory=%s is not known here: "+byHand, workDir)
	}
	u.DataDir = filepath.Join(workDir, u.DataDir)
	return nil
}

// commandLine is the argument list of an ExecStart=, starting with the program.
func commandLine(value string, env map[string]string) ([]string, error) {
	value, named, expand := cutPrefixes(value)
	words, err := splitWords(value)
	if err != nil {
		return nil, err
	}
	if named && len(words) > 1 { // the second word is the name that the program sees, not an argument
		words = slices.Delete(words, 1, 2)
	}
	var args []string
	for i, w := range words {
		if w, err = unescapePercent(w); err != nil {
			return nil, err
		}
		name, variable := strings.CutPrefix(w, "$")
		switch {
		case !expand || i == 0:
			args = append(args, w)
		case variable && isName(name):
			args = append(args, strings.Fields(env[name])...)
		default:
			args = append(args, expandVariables(w, env))
		}
	}
	return args, nil
}

// cutPrefixes removes the special prefixes of an ExecStart=. With @ (named) the
// second word is the program's own name; with : (not expand) variables are text.
func cutPrefixes(value string) (rest string, named, expand bool) {
	rest = strings.TrimLeft(value, "@-:+!|")
	prefixes := value[:len(value)-len(rest)]
	return strings.TrimSpace(rest), strings.Contains(prefixes, "@"), !strings.Contains(prefixes, ":")
}

// unescapePercent makes %% one percent sign, and refuses specifiers such as %i,
// which only systemd can fill in.
func unescapePercent(text string) (string, error) {
	parts := strings.Split(text, "%%")
	for _, p := range parts {
		if strings.Contains(p, "%") {
			return "", errors.New("%-specifiers are not understood here")
		}
	}
	return strings.Join(parts, "%"), nil
}

// expandVariables fills in ${NAME} and makes $$ one dollar sign. Inside a word,
// systemd leaves $NAME as it is.
func expandVariables(w string, env map[string]string) string {
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
