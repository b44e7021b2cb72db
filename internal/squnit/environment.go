package squnit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// environment is the variables of Environment= and of the files of
// EnvironmentFile=. As in systemd, the files win.
func environment(settings []setting) (map[string]string, error) {
	env := map[string]string{}
	for _, s := range settings {
		if s.name != "Environment" {
			continue
		}
		words, err := splitWords(s.value)
		if err != nil {
			return nil, fmt.Errorf("in Environment=: %w", err)
		}
		assign(env, words)
	}
	for _, s := range settings {
		if s.name != "EnvironmentFile" {
			continue
		}
		path, optional := strings.CutPrefix(s.value, "-")
		text, err := os.ReadFile(path)
		if optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("in EnvironmentFile=: %w", err)
		}
		if err := assignFile(env, string(text)); err != nil {
			return nil, fmt.Errorf("in EnvironmentFile=%s: %w", path, err)
		}
	}
	return env, nil
}

func assign(env map[string]string, words []string) {
	for _, w := range words {
		if name, value, ok := strings.Cut(w, "="); ok {
			env[name] = value
		}
	}
}

// assignFile reads one assignment from each line. A value that is not quoted
// extends to the end of its line.
func assignFile(env map[string]string, text string) error {
	for _, line := range logicalLines(text) {
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		if strings.HasPrefix(value, `"`) || strings.HasPrefix(value, `'`) {
			words, err := splitWords(value)
			if err != nil {
				return err
			}
			value = words[0]
		}
		env[strings.TrimSpace(name)] = value
	}
	return nil
}
