package rewrite

import (
	"net/http"
	"slices"
)

// Op is an operation of SQ's REST interface. Its text is the operation's name in
// a path.
type Op string

// All operations. Any other name is answered with 404.
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
	Query      Op = "query"
	Version    Op = "version"
)

// traits are the properties of an operation.
type traits struct {
	methods     []string // all that are allowed
	mutates     bool     // it may change the phext
	coordinate  bool     // it addresses one scroll
	bodyMethods []string // those with a body that counts
}

// SQ ignores the body of a GET (recorded in "bodies"), except for query (recorded in
// "query by body, method and route"), and so does sqgate.
var operations = map[Op]traits{
	Select:     {methods: []string{http.MethodGet, http.MethodHead}, coordinate: true},
	Insert:     {methods: []string{http.MethodGet, http.MethodPost}, mutates: true, coordinate: true, bodyMethods: []string{http.MethodPost}},
	Update:     {methods: []string{http.MethodGet, http.MethodPost, http.MethodPut}, mutates: true, coordinate: true, bodyMethods: []string{http.MethodPost, http.MethodPut}},
	Delete:     {methods: []string{http.MethodGet, http.MethodPost, http.MethodDelete}, mutates: true, coordinate: true},
	Toc:        {methods: []string{http.MethodGet, http.MethodHead}},
	Get:        {methods: []string{http.MethodGet, http.MethodHead}},
	Delta:      {methods: []string{http.MethodGet, http.MethodHead, http.MethodPost}, bodyMethods: []string{http.MethodPost}},
	ChecksumOf: {methods: []string{http.MethodGet, http.MethodHead}},
	Status:     {methods: []string{http.MethodGet, http.MethodHead}},
	Load:       {methods: []string{http.MethodGet, http.MethodHead}},
	JSONExport: {methods: []string{http.MethodGet, http.MethodHead}},
	Where:      {methods: []string{http.MethodPost}, bodyMethods: []string{http.MethodPost}},
	Query:      {methods: []string{http.MethodGet, http.MethodHead, http.MethodPost}, bodyMethods: []string{http.MethodGet, http.MethodPost}},
	Version:    {methods: []string{http.MethodGet, http.MethodHead}},
}

// listed are the operations in the order in which an error lists them.
var listed = []Op{Select, Insert, Update, Delete, Toc, Get, Delta, ChecksumOf, Status, Load, JSONExport, Where, Query, Version}

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

// Methods are the HTTP methods that op allows. Only reads allow HEAD, because a
// HEAD must change nothing.
func (op Op) Methods() []string { return operations[op].methods }

// Mutates says whether op may change a phext.
func (op Op) Mutates() bool { return operations[op].mutates }

func (op Op) allows(method string) bool { return slices.Contains(operations[op].methods, method) }

func (op Op) takesBody(method string) bool {
	return slices.Contains(operations[op].bodyMethods, method)
}
