// Package docs_test holds the pages to the code: a name that stands in
// architecture.md exists, and clients.md has every header.
package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = ".."
	page   = "architecture.md"
	module = "mirrorborn.us/sqgate/"
)

// sources is what there is to name, in all Go files but tests.
type sources struct {
	names    map[string]bool            // identifiers that are declared, and names of packages
	members  map[string]map[string]bool // of a package or a type: what is declared in it
	used     map[string]bool            // selectors as they are written, such as http.RoundTripper
	literals map[string]bool            // strings, and names in struct tags
	imports  map[string]map[string]bool // what the packages import, by directory
	packages map[string]bool            // what is imported anywhere, in tests too
	paths    map[string]bool            // files and directories
}

func readSources(t *testing.T) *sources {
	t.Helper()
	s := &sources{
		names: map[string]bool{}, members: map[string]map[string]bool{}, used: map[string]bool{}, literals: map[string]bool{},
		imports: map[string]map[string]bool{}, packages: map[string]bool{}, paths: map[string]bool{},
	}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if entry.IsDir() && rel != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
			return fs.SkipDir
		}
		s.paths[rel] = true
		if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil && rel != "." {
			return fs.SkipDir // another module
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		s.addImports(path.Dir(rel), file, strings.HasSuffix(rel, "_test.go"))
		if !strings.HasSuffix(rel, "_test.go") {
			s.add(file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sources) addImports(dir string, file *ast.File, test bool) {
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser refuses such a file
		}
		s.packages[imported] = true
		if test {
			continue
		}
		if s.imports[dir] == nil {
			s.imports[dir] = map[string]bool{}
		}
		s.imports[dir][imported] = true
	}
}

func (s *sources) add(file *ast.File) {
	pkg := file.Name.Name
	s.names[pkg] = true
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			s.declare(pkg, decl.Name.Name)
			if decl.Recv != nil {
				s.declare(receiver(decl.Recv.List[0].Type), decl.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				s.addSpec(pkg, spec)
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); err == nil {
				s.literals[text] = true
				s.addTag(text)
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok {
				s.used[x.Name+"."+n.Sel.Name] = true
			}
		}
		return true
	})
}

// addSpec takes in a constant, a variable or a type with its fields and methods.
func (s *sources) addSpec(pkg string, spec ast.Spec) {
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			s.declare(pkg, name.Name)
		}
	case *ast.TypeSpec:
		s.declare(pkg, spec.Name.Name)
		var fields *ast.FieldList
		switch t := spec.Type.(type) {
		case *ast.StructType:
			fields = t.Fields
		case *ast.InterfaceType:
			fields = t.Methods
		default:
			return
		}
		for _, field := range fields.List {
			for _, name := range field.Names {
				s.declare(spec.Name.Name, name.Name)
			}
		}
	}
}

func (s *sources) declare(in, name string) {
	s.names[name] = true
	if s.members[in] == nil {
		s.members[in] = map[string]bool{}
	}
	s.members[in][name] = true
}

var tagName = regexp.MustCompile(`^json:"([a-z0-9_]+)`)

func (s *sources) addTag(text string) {
	if m := tagName.FindStringSubmatch(text); m != nil {
		s.literals[m[1]] = true
	}
}

func receiver(expr ast.Expr) string {
	switch expr := expr.(type) {
	case *ast.StarExpr:
		return receiver(expr.X)
	case *ast.IndexExpr:
		return receiver(expr.X)
	case *ast.IndexListExpr:
		return receiver(expr.X)
	case *ast.Ident:
		return expr.Name
	}
	return ""
}

// imported says whether a package is imported anywhere, by its path, by its
// module's path or by the end of either.
func (s *sources) imported(name string) bool {
	for one := range s.packages {
		if strings.Contains("/"+one+"/", "/"+name+"/") {
			return true
		}
	}
	return false
}

var (
	word     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
	selector = regexp.MustCompile(`^[A-Za-z_]\w*\.[A-Za-z_]\w*$`)
	shout    = regexp.MustCompile(`^[A-Z]+$`)
)

// known says whether what stands in backticks exists. checked is false for what
// names nothing of the code: commands, flags, paths of a host, example files.
func (s *sources) known(span string) (exists, checked bool) {
	span = strings.TrimSuffix(span, "()")
	switch {
	case strings.ContainsAny(span, " <>{}:=") || strings.HasPrefix(span, "-") || strings.HasPrefix(span, "/") || strings.HasPrefix(span, "."), shout.MatchString(span):
		return false, false
	case strings.HasSuffix(span, ".go") || strings.HasSuffix(span, ".md"):
		return s.paths[span], true
	case strings.Contains(span, "/"):
		return s.paths[span] || s.imported(span), true
	case selector.MatchString(span):
		in, name, _ := strings.Cut(span, ".")
		return s.members[in][name] || s.used[span], true
	case word.MatchString(span):
		return s.names[span] || s.paths[span] || s.literals[span], true
	}
	return false, false
}

var (
	fence       = regexp.MustCompile("(?ms)^```.*?^```")
	inBackticks = regexp.MustCompile("`([^`\n]+)`")
	packageName = regexp.MustCompile(`\b(?:storage|tenants|supervisor|internal)/[a-z0-9]+`)
)

func readPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEveryNameExists(t *testing.T) {
	s, text := readSources(t), readPage(t)
	seen := map[string]bool{}
	for _, m := range inBackticks.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		exists, checked := s.known(m[1])
		if checked && !exists && !seen[m[1]] {
			t.Errorf("`%s` stands in %s and nowhere in the code", m[1], page)
		}
		seen[m[1]] = checked
	}
	for _, drawing := range fence.FindAllString(text, -1) {
		for _, name := range packageName.FindAllString(drawing, -1) {
			if !s.paths[name] && !seen[name] {
				t.Errorf("%s is drawn in %s and does not exist", name, page)
			}
			seen[name] = true
		}
	}
	if len(seen) < 50 {
		t.Errorf("only %d names were found: has the page changed its form?", len(seen))
	}
}

// TestKnownNames sees that a name which does not exist is noticed.
func TestKnownNames(t *testing.T) {
	s := readSources(t)
	for span, want := range map[string][2]bool{
		"phext.Parse": {true, true}, "phext.Pasre": {false, true}, "Journal.Recover": {true, true}, "Journal.Recovered": {false, true},
		"storage/journal": {true, true}, "storage/jornal": {false, true}, "Call": {true, true}, "Cull": {false, true},
		"http.Handler": {true, true}, "http.Handlebar": {false, true}, "bad_request": {true, true}, "bad_rekwest": {false, true},
		"golang.org/x/sys": {true, true}, "golang.org/x/sis": {false, true}, "tenants/tenant.go": {true, true}, "tenants/tennant.go": {false, true},
		"--fsync": {false, false}, "go run ./cmd/sqgate": {false, false}, "/proc": {false, false}, ".NAME.phext.before": {false, false},
	} {
		if exists, checked := s.known(span); exists != want[0] || checked != want[1] {
			t.Errorf("%s: exists %v, checked %v, want %v", span, exists, checked, want)
		}
	}
}

// rows are the cells of the table whose head begins with the given cell.
func rows(text, head string) (all [][]string) {
	_, text, _ = strings.Cut(text, "\n| "+head+" |")
	for line := range strings.Lines(text) {
		if line == "\n" {
			return all
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if name := inBackticks.FindStringSubmatch(cells[0]); name != nil {
			all = append(all, append([]string{name[1]}, cells[1:]...))
		}
	}
	return all
}

// TestArrows compares the table of packages with what they import.
func TestArrows(t *testing.T) {
	s, text := readSources(t), readPage(t)
	table := rows(text, "package")
	if len(table) < 10 {
		t.Fatalf("%d packages were found in the table", len(table))
	}
	for _, row := range table {
		var want, got []string
		for _, m := range inBackticks.FindAllStringSubmatch(row[2], -1) {
			want = append(want, m[1])
		}
		for imported := range s.imports[row[0]] {
			if name, ours := strings.CutPrefix(imported, module); ours && !strings.HasPrefix(name, "internal/") {
				got = append(got, name)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s imports %q, and %s says %q", row[0], got, page, want)
		}
	}
}

// TestEveryLibraryHasItsReason compares the table of libraries with go.mod.
func TestEveryLibraryHasItsReason(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for line := range strings.Lines(string(mod)) {
		fields := strings.Fields(line)
		if strings.HasPrefix(line, "\t") && len(fields) == 2 {
			want = append(want, fields[0])
		}
	}
	for _, row := range rows(readPage(t), "module") {
		got = append(got, row[0])
	}
	slices.Sort(want)
	slices.Sort(got)
	if len(want) == 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("%s has the libraries %q, and go.mod %q", page, got, want)
	}
}

var kindUsed = regexp.MustCompile(`apierror\.([A-Z]\w*)`)

// TestWhoReturnsWhichError compares the table of kinds with the packages whose code
// names each kind.
func TestWhoReturnsWhichError(t *testing.T) {
	users := map[string]map[string]bool{}
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(strings.TrimPrefix(path, "../")))
		text, err := os.ReadFile(path)
		if dir == "internal/apierror" || err != nil {
			return err
		}
		for _, m := range kindUsed.FindAllStringSubmatch(string(text), -1) {
			if users[m[1]] == nil {
				users[m[1]] = map[string]bool{}
			}
			users[m[1]][dir] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	table := rows(readPage(t), "kind")
	if len(table) < 20 {
		t.Fatalf("%d kinds were found in the table", len(table))
	}
	for _, row := range table {
		kind := strings.TrimPrefix(row[0], "apierror.")
		var want, got []string
		for _, m := range inBackticks.FindAllStringSubmatch(row[2], -1) {
			if m[1] != "internal/apierror" { // makes it of any deadline
				want = append(want, m[1])
			}
		}
		for dir := range users[kind] {
			got = append(got, dir)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s is returned by %q, and %s says %q", kind, got, page, want)
		}
	}
}

var (
	headerName = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*(-[A-Z][A-Za-z0-9]*)+$`)
	// oneWord are the headers whose names have no hyphen.
	oneWord = map[string]bool{"Accept": true, "Allow": true, "Authorization": true, "Connection": true, "Etag": true, "ETag": true, "Expect": true, "Vary": true, "Origin": true, "Location": true, "Warning": true}
)

// TestHeaders compares the tables of headers with the names of headers in the code of
// the packages that read requests and answer them. internal/http1 is left out: it
// reads what HTTP itself says of connections and bodies.
func TestHeaders(t *testing.T) {
	used := map[string]bool{}
	for _, dir := range []string{"proxy", "admin", "internal/apierror", "internal/keylimit", "internal/pace", "cmd/sqgate"} {
		files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", dir, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if text, err := strconv.Unquote(lit.Value); err == nil && (headerName.MatchString(text) || oneWord[text]) {
						used[http.CanonicalHeaderKey(text)] = true
					}
				}
				return true
			})
		}
	}
	clients, err := os.ReadFile("clients.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(clients), "\n## Headers\n")
	text, _, _ = strings.Cut(text, "\n## ")
	described := map[string]bool{}
	for line := range strings.Lines(text) {
		if cells := strings.Split(line, "|"); len(cells) == 5 {
			for _, m := range inBackticks.FindAllStringSubmatch(cells[1], -1) {
				described[http.CanonicalHeaderKey(m[1])] = true
			}
		}
	}
	for name := range used {
		if !described[name] {
			t.Errorf("clients.md does not describe the header %s", name)
		}
	}
	for name := range described {
		if !used[name] {
			t.Errorf("clients.md describes the header %s, which no code names", name)
		}
	}
}
