package rewrite

import "net/http"

// Op is one operation of SQ's REST interface, by the name it has in a path.
type Op string

// The operations that exist; every other name is 404.
const (
	Select     Op = "select"
	Insert     Op = "insert"
	Update     Op = "update"
	Delete     Op = "delete"
	Toc        Op = "toc"
	Get        Op = "get"
	Delta      Op = "delta"
	ChecksumOf Op = "checksum"
	Status     Op = "status"
	Load       Op = "load"
	JSONExport Op = "json-export"
	Where      Op = "where"
	Version    Op = "version"
)

// traits is what the contract says of an operation.
type traits struct {
	methods    []string // what legacy takes, and what the contract adds
	mutates    bool     // it may change the phext
	coordinate bool     // it addresses one scroll
	bodyOf     []string // methods whose body means something
}

// get and its neighbours never take a body: legacy ignores one on GET
// (recorded in "bodies"), and so does sqgate.
var operations = map[Op]traits{
	Select:     {methods: []string{http.MethodGet, http.MethodHead}, coordinate: true},
	Insert:     {methods: []string{http.MethodGet, http.MethodPost}, mutates: true, coordinate: true, bodyOf: []string{http.MethodPost}},
	Update:     {methods: []string{http.MethodGet, http.MethodPost, http.MethodPut}, mutates: true, coordinate: true, bodyOf: []string{http.MethodPost, http.MethodPut}},
	Delete:     {methods: []string{http.MethodGet, http.MethodPost, http.MethodDelete}, mutates: true, coordinate: true},
	Toc:        {methods: []string{http.MethodGet, http.MethodHead}},
	Get:        {methods: []string{http.MethodGet, http.MethodHead}},
	Delta:      {methods: []string{http.MethodGet, http.MethodHead, http.MethodPost}, bodyOf: []string{http.MethodPost}},
	ChecksumOf: {methods: []string{http.MethodGet, http.MethodHead}},
	Status:     {methods: []string{http.MethodGet, http.MethodHead}},
	Load:       {methods: []string{http.MethodGet, http.MethodHead}},
	JSONExport: {methods: []string{http.MethodGet, http.MethodHead}},
	Where:      {methods: []string{http.MethodPost}, bodyOf: []string{http.MethodPost}},
	Version:    {methods: []string{http.MethodGet, http.MethodHead}},
}

// listed is the order in which operations are named to people.
var listed = []Op{Select, Insert, Update, Delete, Toc, Get, Delta, ChecksumOf, Status, Load, JSONExport, Where, Version}

// operationNamed finds an operation. What it returns is a constant and no part of
// the request: a metric keeps it as a label, and would keep the request with it.
func operationNamed(name string) (Op, bool) {
	for _, op := range listed {
		if string(op) == name {
			return op, true
		}
	}
	return "", false
}

func opNames() []string {
	names := make([]string, len(listed))
	for i, op := range listed {
		names[i] = string(op)
	}
	return names
}

// Methods are the HTTP methods that op takes. HEAD is there for reads alone: a
// HEAD must change nothing, so it is refused on operations that do.
func (op Op) Methods() []string { return operations[op].methods }

// Mutates says whether op may change a phext.
func (op Op) Mutates() bool { return operations[op].mutates }

func (op Op) allows(method string) bool { return contains(operations[op].methods, method) }

func (op Op) takesBody(method string) bool { return contains(operations[op].bodyOf, method) }

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}
