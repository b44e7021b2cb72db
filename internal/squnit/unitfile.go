package squnit

import (
	"errors"
	"os"
	"slices"
	"strings"
)

// setting is one NAME=VALUE of a section [Service].
type setting struct{ name, value string }

// readSettings reads the section [Service] of a unit and then of its drop-ins, which
// lie in UNIT.d beside it and in the other directories. An empty assignment has already
// removed the earlier ones of its name.
func readSettings(path string, dropInDirs ...string) ([]setting, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	more, err := readDropIns(append([]string{path + ".d"}, dropInDirs...))
	if err != nil {
		return nil, err
	}
	return applyResets(append(serviceSettings(string(text)), more...)), nil
}

// applyResets removes the settings that a later empty assignment of the same name
// takes back.
func applyResets(all []setting) []setting {
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

// logicalLines joins lines that end in a backslash, and leaves out comments. As
// in systemd, a comment between two joined lines is left out too.
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

// splitWords splits as systemd does: at spaces outside quotation marks of either
// kind. A backslash escapes the next character, except between single quotes.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quote := false, rune(0)
	flush := func() {
		if inWord {
			words = append(words, word.String())
		}
		word.Reset()
		inWord = false
	}
	escaped := false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteString(unescape(r))
			escaped, inWord = false, true
		case r == '\\' && quote != '\'':
			escaped = true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, inWord = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			flush()
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 || escaped {
		return nil, errQuotes
	}
	flush()
	return words, nil
}

func unescape(r rune) string {
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
