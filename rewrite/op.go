package rewrite

import (
	"net/http"
	"slices"
)

// Op is an operation of SQ's REST interface, or of the published API. Its text is the
// operation's name in a path.
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

	// The published API, which SQ does not know.
	Read   Op = "read"
	Write  Op = "write"
	List   Op = "list"
	Search Op = "search"
	Health Op = "health"

	Changes Op = "changes" // what was done to phexts
	MCP     Op = "mcp"     // a message of the Model Context Protocol, in the body

	// What a tenant sees of itself, and its own past.
	Usage   Op = "usage"
	History Op = "history"
	Restore Op = "restore"
	Batch   Op = "batch" // reads and writes of one phext, all or none

	Description Op = "openapi.json" // of all operations
)

// traits are the properties of an operation.
type traits struct {
	methods     []string // all that are allowed
	mutates     bool     // it may change the phext
	coordinate  bool     // it addresses one scroll
	bodyMethods []string // those with a body that counts
	as          Op       // what SQ is asked to do, if that is another operation; else ""
	keyed       bool     // it always takes a key
	own         bool     // it is for the tenant itself: not for those who write in its space, or have no key
	later       bool     // it came when there may have been tenants with its name as their id
}

// SQ ignores the body of a GET (recorded in "bodies"), except for query (recorded in
// "query by body, method and route"), and so does sqgate.
var operations = map[Op]traits{
	Select:     {methods: []string{http.MethodGet, http.MethodHead}, coordinate: true},
	Insert:     {methods: []string{http.MethodGet, http.MethodPost}, mutates: true, coordinate: true, bodyMethods: []string{http.MethodPost}},
	Update:     {methods: []string{http.MethodGet, http.MethodPost, http.MethodPut}, mutates: true, coordinate: true, bodyMethods: []string{http.MethodPost, http.MethodPut}},
	Delete:     {methods: []string{http.MethodGet, http.MethodPost, http.MethodDelete}, mutates: true, coordinate: true, bodyMethods: []string{http.MethodPost, http.MethodDelete}},
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

	Read:   {methods: []string{http.MethodGet, http.MethodHead}, coordinate: true, as: Select},
	Write:  {methods: []string{http.MethodPut, http.MethodPost}, mutates: true, coordinate: true, bodyMethods: []string{http.MethodPut, http.MethodPost}, as: Update},
	List:   {methods: []string{http.MethodGet, http.MethodHead}},
	Search: {methods: []string{http.MethodGet, http.MethodHead}},
	Health: {methods: []string{http.MethodGet, http.MethodHead}},

	Changes: {methods: []string{http.MethodGet, http.MethodHead}, keyed: true, later: true}, // they name keys
	MCP:     {methods: []string{http.MethodPost}, bodyMethods: []string{http.MethodPost}, keyed: true, later: true},

	Usage:   {methods: []string{http.MethodGet, http.MethodHead}, keyed: true, own: true, later: true},
	History: {methods: []string{http.MethodGet, http.MethodHead}, keyed: true, own: true, later: true},
	Restore: {methods: []string{http.MethodPost}, mutates: true, bodyMethods: []string{http.MethodPost}, keyed: true, own: true, later: true},
	Batch:   {methods: []string{http.MethodPost}, mutates: true, bodyMethods: []string{http.MethodPost}, later: true},

	Description: {methods: []string{http.MethodGet, http.MethodHead}},
}

// listed are the operations in the order in which an error lists them.
var listed = []Op{Select, Insert, Update, Delete, Toc, Get, Delta, ChecksumOf, Status, Load, JSONExport, Where, Query, Version, Read, Write, List, Search, Health, Changes, Batch, Usage, History, Restore, MCP, Description}

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

// does is the operation that storage is asked for.
func (op Op) does() Op {
	if as := operations[op].as; as != "" {
		return as
	}
	return op
}

func (op Op) allows(method string) bool { return slices.Contains(operations[op].methods, method) }

func (op Op) takesBody(method string) bool {
	return slices.Contains(operations[op].bodyMethods, method)
}
