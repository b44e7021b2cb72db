package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// setting is one NAME=VALUE of a section [Service], in the order of systemd.
type setting struct{ name, value string }

// readUnit reads the section [Service] of a unit and of its drop-ins, those in
// UNIT.d beside it, by name. An empty assignment has emptied the list before it.
func readUnit(path string) ([]setting, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	all := serviceSettings(string(text))
	dropIns, err := filepath.Glob(filepath.Join(path+".d", "*.conf"))
	if err != nil {
		return nil, err
	}
	slices.Sort(dropIns)
	for _, name := range dropIns {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, serviceSettings(string(text))...)
	}
	return afterResets(all), nil
}

// afterResets drops what a later empty assignment of the same name takes back.
func afterResets(all []setting) []setting {
	var kept []setting
	for _, s := range all {
		if s.value == "" {
			kept = slices.DeleteFunc(kept, func(k setting) bool { return k.name == s.name })
			continue
		}
		kept = append(kept, s)
	}
	return kept
}

func serviceSettings(text string) []setting {
	var list []setting
	section := ""
	for _, line := range logicalLines(text) {
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if ok && section == "[Service]" {
			list = append(list, setting{strings.TrimSpace(name), strings.TrimSpace(value)})
		}
	}
	return list
}

// logicalLines joins lines that end in a backslash, and leaves out comments,
// also those between the joined ones, as systemd does.
func logicalLines(text string) []string {
	var lines []string
	open := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") || line == "" && open == "" {
			continue
		}
		if part, more := strings.CutSuffix(line, `\`); more {
			open += part + " "
			continue
		}
		lines = append(lines, open+line)
		open = ""
	}
	if open != "" {
		lines = append(lines, open)
	}
	return lines
}

var errQuotes = errors.New("a quotation mark is not closed")

// splitWords splits as systemd does: spaces, both quotation marks, and
// backslashes that keep the next character.
func splitWords(line string) ([]string, error) {
	var words []string
	var now strings.Builder
	begun, quote := false, rune(0)
	flush := func() {
		if begun {
			words = append(words, now.String())
		}
		now.Reset()
		begun = false
	}
	escaped := false
	for _, r := range line {
		switch {
		case escaped:
			now.WriteString(unescaped(r))
			escaped, begun = false, true
		case r == '\\' && quote != '\'':
			escaped = true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, begun = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			flush()
		default:
			now.WriteRune(r)
			begun = true
		}
	}
	if quote != 0 || escaped {
		return nil, errQuotes
	}
	flush()
	return words, nil
}

func unescaped(r rune) string {
	switch r {
	case 'n':
		return "\n"
	case 't':
		return "\t"
	case 's':
		return " "
	}
	return string(r)
}
