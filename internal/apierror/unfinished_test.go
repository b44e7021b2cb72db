package apierror

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	claimed = regexp.MustCompile(`nothing (else )?was`)
	broken  = regexp.MustCompile(`^[ :;,]+.|[ :;,][:;,]`)
)

// TestEveryClaimCanBeLeftOut looks at all messages of the program that say that nothing was
// changed.
func TestEveryClaimCanBeLeftOut(t *testing.T) {
	found := 0
	err := filepath.WalkDir("../..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING || filepath.Base(path) == "unfinished.go" {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil || !claimed.MatchString(text) {
				return true
			}
			found++
			for _, whole := range []string{text, "restoring: " + text} {
				rest := withoutClaim(whole)
				if claimed.MatchString(rest) || broken.MatchString(rest) {
					t.Errorf("%s: %q becomes %q", path, whole, rest)
				}
			}
			return true
		})
		return nil
	})
	if err != nil || found < 30 {
		t.Errorf("%d messages, %v", found, err)
	}
}

func TestWithoutClaim(t *testing.T) {
	for text, want := range map[string]string{
		"it is gone: nothing was changed; the log says more":        "it is gone; the log says more",
		"tenant x: nothing was changed, because it is gone":         "tenant x: it is gone",
		"nothing was changed: it is gone":                           "it is gone",
		"nothing was done":                                          "",
		"none is there, so nothing was changed: say where it is":    "none is there: say where it is",
		"all is well, and nothing was changed: repeat it":           "all is well: repeat it",
		"it is bad, so it was not given to SQ and nothing was done": "it is bad, so it was not given to SQ",
		"it cannot do this, and nothing was written: EOF":           "it cannot do this: EOF",
		"nothing was sent on it":                                    "nothing was sent on it",
	} {
		if got := withoutClaim(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// TestPartly hides what the step that failed says of itself alone.
func TestPartly(t *testing.T) {
	moved := RetryIn(1, Unavailable, "it is moving: nothing was changed; try again")
	err := Partly(fmt.Errorf("step 2: %w", moved), "%d of %d are done", 1, 3)
	if got := err.Error(); got != "1 of 3 are done: step 2: it is moving; try again" {
		t.Errorf("%q", got)
	}
	if e := From(fmt.Errorf("restoring: %w", err)); e == nil || e.Kind != NotKnown || e.Message != "1 of 3 are done" || e.RetryAfter != 0 {
		t.Errorf("a caller is told %+v", e)
	}
	if errors.Is(err, moved) {
		t.Error("whoever repeats the step elsewhere would repeat the rest")
	}
	if again := Partly(err, "a part is done"); again != err {
		t.Errorf("it says twice that a part is done: %v", again)
	}
	if Partly(nil, "a part is done") != nil {
		t.Error("no error is one")
	}
}
